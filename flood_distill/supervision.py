"""Keeps a training job going: starts its workers, and starts all of them again when one has died.

A worker that is started alone cannot join the others: they have all left the cluster's collective operations by then
or wait in them, so the job is one thing that lives or ends.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flood_distill import child_process, exit_codes
from flood_distill.errors import UserError

STARTED_FILE = "FLOOD_DISTILL_STARTED_FILE"  # environment variable: the file that a worker makes before its first step
_POLL_S = 0.1
_LOG_TAIL_LINES = 15
_FINAL = (exit_codes.DONE, exit_codes.USER_ERROR, exit_codes.STOPPED)  # starting again changes nothing


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to give up.

    Attributes:
        max_restarts: how often the job is started again.
        startup_deadline_s: a start that has not reached its first step by then is given up and counts as a death.
        grace_s: time that workers get to save when they are asked to stop.
        restart_delay_s: pause before a new start.
    """

    max_restarts: int
    startup_deadline_s: float
    grace_s: float
    restart_delay_s: float


def report_started() -> None:
    """Tells the supervisor, if there is one, that all workers have met and the first step comes."""
    if path := os.environ.get(STARTED_FILE):
        Path(path).touch()


def supervise(command: Sequence[str], num_workers: int, limits: Limits, log_dir: Path) -> int:
    """Runs a command to its end, as one process or as the workers of one cluster on this machine.

    The output of worker 0 is shown, that of the others is in `log_dir`. SIGTERM and Ctrl-C are passed on; then nothing
    is started again.

    Args:
        command: what to run; each of several workers gets a TF_CONFIG of its own.
        num_workers: 1 leaves TF_CONFIG as it is: a cluster over several machines has one supervisor on each.
        limits: when to give up.
        log_dir: local folder, which is there.

    Returns:
        The exit code of the last start: the job's own, 128 and the signal's number for a worker that was killed.

    Raises:
        UserError: if the command cannot be started.
    """
    with _Signals() as signals:
        for restart in range(limits.max_restarts + 1):
            if restart:
                _say(f"starting all workers again ({restart} of at most {limits.max_restarts} times)")
                time.sleep(limits.restart_delay_s)
            if signals.asked:
                return exit_codes.STOPPED
            job = _Job(command, num_workers, log_dir)
            code = job.run(signals, limits)
            if code in _FINAL or signals.asked:
                return code
    _say(f"given up after {limits.max_restarts} restarts")
    return code


class _Signals:
    """Passes SIGTERM and Ctrl-C on to the workers that run.

    Attributes:
        asked: whether one came.
    """

    def __init__(self):
        self.asked = False
        self.receivers: list[subprocess.Popen] = []
        self._told: set[int] = set()
        self._before = {}

    def __enter__(self) -> "_Signals":
        self._before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _pass_on(self, number: int, _) -> None:
        self.asked = True
        for process in self.receivers:
            self._told.add(process.pid)
            _send(process, number)

    def ask_all(self) -> None:
        """Asks the workers to stop that have not been asked; a second signal could meet one that is leaving."""
        for process in self.receivers:
            if process.pid not in self._told:
                _send(process, signal.SIGTERM)


class _Job:
    """All workers of one start."""

    def __init__(self, command: Sequence[str], num_workers: int, log_dir: Path):
        self._log_dir = log_dir
        self._started = [log_dir / f"worker_{index}.started" for index in range(num_workers)]
        for path in self._started:
            path.unlink(missing_ok=True)
        clusters = _clusters(num_workers) if num_workers > 1 else [{}]
        try:
            self._workers = [self._popen(command, index, cluster) for index, cluster in enumerate(clusters)]
        except OSError as error:
            raise UserError(f"{command[0]}: cannot be started ({error.strerror})") from error

    def run(self, signals: _Signals, limits: Limits) -> int:
        """Waits for the end of all workers, kills the rest when one fails, and returns the job's exit code."""
        signals.receivers = self._workers
        deadline = time.monotonic() + limits.startup_deadline_s
        try:
            while True:
                codes = self._codes()
                if signals.asked:
                    return self._finish(signals, limits.grace_s)
                if failed := [index for index, code in enumerate(codes) if code]:
                    return self._end_after(failed, signals, limits.grace_s)
                if None not in codes:
                    return exit_codes.DONE
                if time.monotonic() > deadline and not all(path.exists() for path in self._started):
                    _say(f"not at the first step after {limits.startup_deadline_s:.0f} s")
                    return exit_codes.WORKER_LOST
                time.sleep(_POLL_S)
        finally:
            self._kill()
            signals.receivers = []

    def _popen(self, command: Sequence[str], index: int, cluster: dict[str, str]) -> subprocess.Popen:
        with contextlib.ExitStack() as stack:
            log = None
            if index:
                log = stack.enter_context(open(self._log(index), "ab"))
                log.write(f"$ {shlex.join(command)}\n".encode())
                log.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log and subprocess.STDOUT,
                env={**os.environ, **cluster, STARTED_FILE: str(self._started[index])},
                start_new_session=True,  # Ctrl-C comes through us alone
                preexec_fn=child_process.DIES_WITH_PARENT,
            )

    def _codes(self) -> list[int | None]:
        return [worker.poll() for worker in self._workers]

    def _finish(self, signals: _Signals, grace_s: float) -> int:
        """Asks all workers to stop, waits, and returns the code that counts."""
        signals.ask_all()
        deadline = time.monotonic() + grace_s
        while None in self._codes() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._kill()
        return self._code()

    def _end_after(self, failed: Sequence[int], signals: _Signals, grace_s: float) -> int:
        """Says who failed and returns the code that counts; after a stop, the others get time to save too."""
        for index in failed:
            code = self._workers[index].returncode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            _say(f"worker {index} {how}")
            if index and code != exit_codes.STOPPED:
                log = self._log(index)
                print(f"{log} ends with:\n{child_process.tail(log, _LOG_TAIL_LINES)}", file=sys.stderr)
        code = self._code()
        return self._finish(signals, grace_s) if code == exit_codes.STOPPED else code

    def _code(self) -> int:
        """The first of: an error of the user, any other failure, a stop, the end."""
        codes = [exit_codes.of_process(code) for code in self._codes() if code is not None]
        ranks = {exit_codes.USER_ERROR: 0, exit_codes.STOPPED: 2, exit_codes.DONE: 3}
        return min(codes, key=lambda code: ranks.get(code, 1))

    def _kill(self) -> None:
        for worker in self._workers:
            _send(worker, signal.SIGKILL)
        for worker in self._workers:
            worker.wait()

    def _log(self, index: int) -> Path:
        return self._log_dir / f"worker_{index}.log"


def _clusters(num_workers: int) -> Iterator[dict[str, str]]:
    """TF_CONFIG of each worker, on ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(num_workers)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes]
    for index in range(num_workers):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        yield {"TF_CONFIG": json.dumps(config)}


def _send(process: subprocess.Popen, number: int) -> None:
    """To the whole group: the command may be a script that has started the worker."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _say(message: str) -> None:
    print(f"supervise: {message}", file=sys.stderr, flush=True)
