"""Drives the TFDS builders: one call converts a folder of tiles to a dataset, whole or not at all."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import shuffle

from data_prep import beam_staging, publish, tile_builder
from data_prep.external import external_dataset_builder
from data_prep.ombria import ombria_dataset_builder
from data_prep.sen1floods11 import sen1floods11_dataset_builder
from data_prep.tile_builder import TileBuilder
from flood_distill import beam_settings, contract, files, object_store, quiet
from flood_distill.beam_settings import Beam
from flood_distill.errors import UserError

BUILDERS: dict[str, type[TileBuilder]] = {
    "sen1floods11": sen1floods11_dataset_builder.Builder,
    "external": external_dataset_builder.Builder,
    "ombria": ombria_dataset_builder.Builder,
}
_REPLACED_SUFFIX = ".replaced"
_SHUFFLE_BUFFER_BYTES = 256 << 20  # TFDS keeps 1 GB of a split in memory before it turns to the disk


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Attributes:
        path: the dataset's folder, with its version; an epath in an object store.
        done: False if the dataset was there already.
        source: ``real`` or ``synthetic``.
        num_examples: by split.
        metadata: the dataset's metadata, see the contract module.
        notes: what the user should know, one line each.
    """

    path: Path | epath.Path
    done: bool
    source: str
    num_examples: dict[str, int]
    metadata: dict
    notes: tuple[str, ...] = ()


def dataset_names() -> list[str]:
    """Returns every ``NAME/CONFIG`` that can be converted."""
    return [f"{name}/{config.name}" for name, builder in BUILDERS.items() for config in builder.BUILDER_CONFIGS]


def convert(
    dataset: str,
    input_dir: str | os.PathLike,
    data_dir: str | os.PathLike,
    allow_missing: bool = False,
    overwrite: bool = False,
    sen1floods11_dir: str | None = None,
    num_workers: int | None = None,
    beam: Beam | None = None,
) -> Conversion:
    """Converts tiles to the TFDS dataset ``data_dir/NAME/CONFIG/VERSION``.

    The dataset appears under its name when it is whole. What killed runs have left behind is removed, and what they
    were about to replace is put back. A dataset that is there already stays as it is, unless `overwrite` is given.

    Args:
        dataset: ``NAME/CONFIG``.
        input_dir: the folder of tiles; synthetic if it or a folder above it holds `contract.SYNTHETIC_MARKER`.
        data_dir: root of converted datasets, local or in an object store.
        allow_missing: leave incomplete and damaged chips out.
        overwrite: replace a dataset that is there, if it is of the same source.
        sen1floods11_dir: folder that holds Sen1Floods11's v1.1, whose evaluation ground is excluded.
        num_workers: processes that read and warp tiles; 0 for none, None for one a core (none for few tiles).
        beam: reads and warps tiles in a Beam pipeline instead; needs the extra `beam`.

    Raises:
        UserError: for an unknown dataset, a folder that does not hold it, faulty chips (all faults are listed), a
            dataset of the other source in its place, another conversion under way, a full disk.
    """
    builder_class, config = _find_builder(dataset)
    input_dir = Path(input_dir)
    if not input_dir.is_dir():
        raise UserError(f"--input_dir={input_dir}: no such folder")
    if object_store.is_remote(data_dir):
        return _convert_to_store(
            dataset,
            input_dir,
            epath.Path(data_dir),
            overwrite,
            str(builder_class.VERSION),
            allow_missing=allow_missing,
            sen1floods11_dir=sen1floods11_dir,
            num_workers=num_workers,
            beam=beam,
        )
    download_config = _download_config(input_dir, beam)
    data_dir = Path(data_dir)
    config_dir = data_dir / dataset
    final_dir = config_dir / str(builder_class.VERSION)
    new_folders = [folder for folder in (config_dir, config_dir.parent, data_dir) if not folder.exists()]
    try:
        config_dir.mkdir(parents=True, exist_ok=True)
        with files.only_one(config_dir, f"{config_dir}: another conversion of this dataset is under way"):
            _clean_up(config_dir, final_dir)
            existing = _existing(final_dir)
            _refuse_other_source(final_dir, existing, tile_builder.source_of(input_dir))
            if existing is not None and not overwrite:
                return existing
            with _set_aside(final_dir), _quiet_building(data_dir, beam) as build_root:
                builder = builder_class(
                    config=config,
                    data_dir=build_root,
                    records_dir=data_dir,
                    allow_missing=allow_missing,
                    sen1floods11_dir=sen1floods11_dir,
                    num_workers=num_workers,
                    beam=beam,
                )
                _prepare(builder, download_config)
                beam_staging.fetch(build_root, data_dir, dataset, final_dir.name)
            return _conversion(builder, final_dir)
    except OSError as error:
        raise UserError(f"{error.filename or data_dir}: {error.strerror or error}") from error
    finally:
        _remove_empty(new_folders)


