"""Paths in object stores and on HDFS: which need tensorflow-io, and what has to be known before they are used.

TensorFlow reads and writes ``gs://`` by itself; ``s3://``, ``az://`` and ``hdfs://`` come with tensorflow-io, the extra
``io``, whose last release loads in TensorFlow 2.17 only. Everything goes through ``tf.io.gfile``: no other client, no
other settings. An object appears whole or not at all when it is closed, but nothing can be renamed at once, so what
consists of several files gets the one that makes it visible last.
"""

import contextlib
import functools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from etils import epath
from etils.epath import gpath
from tqdm import tqdm

from flood_distill.errors import UserError

# What to look at first when a store does not answer; docs/object_stores.md says more.
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, S3_ENDPOINT",
    "az": "TF_AZURE_STORAGE_KEY",
    "hdfs": "HADOOP_HDFS_HOME, CLASSPATH, JAVA_HOME",
}
_EXTRA = tuple(_SETTINGS)  # schemes of tensorflow-io
_OUR_PATHS = ("az", "hdfs", "ram")  # schemes that epath lacks, and Azure, whose folders it does not see
# File systems with folders that must be made and a rename; all others write whole objects. ram is for tests.
_RENAMES = ("", "hdfs", "ram")
_BLOCK_BYTES = 1 << 22
_DEFAULT_HOST = "default"  # hdfs:///x is hdfs://default/x: the name node of Hadoop's configuration


def scheme(path: str | os.PathLike) -> str:
    """Returns ``s3`` of ``s3://bucket/x``, and '' of a local path."""
    before, found, _ = os.fspath(path).partition("://")
    return before if found else ""


def is_remote(path: str | os.PathLike) -> bool:
    """Returns whether a path is not on a local disk."""
    return bool(scheme(path))


def writes_whole(path: str | os.PathLike) -> bool:
    """Returns whether a file there appears whole when it is closed, in a folder that nobody has to make."""
    return scheme(path) not in _RENAMES


def local_only(flag: str, path: str | os.PathLike) -> None:
    """Refuses a path in an object store where a command writes to local disks only.

    Raises:
        UserError: naming the flag.
    """
    if is_remote(path):
        raise UserError(f"{flag}={path}: is not a local folder; give one, and copy the result when it is whole")


def connect(*paths: str | os.PathLike) -> None:
    """Makes sure that these paths can be read and written; of local ones there is nothing to do.

    Called by every function that is given a path, before its first use.

    Raises:
        UserError: if a path needs an extra that is not installed, or its store does not answer.
    """
    for path in paths:
        if is_remote(path):
            _register(scheme(path))
            _check(_root(os.fspath(path)))


def upload(folder: Path, target: str | os.PathLike, names: Sequence[str]) -> None:
    """Copies files of a folder into a remote one, in this order, with a progress bar.

    Raises:
        UserError: if the store did not take a file whole.
    """
    sizes = [(folder / name).stat().st_size for name in names]
    with tqdm(total=sum(sizes), desc=f"Copying to {scheme(target)}://", unit="B", unit_scale=True) as bar:
        for name, size in zip(names, sizes, strict=True):
            put(folder / name, epath.Path(target) / name)
            bar.update(size)


def put(source: Path, target: str | os.PathLike) -> None:
    """Copies one local file to a remote name, where it appears whole.

    Raises:
        UserError: if the store did not take it whole.
    """
    target = epath.Path(target)
    # Not tf.io.gfile.copy: to Azure it copies into a folder of that name.
    with whole(target) as new, source.open("rb") as inside, new.open("wb") as outside:
        shutil.copyfileobj(inside, outside, _BLOCK_BYTES)
    if target.stat().length != source.stat().st_size:
        raise UserError(f"{target}: the store did not take it whole; run the same command again")


@contextlib.contextmanager
def whole(path: epath.Path) -> Iterator[epath.Path]:
    """Gives the path to write to so that `path` appears whole, in a folder that is made if there is none.

    Raises:
        UserError: if a store refuses the file, or an extra is needed that is not installed.
    """
    if not is_remote(path):
        with _renamed(path) as new:
            yield new
        return
    import tensorflow as tf

    connect(path)

    try:
        with contextlib.nullcontext(path) if writes_whole(path) else _renamed(path) as new:
            yield new
    except tf.errors.OpError as error:
        raise UserError(f"{path}: cannot be written ({_reason(error)})") from error


