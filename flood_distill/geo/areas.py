"""Areas on the ground, whatever the projection: measured in an equal-area one around the place."""

import math
from collections.abc import Sequence

import numpy as np

from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

Ring = np.ndarray  # float64 [points, 2], x and y, the first point repeated at the end
BLOCK_PX = 256  # pixels that share one area; in UTM it changes by less than 1e-5 over 4 km


def equal_area_crs(grid: Grid) -> str:
    """Returns Lambert's azimuthal equal-area projection on WGS 84 around the centre of a grid.

    Equal area holds everywhere on it, not only near its centre (Snyder, Map Projections, 1987, p. 182).
    """
    xs, ys = grid.points(np.array([grid.height / 2]), np.array([grid.width / 2]))
    longitudes, latitudes = grid_lib.project(grid.crs, grid_lib.GEOGRAPHIC_CRS, xs, ys)
    return f"+proj=laea +lat_0={latitudes[0]:.4f} +lon_0={longitudes[0]:.4f} +datum=WGS84 +units=m +no_defs"


def signed_area(ring: Ring) -> float:
    """Returns the area in squared units of the coordinates, positive if counter-clockwise (shoelace formula)."""
    x, y = (ring - ring[0]).T  # small numbers: northings squared would cost digits
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def polygon_area(rings: Sequence[Ring]) -> float:
    """Returns the area of a polygon without its holes."""
    return abs(signed_area(rings[0])) - sum(abs(signed_area(hole)) for hole in rings[1:])


def pixel_areas_m2(grid: Grid, equal_area: str) -> np.ndarray:
    """Returns the area of one pixel, float64 [block rows, block columns]: the mean of each `BLOCK_PX` square.

    Args:
        grid: any grid whose corners have a place on Earth.
        equal_area: from `equal_area_crs`.
    """
    rows, cols = (np.minimum(np.arange(math.ceil(size / BLOCK_PX) + 1) * BLOCK_PX, size) for size in grid.shape)
    xs, ys = grid_lib.project(grid.crs, equal_area, *grid.points(*np.meshgrid(rows, cols, indexing="ij")))
    x, y = ([v[:-1, :-1], v[:-1, 1:], v[1:, 1:], v[1:, :-1]] for v in (xs, ys))
    doubled = sum(x[i] * y[(i + 1) % 4] - x[(i + 1) % 4] * y[i] for i in range(4))
    return np.abs(doubled) / 2 / np.outer(np.diff(rows), np.diff(cols))


class ClassAreas:
    """Adds up the ground that each value of a uint8 raster covers, strip by strip.

    Args:
        grid: of the raster.

    Attributes:
        num_pixels: int64 [256], by value.
        area_m2: float64 [256], by value; only of those in `values`.
    """

    def __init__(self, grid: Grid, values: Sequence[int]):
        self.num_pixels = np.zeros(256, np.int64)
        self.area_m2 = np.zeros(256)
        self._values = values
        self._pixel_m2 = pixel_areas_m2(grid, equal_area_crs(grid))

    def add(self, row: int, strip: np.ndarray) -> None:
        """Counts uint8 [rows, grid width], whose first row is `row` of the grid."""
        self.num_pixels += np.bincount(strip.ravel(), minlength=256)
        first_cols = np.arange(0, strip.shape[1], BLOCK_PX)
        pixel_m2 = self._pixel_m2[np.arange(row, row + len(strip)) // BLOCK_PX]
        for value in self._values:
            counts = np.add.reduceat(strip == value, first_cols, axis=1, dtype=np.int64)
            self.area_m2[value] += float((counts * pixel_m2).sum())
