"""What a process says when it ends; `flood_distill.supervise` and docs/training.md tell what to do on each."""

DONE = 0
USER_ERROR = 1  # one line has named what to mend; starting again changes nothing
CRASH = 70  # sysexits.h, EX_SOFTWARE: an error that nobody foresaw, with its traceback
WORKER_LOST = 75  # sysexits.h, EX_TEMPFAIL: another worker died; start all of them again
STOPPED = 85  # errno.h, ERESTART: asked to stop by a signal, everything is saved; the same command goes on


def of_process(returncode: int) -> int:
    """Returns the exit code of a child as a shell shows it: 128 and the signal's number after a signal.

    Args:
        returncode: as `subprocess` gives it, negative after a signal.
    """
    return returncode if returncode >= 0 else 128 - returncode
