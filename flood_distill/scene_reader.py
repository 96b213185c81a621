"""Reads Sentinel-1 scenes, in dB or linear power, in one file or two, and water that is always there."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import rasterio
from rasterio.enums import MaskFlags

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import raster, warp
from flood_distill.geo.grid import Grid
from flood_distill.scene_inputs import SceneInput, polarisation

DB = "db"
LINEAR = "linear"
INPUT_UNITS = (DB, LINEAR)
_NAMES = [band.name for band in contract.S1_BANDS]
# A look at a scene before the work: small windows, evenly spread, because reading every n-th pixel reads every block.
_SAMPLE_WINDOWS = 8  # in each direction
_SAMPLE_PX = 32


class SceneReader:
    """Backscatter of a scene on any grid.

    Args:
        bands: an opened dataset and a band number for VV and for VH; all datasets have one grid.
        input_unit: ``db``, or ``linear`` for power, of which 10 log10 is taken; power of 0 or less is no data.

    Attributes:
        grid: the scene's own grid.
        name: the file, or the first of two.
        tags: its metadata.
        num_valid: pixels with a value in both bands, counted as often as they were read.

    Raises:
        UserError: if the pixels are no floating-point numbers.
    """

    def __init__(self, bands: Sequence[tuple[rasterio.DatasetReader, int]], input_unit: str = DB):
        self._bands = bands
        self._unit = input_unit
        self.name = bands[0][0].name
        self.tags = bands[0][0].tags()
        self.grid = raster.grid_of(bands[0][0])
        self.num_valid = 0
        self._in_unit = False
        for dataset, band in bands:
            _check_type(dataset, band)

    def read(self, window: tuple[int, int, int, int]) -> np.ndarray:
        """Returns the scene's own pixels, float32 [2, height, width] in dB, NaN = no data.

        Args:
            window: row, column, height and width.
        """
        pixels = np.stack([self._band(dataset, band, window) for dataset, band in self._bands])
        valid = np.isfinite(pixels).all(axis=0)
        self.num_valid += int(valid.sum())
        self._in_unit = self._in_unit or _looks_like(pixels[:, valid], self._unit)
        if self._unit == LINEAR:
            with np.errstate(divide="ignore", invalid="ignore"):
                pixels = np.where(pixels > 0, 10 * np.log10(pixels), np.nan)
        return pixels.astype(np.float32, copy=False)

    def read_grid(self, target: Grid) -> np.ndarray:
        """Returns a grid's pixels as conversion makes them, float32 [height, width, 2], dB, NaN = no data."""
        sampling = warp.sample(self.grid, target)
        if not sampling.inside.any():
            return np.full((*target.shape, len(_NAMES)), np.nan, np.float32)
        return warp.warp_s1(self.read(sampling.window), sampling, sampling.window[:2])

    def check(self) -> None:
        """Refuses a scene by all that was read of it.

        Raises:
            UserError: if there was no valid pixel, or none that is possible in the unit.
        """
        if not self.num_valid:
            raise UserError(f"{self.name}: no pixel has a value in both VV and VH")
        self._check_unit()

    def look(self) -> None:
        """Looks here and there: a scene in another unit should not cost an hour before it is refused.

        Raises:
            UserError: if no valid pixel that is found is possible in the unit.
        """
        rows, cols = (
            np.unique(np.linspace(0, max(size - _SAMPLE_PX, 0), _SAMPLE_WINDOWS, dtype=int)) for size in self.grid.shape
        )
        height, width = (min(size, _SAMPLE_PX) for size in self.grid.shape)
        for row in rows:
            for col in cols:
                self.read((int(row), int(col), height, width))
        if self.num_valid:
            self._check_unit()

    def _check_unit(self) -> None:
        if self._in_unit:
            return
        if self._unit == DB:
            raise UserError(
                f"{self.name}: no backscatter below 0 dB, as of linear power or amplitude; --input_unit=linear takes "
                f"calibrated power (amplitude has to be squared first)"
            )
        raise UserError(f"{self.name}: no backscatter above 0, so not linear power but dB; use --input_unit=db")

    def _band(self, dataset: rasterio.DatasetReader, band: int, window: tuple[int, int, int, int]) -> np.ndarray:
        """Returns one band, floating-point [height, width], NaN = no data by tag or by mask."""
        (pixels,) = raster.read(dataset, [band], window)
        nodata = dataset.nodatavals[band - 1]
        if nodata is not None and np.isfinite(nodata):
            pixels[pixels == np.asarray(nodata, pixels.dtype)] = np.nan
        if MaskFlags.per_dataset in dataset.mask_flag_enums[band - 1]:
            pixels[raster.read_mask(dataset, band, window) == 0] = np.nan
        return pixels


