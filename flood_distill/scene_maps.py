"""The rasters of a scene's flood map: written strip by strip, counted on the way, then made cloud-optimised."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from flood_distill import contract
from flood_distill.geo import areas, cog
from flood_distill.geo.grid import Grid
from flood_distill.probability import water_mask
from flood_distill.scene_files import FLOOD, PROBABILITY, VV, WATER
from flood_distill.scene_reader import Reference

REFERENCE_WATER = 2  # class of the flood map: water both in the scene and in the reference
# Red, green, blue, alpha.
WATER_COLORS = {
    contract.DRY: (214, 205, 180, 255),
    contract.WATER: (31, 90, 217, 255),
    contract.MASK_NODATA: (0, 0, 0, 0),
}
FLOOD_COLORS = {**WATER_COLORS, REFERENCE_WATER: (150, 190, 240, 255)}
GREY_MAX = contract.MASK_NODATA - 1  # of VV: 0 and this are the limits of its normalisation
PREVIEW_PX = 1000  # longest side of the decimated copy that is kept for the preview


@dataclasses.dataclass(frozen=True)
class Layer:
    """One raster of a scene.

    Attributes:
        ending: of the file's name.
        title: what a reader calls it.
        description: of its values.
        colors: colour table, or None.
        overviews: how its overviews are resampled: ``nearest`` for classes, ``average`` for quantities.
    """

    ending: str
    title: str
    description: str
    colors: Mapping[int, cog.Color] | None = None
    overviews: str = "nearest"


_VV = contract.S1_BANDS[0]
LAYERS = (
    Layer(WATER, "Water mask", "water: 0 dry, 1 water, 255 no data", WATER_COLORS),
    Layer(PROBABILITY, "Water probability", "probability of water in percent, 255 no data", overviews="average"),
    Layer(
        VV,
        "Sentinel-1 VV",
        f"VV: 0 is {_VV.low:g} dB or less, {GREY_MAX} is {_VV.high:g} dB or more, 255 no data",
        overviews="average",
    ),
    Layer(FLOOD, "Flood and reference water", "flood: 0 dry, 1 flood, 2 reference water, 255 no data", FLOOD_COLORS),
)


class MapWriter:
    """Writes plain GeoTIFFs named after their endings; made by `open_maps`.

    Attributes:
        mask_areas: of the water mask's values.
        flood_areas: of the flood map's values, None without a reference.
        preview_vv: float32 [rows, columns], dB, every n-th pixel.
        preview_mask: uint8 [rows, columns], the same pixels.
    """

    def __init__(
        self, writers: Mapping[str, cog.StripWriter], grid: Grid, threshold: float, reference: Reference | None
    ):
        self._writers = writers
        self._grid = grid
        self._threshold = threshold
        self._reference = reference
        self._step = -(-max(grid.shape) // PREVIEW_PX)
        shape = tuple(-(-size_px // self._step) for size_px in grid.shape)
        self.preview_vv = np.full(shape, np.nan, np.float32)
        self.preview_mask = np.full(shape, contract.MASK_NODATA, np.uint8)
        self.mask_areas = areas.ClassAreas(grid, (contract.DRY, contract.WATER))
        self.flood_areas = areas.ClassAreas(grid, (contract.WATER, REFERENCE_WATER)) if reference else None

    def write(self, row: int, probability: np.ndarray, vv_db: np.ndarray) -> None:
        """Writes the rows from `row` on.

        Args:
            row: of the grid.
            probability: float32 [rows, grid width] in [0, 1], NaN = no data.
            vv_db: float32 [rows, grid width], NaN = no data.
        """
        mask = water_mask(probability, self._threshold)
        self._writers[WATER].write(row, mask)
        self._writers[PROBABILITY].write(row, percent(probability))
        self._writers[VV].write(row, grey(vv_db))
        self.mask_areas.add(row, mask)
        if self._reference:
            flood = flood_mask(mask, self._reference.read(self._grid.window(row, 0, *mask.shape)))
            self._writers[FLOOD].write(row, flood)
            self.flood_areas.add(row, flood)
        self._keep(row, vv_db, mask)

    def _keep(self, row: int, vv_db: np.ndarray, mask: np.ndarray) -> None:
        first = -(-row // self._step)
        rows = slice(-row % self._step, None, self._step)
        for preview, strip in ((self.preview_vv, vv_db), (self.preview_mask, mask)):
            kept = strip[rows, :: self._step]
            preview[first : first + len(kept)] = kept


@contextlib.contextmanager
def open_maps(folder: Path, grid: Grid, threshold: float, reference: Reference | None) -> Iterator[MapWriter]:
    """Opens the rasters of a scene for writing.

    Args:
        folder: for the files.
        grid: of all of them.
        threshold: water where the probability is at least this.
        reference: known water, on which the flood map is made, or None.
    """
    with contextlib.ExitStack() as stack:
        endings = [layer.ending for layer in LAYERS if layer.ending != FLOOD or reference]
        writers = {ending: stack.enter_context(cog.open_strips(folder / ending, grid)) for ending in endings}
        yield MapWriter(writers, grid, threshold, reference)


def make_cogs(folder: Path, stem: str, tags: Mapping[str, str]) -> None:
    """Turns the plain GeoTIFFs of a folder into cloud-optimised ones under their own names, and removes them."""
    for layer in LAYERS:
        plain = folder / layer.ending
        if plain.exists():
            cog.to_cog(plain, folder / f"{stem}{layer.ending}", layer.description, tags, layer.colors, layer.overviews)
            plain.unlink()


def percent(probability: np.ndarray) -> np.ndarray:
    """Returns uint8 percent, 0..100, of float32 probabilities in [0, 1]; 255 where NaN."""
    return _scaled(probability, 0.0, 1.0, contract.PERCENT_MAX)


def grey(vv_db: np.ndarray) -> np.ndarray:
    """Returns uint8 0..254 of VV in dB over the range of its normalisation; 255 where NaN."""
    return _scaled(vv_db, _VV.low, _VV.high, GREY_MAX)


def flood_mask(mask: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Tells flood from water that is always there.

    Args:
        mask: uint8 [height, width], 0 dry, 1 water, 255 no data.
        reference: int8 [height, width], 1 water, 0 not, -1 unknown.

    Returns:
        uint8 [height, width]: 0 dry, 1 flood, 2 water also in the reference, 255 no data in the scene, or water where
        the reference is unknown.
    """
    wet = mask == contract.WATER
    flood = mask.copy()
    flood[wet & (reference == contract.WATER)] = REFERENCE_WATER
    flood[wet & (reference == contract.IGNORE_LABEL)] = contract.MASK_NODATA
    return flood


def _scaled(values: np.ndarray, low: float, high: float, steps: int) -> np.ndarray:
    nodata = np.isnan(values)
    share = np.clip((np.where(nodata, low, values) - low) / (high - low), 0, 1)
    return np.where(nodata, contract.MASK_NODATA, np.rint(share * steps)).astype(np.uint8)
