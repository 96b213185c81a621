"""Conversion to an object store: whole in a local folder first, then up, and last the file that makes readers see it.

Nothing can be renamed at once there. Readers, ours and TFDS's own, look for ``dataset_info.json``: it is the first file
to go when a dataset is replaced and the last to come, so what a killed upload leaves is no dataset.
"""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from flood_distill import contract, files, object_store
from flood_distill.errors import UserError

MARKER = "dataset_info.json"
_PREFIX = "flood_distill_convert_"
_ABANDONED_AFTER_S = 60  # a folder gets its lock within milliseconds


def is_whole(dataset_dir: epath.Path) -> bool:
    """Returns whether a folder in a store holds a dataset that was uploaded to its end."""
    return (dataset_dir / MARKER).exists()


@contextlib.contextmanager
def staging(data_dir: epath.Path, dataset: str) -> Iterator[Path]:
    """Gives a local root of datasets to convert into, with what the conversion looks up in `data_dir`.

    It lies where temporary files do (TMPDIR) and is removed at the end; so are those of killed runs.

    Args:
        data_dir: root of datasets in the store.
        dataset: ``NAME/CONFIG`` that is going to be converted.
    """
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, files.only_one(Path(name), f"{name}: taken"):
        if dataset != contract.HAND:
            _fetch_footprints(data_dir, Path(name))
        yield Path(name)


def upload(local_dir: Path, dataset_dir: epath.Path) -> None:
    """Copies a converted dataset to its place in a store; goes on where a killed upload of the same one stopped.

    Args:
        local_dir: the dataset's folder, with its version.
        dataset_dir: where it shall be; what is there is replaced.

    Raises:
        UserError: if the store did not take a file whole.
    """
    resumed = not is_whole(dataset_dir) and _same_hashes(local_dir, dataset_dir)
    if is_whole(dataset_dir):
        (dataset_dir / MARKER).unlink()
    sizes = {path.name: path.stat().st_size for path in local_dir.iterdir()}
    there = set()
    for path in object_store.children(dataset_dir):
        if resumed and ".tfrecord" in path.name and path.stat().length == sizes.get(path.name):
            there.add(path.name)
        else:
            path.unlink()
    # The hashes first: they tell the next run whether the shards that are there are its own.
    todo = sorted(sizes.keys() - there, key=lambda name: (name == MARKER, name != contract.SHARD_HASHES_JSON, name))
    object_store.upload(local_dir, dataset_dir, todo)


def upload_default_config(local_root: Path, data_dir: epath.Path, dataset: str) -> None:
    """Copies TFDS's note of the default config, which lies beside the configs."""
    note = Path(dataset.split("/")[0]) / ".config" / "metadata.json"
    if (local_root / note).is_file():
        object_store.put(local_root / note, data_dir / note)


def _same_hashes(local_dir: Path, dataset_dir: epath.Path) -> bool:
    there = dataset_dir / contract.SHARD_HASHES_JSON
    return there.exists() and there.read_text() == (local_dir / contract.SHARD_HASHES_JSON).read_text()


def _fetch_footprints(data_dir: epath.Path, local_root: Path) -> None:
    """Copies what the hand-labelled dataset says of its evaluation ground, which others have to leave out."""
    for version in object_store.children(data_dir / contract.HAND):
        if (version / "metadata.json").exists():
            local = local_root / contract.HAND / version.name / "metadata.json"
            files.write_text(local, (version / "metadata.json").read_text())


def _remove_abandoned() -> None:
    """Removes the folders of runs that were killed: nobody holds their lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, UserError):
            if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_S:
                with files.only_one(folder, "in use"):
                    shutil.rmtree(folder)
