"""For Beam workers that do not share the data_dir: the dataset is made in a folder that they reach, and fetched.

Such a folder is one of an object store, ``gs://`` with Dataflow.
"""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import tqdm
from etils import epath

from flood_distill import object_store


@contextlib.contextmanager
def build_root(data_dir: Path, staging_dir: str | None) -> Iterator[epath.Path]:
    """Gives the root of datasets to write to: `data_dir` or, if there is a `staging_dir`, a new folder in that one.

    The new folder is removed at the end; only a process that is killed leaves it.
    """
    if staging_dir is None:
        yield epath.Path(data_dir)
        return
    object_store.connect(staging_dir)
    root = epath.Path(staging_dir) / f"flood_distill_convert_{uuid.uuid4().hex}"
    try:
        yield root
    finally:
        if root.exists():
            root.rmtree()


def fetch(root: epath.Path, data_dir: Path, dataset: str, version: str) -> None:
    """Copies a finished dataset from `root` to its place under `data_dir`, whole or not at all.

    Args:
        root: what `build_root` gave; nothing is done if it is `data_dir`.
        data_dir: root of converted datasets.
        dataset: ``NAME/CONFIG``.
        version: its version, which is not there yet.
    """
    if Path(root) == data_dir:
        return
    config_dir = data_dir / dataset
    incomplete = config_dir / f"incomplete.fetched_{version}"  # of the form of TFDS's own: removed if we are killed
    incomplete.mkdir()
    for path in tqdm.tqdm(list((root / dataset / version).iterdir()), desc="Fetching", unit="file", leave=False):
        path.copy(incomplete / path.name)
    note = Path(dataset).parent / ".config" / "metadata.json"  # TFDS's note of the default config
    if (root / note).exists():
        (data_dir / note).parent.mkdir(exist_ok=True)
        (root / note).copy(data_dir / note, overwrite=True)
    incomplete.rename(config_dir / version)
