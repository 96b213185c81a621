"""What conversion is measured against: rasterio reads the layers of a chip and GDAL warps them to the tile grid.

A module of its own, without TensorFlow, so that the processes that run it start as fast as those of the conversion.
"""

import numpy as np
import rasterio
import rasterio.warp
from rasterio.enums import Resampling

from data_prep.sen1floods11 import layout
from data_prep.tiles import Chip
from flood_distill import contract
from flood_distill.geo import grid as grid_lib


def read_and_warp(chip: Chip) -> None:
    """Reads and warps the layers of a chip by rasterio alone; the result is thrown away."""
    for spec in layout.HAND_LAYERS:
        with rasterio.open(chip.files[spec.feature]) as dataset:
            pixels = dataset.read(list(spec.bands))
            grid = grid_lib.tile_grid("EPSG:4326", tuple(dataset.transform)[:6], dataset.width, dataset.height)
            nodata = dataset.nodata if dataset.nodata is not None else contract.IGNORE_LABEL
            rasterio.warp.reproject(
                pixels,
                np.full((len(spec.bands), *grid.shape), nodata, pixels.dtype),
                src_transform=dataset.transform,
                src_crs=dataset.crs,
                dst_transform=rasterio.Affine(*grid.transform),
                dst_crs=grid.crs,
                src_nodata=nodata,
                dst_nodata=nodata,
                resampling=Resampling.bilinear if spec.feature in (contract.S1, contract.S2) else Resampling.nearest,
            )
