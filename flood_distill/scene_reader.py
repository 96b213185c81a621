"""Reads windows of Sentinel-1 scenes and of reference water on the 16 m grid of the scene."""

from collections.abc import Sequence

import numpy as np
import rasterio

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import raster, warp
from flood_distill.geo.grid import Grid

PREVIEW_PX = 1000  # longest side of the decimated copy that is kept for the preview
_SAMPLE_PX = 512  # longest side of the decimated read that looks for linear power


class SceneReader:
    """Windows of a scene, and every n-th pixel of what went by for the preview.

    Args:
        dataset: the opened scene: VV and VH in dB.
        grid: the scene's grid, from `grid.scene_grid`.
        window_px: side of a window.

    Attributes:
        preview_s1: float32 [rows, columns, 2], dB, NaN = no data; filled by `read`.
        preview_mask: uint8 [rows, columns], 0, 1, 255; filled by `keep_mask`.

    Raises:
        UserError: if the file does not hold VV and VH in dB.
    """

    def __init__(self, dataset: rasterio.DatasetReader, grid: Grid, window_px: int):
        self.grid = grid
        self.window_px = window_px
        self.name = dataset.name
        self._dataset = dataset
        self._bands = radar_bands(dataset)
        _check_decibels(dataset, self._bands)
        self._step = -(-max(grid.shape) // PREVIEW_PX)
        shape = tuple(-(-size_px // self._step) for size_px in grid.shape)
        self.preview_s1 = np.full((*shape, len(contract.S1_BANDS)), np.nan, np.float32)
        self.preview_mask = np.full(shape, contract.MASK_NODATA, np.uint8)

    def read(self, row: int, column: int) -> np.ndarray:
        """Returns one window, float32 [window_px, window_px, 2] in dB, NaN = no data or outside of the scene."""
        target = self.grid.window(row, column, self.window_px, self.window_px)
        s1 = raster.read_s1(self._dataset, target, self._bands)
        self._keep(self.preview_s1, row, column, s1)
        return s1

    def keep_mask(self, row: int, mask: np.ndarray) -> None:
        """Keeps a strip of the water mask, uint8 [rows, grid width], for the preview."""
        self._keep(self.preview_mask, row, 0, mask)

    def _keep(self, preview: np.ndarray, row: int, column: int, values: np.ndarray) -> None:
        kept = values[-row % self._step :: self._step, -column % self._step :: self._step]
        target = preview[-(-row // self._step) :, -(-column // self._step) :][: kept.shape[0], : kept.shape[1]]
        target[:] = kept[: target.shape[0], : target.shape[1]]


def radar_bands(dataset: rasterio.DatasetReader) -> list[int]:
    """Returns the numbers of VV and VH: by name where the file names its bands, else the first and the second of two.

    Raises:
        UserError: if the file has neither, or its bands are no floating-point numbers.
    """
    names = [band.name for band in contract.S1_BANDS]
    described = [(text or "").strip().upper() for text in dataset.descriptions]
    if all(name in described for name in names):
        bands = [described.index(name) + 1 for name in names]
    elif dataset.count == len(names) and not set(described) & set(names):
        bands = list(range(1, len(names) + 1))
    else:
        raise UserError(
            f"{dataset.name}: {dataset.count} band(s) named {list(dataset.descriptions)}; give VV and VH, in this "
            f"order or under these names"
        )
    dtype = dataset.dtypes[bands[0] - 1]
    if not np.issubdtype(dtype, np.floating):
        raise UserError(f"{dataset.name}: bands are {dtype}; give backscatter in dB as float32")
    return bands


def _check_decibels(dataset: rasterio.DatasetReader, bands: Sequence[int]) -> None:
    """Refuses linear power and amplitude: both are positive, and no scene has a median backscatter above 0 dB."""
    shape = [min(size_px, _SAMPLE_PX) for size_px in dataset.shape]
    sample = dataset.read(bands, out_shape=(len(bands), *shape), masked=True).compressed()
    sample = sample[np.isfinite(sample)]
    if sample.size and np.median(sample) > 0:
        raise UserError(
            f"{dataset.name}: the median backscatter {np.median(sample):.3g} is above 0 dB, as of linear power or "
            f"amplitude; convert power to dB (10 log10)"
        )


def read_reference(path: str, target: Grid) -> np.ndarray:
    """Returns known water on a grid, int8 [height, width]: 1 water, 0 not, -1 unknown or outside.

    Args:
        path: raster of any crs whose first band is 1 for water and 0 for no water; anything else is unknown.
        target: the grid.

    Raises:
        UserError: if the file cannot be read.
    """
    with raster.open_raster(path) as dataset:
        sampling = warp.sample(raster.grid_of(dataset), target)
        if not sampling.inside.any():
            return np.full(target.shape, contract.IGNORE_LABEL, contract.LABEL_DTYPE)
        values = raster.read(dataset, [1], sampling.window)[0]
    known = np.isin(values, (contract.DRY, contract.WATER))
    labels = np.where(known, values, contract.IGNORE_LABEL).astype(contract.LABEL_DTYPE)
    return warp.warp_labels(labels, sampling, sampling.window[:2])
