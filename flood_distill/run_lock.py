"""One run at a time in a model_dir."""

import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from flood_distill import contract, object_store
from flood_distill.errors import UserError


@contextlib.contextmanager
def only_run(model_dir: str) -> Iterator[None]:
    """Holds the lock of a model_dir, which is there; the system releases it when the process ends, however it ends.

    Object stores have no locks: two runs there are not kept apart. A file system without them says so.

    Raises:
        UserError: if another process holds it; names machine and process.
    """
    if object_store.is_remote(model_dir):
        yield
        return
    with open(Path(model_dir) / contract.LOCK_FILE, "a+") as lock:
        _take(lock, model_dir)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield


def _take(lock, model_dir: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise UserError(
            f"{model_dir}: {lock.read().strip() or 'another run'} trains there; wait for it, stop it, or give another "
            "--model_dir"
        ) from None
    except OSError as error:  # such as a network disk that is mounted without locks
        print(f"warning: {model_dir}: no lock there ({error.strerror}); start no second run in it", file=sys.stderr)
