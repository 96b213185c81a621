"""Cloud-optimised GeoTIFFs of single uint8 bands, written strip by strip."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.windows

from flood_distill import contract
from flood_distill.geo.grid import Grid

Color = tuple[int, int, int, int]
# GDAL's COG layout: tiles of 512, overviews until one tile holds the scene.
_COG_OPTIONS = {
    "driver": "COG",
    "compress": "DEFLATE",
    "blocksize": 512,
    "bigtiff": "IF_SAFER",
    "num_threads": "ALL_CPUS",
}


class StripWriter:
    """Writes consecutive rows of an opened single-band raster."""

    def __init__(self, dataset: rasterio.io.DatasetWriter):
        self._dataset = dataset

    def write(self, row: int, values: np.ndarray) -> None:
        """Writes uint8 [rows, width] from `row` on."""
        num_rows, width = values.shape
        self._dataset.write(values, 1, window=rasterio.windows.Window(0, row, width, num_rows))


@contextlib.contextmanager
def open_strips(path: Path, grid: Grid) -> Iterator[StripWriter]:
    """Opens a plain GeoTIFF (uint8, no data 255) to be written strip by strip and turned into a COG afterwards."""
    profile = {
        "driver": "GTiff",
        "crs": grid.crs,
        "transform": rasterio.Affine(*grid.transform),
        "width": grid.width,
        "height": grid.height,
        "count": 1,
        "dtype": "uint8",
        "nodata": contract.MASK_NODATA,
        "bigtiff": "IF_SAFER",
    }
    with rasterio.open(path, "w", **profile) as dataset:
        yield StripWriter(dataset)


def to_cog(
    plain: Path,
    path: Path,
    description: str,
    tags: Mapping[str, str],
    colors: Mapping[int, Color] | None = None,
    overview_resampling: str = "nearest",
) -> None:
    """Copies a plain GeoTIFF to a cloud-optimised one with overviews.

    Args:
        plain: written with `open_strips`; it gets description, tags and colours too.
        path: the COG.
        description: the band's description.
        tags: metadata of the file.
        colors: colour table, value -> red, green, blue, alpha.
        overview_resampling: ``nearest`` for classes, ``average`` for quantities.
    """
    with rasterio.open(plain, "r+") as dataset:
        dataset.set_band_description(1, description)
        dataset.update_tags(**tags)
        if colors:
            dataset.write_colormap(1, dict(colors))
    rasterio.shutil.copy(plain, path, overview_resampling=overview_resampling, **_COG_OPTIONS)
