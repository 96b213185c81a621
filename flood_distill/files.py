"""Whole files only: what is written goes under a temporary name and gets its own name when it is complete."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from flood_distill.errors import UserError


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path`, with the same suffix, and renames it at the end.

    After an error nothing is left behind and a file that was there before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | epath.Path, text: str) -> None:
    """Writes a text file whole or not at all, on a local disk or wherever epath writes."""
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.partial"
    temporary.write_text(text)
    temporary.replace(path)


@contextlib.contextmanager
def only_one(folder: Path, message: str) -> Iterator[None]:
    """Holds a lock on a folder; the system releases it when the process ends, however it ends.

    Raises:
        UserError: with the message, if another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(message) from None
        except OSError:
            pass  # network file systems may have no locks
        yield
    finally:
        os.close(descriptor)
