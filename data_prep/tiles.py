"""From the GeoTIFF files of a chip to one record: checking, reading, resampling. No TensorFlow, no state."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import footprints, raster, warp
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid
from flood_distill.geo.warp import Sampling

MISSING = "missing"  # how `raster.open_raster` puts it
LABEL_VALUES = (contract.IGNORE_LABEL, contract.DRY, contract.WATER)


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """One layer of a chip and the feature that it becomes.

    Attributes:
        feature: the record's feature, such as ``contract.S1``.
        layer: what its files look like.
        bands: 1-based bands that are read, in the order of the feature's channels.
        required: whether a chip without it is incomplete.
    """

    feature: str
    layer: raster.Layer
    bands: tuple[int, ...]
    required: bool = True


@dataclasses.dataclass(frozen=True)
class Chip:
    """The files of one place and time.

    Attributes:
        chip_id: ``EVENT_ID`` as in file names.
        event: such as ``Sri-Lanka``.
        files: path of each layer that is required or exists, by feature.
    """

    chip_id: str
    event: str
    files: Mapping[str, Path]


@dataclasses.dataclass(frozen=True)
class Fault:
    """Why a file cannot be converted."""

    chip_id: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class FaultyChip(Exception):
    """Raised by `read_chip`; carries all faults of the chip."""

    def __init__(self, faults: Sequence[Fault]):
        super().__init__("; ".join(map(str, faults)))
        self.faults = list(faults)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a dataset's metadata tell of a tile.

    Attributes:
        chip_id: the chip.
        has_s2: whether it has Sentinel-2.
        footprint, outside_share, cut_share: as in `Tile`.
    """

    chip_id: str
    has_s2: bool
    footprint: footprints.Box | None
    outside_share: float
    cut_share: float


@dataclasses.dataclass(frozen=True)
class Tile:
    """A chip on its tile grid.

    Attributes:
        features: arrays and strings by feature name, without `contract.SOURCE`.
        footprint: west, south, east, north of the chip in degrees; None where it has no place.
        outside_share: share of the tile's pixels that lie outside the chip.
        cut_share: share of the chip's pixels that lie outside the tile.
    """

    features: dict[str, np.ndarray | str | bool]
    footprint: footprints.Box | None
    outside_share: float
    cut_share: float

    @property
    def summary(self) -> Summary:
        """What is kept of the tile when its pixels are written."""
        chip_id, has_s2 = self.features[contract.CHIP_ID], bool(self.features[contract.HAS_S2])
        return Summary(chip_id, has_s2, self.footprint, self.outside_share, self.cut_share)


def find_marker(input_dir: Path) -> Path | None:
    """Returns the file that marks a folder of tiles, or one of the two folders above it, as synthetic."""
    resolved = input_dir.resolve()
    for folder in (resolved, *resolved.parents[:2]):
        if (folder / contract.SYNTHETIC_MARKER).is_file():
            return folder / contract.SYNTHETIC_MARKER
    return None


def event_of(chip_id: str) -> str:
    """Returns the event of ``EVENT_ID``; the event may hold hyphens or underscores."""
    return chip_id.rsplit("_", 1)[0]


def find_chip(chip_id: str, folders: Mapping[str, Path], specs: Sequence[LayerSpec]) -> Chip:
    """Returns a chip whose layers lie in one folder each, as ``EVENT_ID_LAYER.tif``.

    Args:
        chip_id: ``EVENT_ID``.
        folders: folder of each layer, by layer name.
        specs: the layers; optional ones are taken if their file is there.
    """
    paths = {spec: folders[spec.layer.name] / f"{chip_id}_{spec.layer.name}.tif" for spec in specs}
    files = {spec.feature: path for spec, path in paths.items() if spec.required or path.is_file()}
    return Chip(chip_id, event_of(chip_id), files)


def list_chip_ids(folder: Path, layer_name: str) -> set[str]:
    """Returns the ids of all chips that have a file of a layer; other files (such as .DS_Store) are passed over."""
    suffix = f"_{layer_name}.tif"
    return {path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}") if not path.name.startswith(".")}


def header_faults(chip: Chip, specs: Sequence[LayerSpec]) -> list[Fault]:
    """Returns the faults of a chip's files that show without reading pixels."""
    return _visit(chip, specs, lambda dataset, spec, grid: None)


def pixel_faults(chip: Chip, specs: Sequence[LayerSpec]) -> list[Fault]:
    """Returns all faults of a chip's files; reads every pixel that conversion needs."""
    return _visit(chip, specs, lambda dataset, spec, grid: _read(dataset, spec))


