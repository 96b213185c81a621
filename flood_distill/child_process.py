"""Commands of this package in processes of their own, which do not outlive the one that started them."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def start(arguments: Sequence[str], log: IO[bytes], keep_open: Sequence[int] = ()) -> subprocess.Popen:
    """Starts ``python -m``; it dies with us, and where it cannot (not Linux) the locks that it inherits show it.

    Args:
        arguments: the module and its arguments; written to the log as a person types them.
        log: takes what the command prints; the child holds its lock too.
        keep_open: more file descriptors that the child inherits.
    """
    log.write(f"$ python -m {shlex.join(arguments)}\n".encode())
    log.flush()
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        pass_fds=tuple(keep_open),
        preexec_fn=DIES_WITH_PARENT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")},
    )


def tail(log: Path, num_lines: int) -> str:
    """Returns the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-num_lines:])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


# For `subprocess.Popen(preexec_fn=...)`; Linux only.
DIES_WITH_PARENT = _die_with_parent if sys.platform == "linux" else None
