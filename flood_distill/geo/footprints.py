"""Footprints: which rasters show the same ground.

A footprint is the box in degrees, `west south east north`, that holds a raster's outline. It may be a little larger
than the raster where that lies askew to the meridians, so that a test for overlap errs on the careful side. A box that
crosses the 180th meridian has an east beyond 180.
"""

from collections.abc import Sequence

import numpy as np

from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

Box = tuple[float, float, float, float]

# Neighbours that share an edge have no pixel in common: 1e-6 degrees are 0.1 m, a hundredth of a Sentinel pixel.
_TOUCHING_DEG = 1e-6


def footprint(grid: Grid) -> Box:
    """Returns west, south, east and north in degrees.

    Raises:
        UserError: if the outline has no longitude and latitude.
    """
    longitudes, latitudes = grid_lib.project(grid.crs, grid_lib.GEOGRAPHIC_CRS, *grid_lib.outline(grid))
    if not (np.isfinite(longitudes).all() and np.isfinite(latitudes).all()):
        raise UserError(f"the outline of a raster in {grid.crs} cannot be projected to longitude and latitude")
    around = longitudes[0] + (longitudes - longitudes[0] + 180) % 360 - 180
    return float(around.min()), float(latitudes.min()), float(around.max()), float(latitudes.max())


def meets(boxes: Sequence[Box], others: Sequence[Box]) -> np.ndarray:
    """Returns bool [boxes]: whether each box shares ground with any of the others; touching edges do not count."""
    (centres, halves), (other_centres, other_halves) = _centres_and_halves(boxes), _centres_and_halves(others)
    apart_deg = np.abs(centres[:, None] - other_centres[None])
    apart_deg[..., 0] = np.minimum(apart_deg[..., 0] % 360, -apart_deg[..., 0] % 360)
    reach_deg = halves[:, None] + other_halves[None] - _TOUCHING_DEG
    return (apart_deg < reach_deg).all(axis=-1).any(axis=1)


def _centres_and_halves(boxes: Sequence[Box]) -> tuple[np.ndarray, np.ndarray]:
    corners = np.reshape(np.asarray(boxes, np.float64), (-1, 4))
    return (corners[:, :2] + corners[:, 2:]) / 2, (corners[:, 2:] - corners[:, :2]) / 2