def _convert_to_store(
    dataset: str, input_dir: Path, data_dir: epath.Path, overwrite: bool, version: str, **settings
) -> Conversion:
    """Converts in a local folder and publishes the dataset in the store when it is whole."""
    object_store.connect(data_dir)
    final_dir = data_dir / dataset / version
    existing = _existing(final_dir) if publish.is_whole(final_dir) else None
    _refuse_other_source(final_dir, existing, tile_builder.source_of(input_dir))
    if existing is not None and not overwrite:
        return existing
    with publish.staging(data_dir, dataset) as local_root:
        done = convert(dataset, input_dir, local_root, **settings)
        publish.upload_default_config(local_root, data_dir, dataset)
        publish.upload(done.path, final_dir)
    return dataclasses.replace(done, path=final_dir)


def _find_builder(dataset: str) -> tuple[type[TileBuilder], str]:
    if dataset not in dataset_names():
        raise UserError(f"--dataset={dataset}: not one of {', '.join(dataset_names())}")
    name, config = dataset.split("/")
    return BUILDERS[name], config


def _download_config(input_dir: Path, beam: Beam | None) -> tfds.download.DownloadConfig:
    settings = {}
    if beam is not None:
        options = beam_settings.pipeline_options(beam.runner, beam.options)
        settings = {"beam_runner": beam.runner, "beam_options": options}
    return tfds.download.DownloadConfig(manual_dir=input_dir, try_download_gcs=False, **settings)


@contextlib.contextmanager
def _quiet_building(data_dir: Path, beam: Beam | None) -> Iterator[epath.Path]:
    """Gives the root of datasets that TFDS shall write to."""
    runner, staging_dir = (None, None) if beam is None else (beam.runner, beam.staging_dir)
    with (
        quiet.only_errors(),
        beam_settings.failures(runner),
        beam_staging.build_root(data_dir, staging_dir) as build_root,
    ):
        yield build_root


def _prepare(builder: TileBuilder, download_config: tfds.download.DownloadConfig) -> None:
    tfds.disable_progress_bar()  # the builder shows its own
    shuffle.MAX_MEM_BUFFER_SIZE = _SHUFFLE_BUFFER_BYTES
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        # Nothing is downloaded, yet TFDS makes the folder.
        builder.download_and_prepare(download_dir=scratch, download_config=download_config)


def _conversion(builder: TileBuilder, final_dir: Path) -> Conversion:
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    metadata = json.loads((final_dir / "metadata.json").read_text())
    return Conversion(final_dir, True, metadata[contract.SOURCE], counts, metadata, tuple(builder.notes))


def _existing(final_dir: Path | epath.Path) -> Conversion | None:
    if not final_dir.is_dir():
        return None
    try:
        with quiet.only_errors():
            info = tfds.builder_from_directory(final_dir).info
        metadata = json.loads((final_dir / "metadata.json").read_text())
        counts = {split: split_info.num_examples for split, split_info in info.splits.items()}
        return Conversion(final_dir, False, metadata[contract.SOURCE], counts, metadata)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{final_dir}: is there but is no dataset of this program; remove it ({error})") from error


def _refuse_other_source(final_dir: Path | epath.Path, existing: Conversion | None, source: str) -> None:
    if existing is not None and existing.source != source:
        raise UserError(
            f"{final_dir}: holds a {existing.source} dataset and the tiles are {source}; "
            "give another --data_dir (or remove the dataset yourself)"
        )


def _clean_up(config_dir: Path, final_dir: Path) -> None:
    """Removes what killed runs left and puts back what they had set aside."""
    for leftover in config_dir.glob(f"incomplete.*_{final_dir.name}"):
        shutil.rmtree(leftover)
    replaced = _replaced(final_dir)
    if replaced.is_dir():
        if final_dir.is_dir():
            shutil.rmtree(replaced)
        else:
            replaced.rename(final_dir)


@contextlib.contextmanager
def _set_aside(final_dir: Path) -> Iterator[None]:
    """Moves a dataset out of the way of its replacement; puts it back if that fails."""
    replaced = _replaced(final_dir)
    if not final_dir.is_dir():
        yield
        return
    final_dir.rename(replaced)
    try:
        yield
    except BaseException:
        replaced.rename(final_dir)
        raise
    shutil.rmtree(replaced)


def _replaced(final_dir: Path) -> Path:
    return final_dir.with_name(final_dir.name + _REPLACED_SUFFIX)


def _remove_empty(folders: Sequence[Path]) -> None:
    """Removes folders, inner ones first, that a failed conversion has made."""
    for folder in folders:
        config_note = folder / ".config"  # where TFDS keeps the name of the default config
        with contextlib.suppress(OSError):
            if list(folder.iterdir()) == [config_note]:
                shutil.rmtree(config_note)
            folder.rmdir()
