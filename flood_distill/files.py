"""Whole files only: what is written gets its name when it is complete, on a local disk and in an object store alike."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from flood_distill import object_store
from flood_distill.errors import UserError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary local path with the same suffix; what is there at the end gets the name `path`.

    After an error nothing is left behind and a file that was there before is untouched.
    """
    with partial(path) as temporary:
        yield temporary
        publish(temporary, path)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file whole or not at all."""
    with object_store.whole(epath.Path(path)) as new:
        new.write_text(text)


def make_folder(path: str | os.PathLike) -> None:
    """Makes a folder with those above it, if it is not there; object stores have none to make."""
    if not object_store.writes_whole(path):
        epath.Path(path).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def partial(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a local name, not yet there, to make the file or folder under that `publish` will name `path`.

    It is beside `path` if that is local. Removes what lies there at the end.
    """
    if object_store.is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / epath.Path(path).name
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    _remove(temporary)
    try:
        yield temporary
    finally:
        _remove(temporary)


def publish(temporary: Path, path: str | os.PathLike, last: str = "") -> None:
    """Gives what is whole its name.

    Args:
        temporary: a local file or folder, from `partial`.
        path: the name. A folder must not be there yet, or lack the file `last`.
        last: the file of a folder without which nobody takes it for whole: in an object store it is written last.

    Raises:
        UserError: if a store did not take a file whole.
    """
    if not object_store.is_remote(path):
        temporary.replace(path)
    elif temporary.is_dir():
        epath.Path(path).rmtree(missing_ok=True)  # of an upload that was killed
        names = sorted(str(file.relative_to(temporary)) for file in temporary.rglob("*") if file.is_file())
        object_store.upload(temporary, path, [*(name for name in names if name != last), last])
    else:
        object_store.put(temporary, path)


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


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