def read_chip(chip: Chip, specs: Sequence[LayerSpec]) -> Tile:
    """Reads a chip's files once and resamples them to the chip's tile grid.

    Returns:
        A `Tile` with every feature of the record but `contract.SOURCE`.

    Raises:
        FaultyChip: with all faults of all files.
    """
    layers: dict[str, np.ndarray] = {}
    samplings: list[Sampling] = []

    def resample(dataset: rasterio.DatasetReader, spec: LayerSpec, grid: Grid) -> None:
        if not samplings:
            target = grid_lib.tile_grid(grid.crs, grid.transform, grid.width, grid.height)
            samplings.append(warp.sample(grid, target))
        layers[spec.feature] = _resample(_read(dataset, spec), spec.feature, samplings[0], dataset.nodata)

    if faults := _visit(chip, specs, resample):
        raise FaultyChip(faults)
    sampling = samplings[0]
    return Tile(
        _features(chip, specs, layers, sampling.target),
        footprints.footprint(sampling.source),
        sampling.outside_share,
        warp.outside_share(sampling.target, sampling.source),
    )


def read_or_faults(chip: Chip, specs: Sequence[LayerSpec]) -> Tile | list[Fault]:
    """Returns a chip on its tile grid, or all faults of its files; see `read_chip`."""
    try:
        return read_chip(chip, specs)
    except FaultyChip as error:
        return error.faults


def read_footprint(paths: Sequence[Path]) -> footprints.Box | None:
    """Returns the footprint of the first of `paths` that is there, None if none is.

    Raises:
        UserError: if that file is not a georeferenced raster.
    """
    for path in paths:
        if path.is_file():
            with raster.open_raster(path) as dataset:
                return footprints.footprint(raster.grid_of(dataset))
    return None


def _visit(chip: Chip, specs: Sequence[LayerSpec], action) -> list[Fault]:
    """Opens each file, checks its header and calls `action(dataset, spec, grid)` where that is in order."""
    faults: list[Fault] = []
    reference: Grid | None = None
    for spec in specs:
        path = chip.files.get(spec.feature)
        if path is None:
            continue
        try:
            with raster.open_raster(path) as dataset:
                reasons = raster.faults(dataset, spec.layer, reference)
                if reference is None and not reasons:
                    reference = raster.grid_of(dataset)
                if not reasons:
                    action(dataset, spec, reference)
        except UserError as error:
            reasons = [str(error).removeprefix(f"{path}: ")]
        faults += [Fault(chip.chip_id, str(path), reason) for reason in reasons]
    return faults


def _read(dataset: rasterio.DatasetReader, spec: LayerSpec) -> np.ndarray:
    pixels = raster.read(dataset, spec.bands)
    if spec.feature in (contract.LABEL, contract.PERMANENT_WATER):
        strange = sorted(set(_values(pixels)) - set(LABEL_VALUES))
        if strange:
            raise UserError(f"holds the values {strange[:5]}, only {list(LABEL_VALUES)} are labels")
    return pixels


def _values(labels: np.ndarray) -> Iterator[int]:
    low, high = int(labels.min()), int(labels.max())
    if low >= min(LABEL_VALUES) and high <= max(LABEL_VALUES):  # integers in the range need no sorting
        return iter((low, high))
    return (int(value) for value in np.unique(labels))


def _resample(pixels: np.ndarray, feature: str, sampling: Sampling, nodata: float | None) -> np.ndarray:
    if feature == contract.S1:
        return warp.warp_s1(pixels, sampling, nodata=nodata)
    if feature == contract.S2:
        return warp.warp_s2(pixels, sampling)
    return warp.warp_labels(pixels[0], sampling)


def _features(chip: Chip, specs: Sequence[LayerSpec], layers: Mapping[str, np.ndarray], grid: Grid) -> dict:
    empty = {
        contract.S2: lambda: np.full((*grid.shape, len(contract.S2_BANDS)), contract.S2_NODATA, contract.S2_DTYPE),
        contract.PERMANENT_WATER: lambda: np.full(grid.shape, contract.IGNORE_LABEL, contract.LABEL_DTYPE),
    }
    features = {spec.feature: layers.get(spec.feature) for spec in specs}
    features = {name: empty[name]() if values is None else values for name, values in features.items()}
    features[contract.HAS_S2] = contract.S2 in layers
    if contract.PERMANENT_WATER in features:
        features[contract.HAS_PERMANENT_WATER] = contract.PERMANENT_WATER in layers
    return features | {
        contract.CHIP_ID: chip.chip_id,
        contract.EVENT: chip.event,
        contract.CRS: grid.crs,
        contract.TRANSFORM: np.asarray(grid.transform, np.float64),
    }