@contextlib.contextmanager
def _renamed(path: epath.Path) -> Iterator[epath.Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.partial"
    yield temporary
    temporary.replace(path)


def _reason(error: Exception) -> str:
    """Returns an error of a store as part of a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200].strip(' :.')}"


def children(folder: epath.Path) -> list[epath.Path]:
    """Returns what is in a folder, nothing if it is not there: only listing it tells that in every store."""
    import tensorflow as tf

    try:
        return list(folder.iterdir())
    except (FileNotFoundError, tf.errors.NotFoundError):
        return []


def loaded() -> bool:
    """Returns whether this process has loaded tensorflow-io."""
    return "tensorflow_io" in sys.modules


def leave(code: int) -> NoReturn:
    """Ends the process at once: with tensorflow-io loaded, Python's own way out aborts in its clients' threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@functools.cache
def _register(name: str) -> None:
    import tensorflow as tf  # here: paths are asked about by commands that need no TensorFlow

    if name in _EXTRA and name not in tf.io.gfile.get_registered_schemes():
        try:
            import tensorflow_io  # noqa: F401  (loading it registers its file systems)
        except ImportError as error:
            raise UserError(
                f"{name}:// needs tensorflow-io: pip install 'flood_distill[io]' into an environment of its own, "
                "because it brings TensorFlow 2.17.1"
            ) from error
    known = tf.io.gfile.get_registered_schemes()
    if name in known:
        return
    if name in _EXTRA:
        raise UserError(
            f"{name}:// is not there: this tensorflow-io does not fit TensorFlow {tf.__version__}; "
            "pip install 'flood_distill[io]' into an environment of its own"
        )
    stores = ", ".join(f"{store}://" for store in sorted({"gs", *_EXTRA}))
    raise UserError(f"{name}:// is not among the stores that this TensorFlow knows; use {stores} or a local folder")


def _root(path: str) -> str:
    """Returns the bucket, the container or the name node of a path."""
    parts = path.split("/")
    return "/".join(parts[: 4 if scheme(path) == "az" else 3]) + "/"


@functools.cache
def _check(root: str) -> None:
    """Asks a store once: later on, its file system reports wrong keys and dead lines as missing files."""
    import tensorflow as tf

    name = scheme(root)
    if name not in _EXTRA:
        return
    try:
        if name == "az":  # has no status of a container
            tf.io.gfile.listdir(root)
        else:
            tf.io.gfile.stat(root)
    except tf.errors.OpError as error:
        raise UserError(
            f"{root}: not there, or no access ({_reason(error)}); look at the name and at "
            f"{_SETTINGS[name]} (docs/object_stores.md)"
        ) from error


def _without_scheme(*parts: str | os.PathLike) -> tuple[str | os.PathLike, ...]:
    """Returns epath's inner form of a path: ``hdfs://host/x`` is /hdfs/host/x."""
    whole = "/".join(os.fspath(part) for part in parts)
    name = scheme(whole)
    if name not in _OUR_PATHS:
        return parts
    rest = whole.removeprefix(f"{name}://")
    return (f"/{name}/" + (_DEFAULT_HOST + rest if name == "hdfs" and rest.startswith("/") else rest),)


@epath.register_path_cls([f"{name}://" for name in _OUR_PATHS])
class _StorePath(gpath.PosixGPath):
    """epath by ``tf.io.gfile``, as epath's own of ``gs://`` and ``s3://`` are."""

    if sys.version_info < (3, 12):

        def __new__(cls, *parts: str | os.PathLike):
            return super().__new__(cls, *_without_scheme(*parts))

    else:

        def __init__(self, *parts: str | os.PathLike) -> None:
            super().__init__(*_without_scheme(*parts))

    @property
    def _uri_scheme(self) -> str | None:
        inside = len(self.parts) >= 2 and self.parts[0] == "/" and self.parts[1] in _OUR_PATHS
        return self.parts[1] if inside else None

    @property
    def _backend(self):
        from etils.epath import backend

        return backend.tf_backend

    def exists(self) -> bool:
        return super().exists() or (self._uri_scheme == "az" and self.is_dir())

    def is_dir(self) -> bool:
        if self._uri_scheme == "az":  # whose file system calls every name a folder, and says that no folder exists
            return bool(children(self))
        return super().is_dir()