@contextlib.contextmanager
def open_scene(scene: SceneInput, band_names: Sequence[str] = (), input_unit: str = DB) -> Iterator[SceneReader]:
    """Opens the file or the two files of a scene.

    Args:
        scene: from `scene_inputs.expand`.
        band_names: what the bands of a file, or of both files one after the other, are: ``VV``, ``VH``, anything else
            for a band to be ignored. Empty: what the files say themselves.
        input_unit: see `SceneReader`.

    Raises:
        UserError: if a file cannot be read, does not say where it lies, or VV and VH cannot be told.
    """
    with contextlib.ExitStack() as stack:
        datasets = [stack.enter_context(raster.open_raster(path, control_points=True)) for path in scene.paths]
        grids = [raster.grid_of(dataset) for dataset in datasets]
        if not all(grid_lib.same_grid(grids[0], grid) for grid in grids[1:]):
            raise UserError(f"{scene.name}: VV and VH have different grids (size, crs or transform)")
        yield SceneReader(radar_bands(datasets, band_names), input_unit)


def radar_bands(
    datasets: Sequence[rasterio.DatasetReader], band_names: Sequence[str] = ()
) -> list[tuple[rasterio.DatasetReader, int]]:
    """Returns dataset and band number of VV and of VH.

    In this order: by `band_names`; by the bands' descriptions; by the names of two files; the first and second of two.

    Raises:
        UserError: if none of these tells them.
    """
    bands = [(dataset, number) for dataset in datasets for number in range(1, dataset.count + 1)]
    described = [polarisation(dataset.descriptions[number - 1]) for dataset, number in bands]
    if band_names:
        if len(band_names) != len(bands):
            raise UserError(f"{_names(datasets)}: {len(bands)} band(s), but --bands={','.join(band_names)}")
        named = [name.strip().upper() for name in band_names]
    elif any(described):
        named = described
    elif len(datasets) == len(bands) == len(_NAMES) and any(polarisation(_file(dataset)) for dataset in datasets):
        named = [polarisation(_file(dataset)) for dataset in datasets]
    else:
        named = _NAMES if len(bands) == len(_NAMES) else []
    if any(list(named).count(name) != 1 for name in _NAMES):
        descriptions = [text for dataset in datasets for text in dataset.descriptions]
        raise UserError(
            f"{_names(datasets)}: {len(bands)} band(s) named {descriptions}; give VV and VH in one file or as "
            f"--input=VV.tif,VH.tif, or name all bands in order, as --bands=VV,VH"
        )
    return [bands[named.index(name)] for name in _NAMES]


class Reference:
    """Known water on any grid.

    Args:
        dataset: an opened raster of any crs.
        min_value: first-band values from this one on are water and smaller ones from 0 on are not, as in an occurrence
            in percent; None: 1 is water, 0 is not, anything else is unknown. The dataset's no-data value and 255 are
            unknown always.
    """

    def __init__(self, dataset: rasterio.DatasetReader, min_value: float | None = None):
        self._dataset = dataset
        self._grid = raster.grid_of(dataset)
        self._min_value = min_value

    def read(self, target: Grid) -> np.ndarray:
        """Returns int8 [height, width]: 1 water, 0 not, -1 unknown or outside; the nearest pixels."""
        sampling = warp.sample(self._grid, target)
        if not sampling.inside.any():
            return np.full(target.shape, contract.IGNORE_LABEL, contract.LABEL_DTYPE)
        (values,) = raster.read(self._dataset, [1], sampling.window)
        return warp.warp_labels(self._labels(values), sampling, sampling.window[:2])

    def _labels(self, values: np.ndarray) -> np.ndarray:
        known = (values >= 0) & (values != contract.MASK_NODATA) & (values != self._dataset.nodata)
        if self._min_value is None:
            known = np.isin(values, (contract.DRY, contract.WATER))
        water = values >= (contract.WATER if self._min_value is None else self._min_value)
        return np.where(known, water, contract.IGNORE_LABEL).astype(contract.LABEL_DTYPE)


def _check_type(dataset: rasterio.DatasetReader, band: int) -> None:
    dtype = dataset.dtypes[band - 1]
    if not np.issubdtype(dtype, np.floating):
        raise UserError(
            f"{dataset.name}: bands are {dtype}, as of uncalibrated amplitude; give calibrated backscatter in dB, or "
            f"with --input_unit=linear in power, as float32"
        )


def _looks_like(values: np.ndarray, unit: str) -> bool:
    return bool((values < 0).any() if unit == DB else (values > 0).any())


def _file(dataset: rasterio.DatasetReader) -> str:
    return dataset.name.rsplit("/", 1)[-1]


def _names(datasets: Sequence[rasterio.DatasetReader]) -> str:
    return ",".join(dataset.name for dataset in datasets)
