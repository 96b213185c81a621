"""Which tiles cover an area: one lattice of 320 x 320 pixels in every UTM zone.

One rule for every tile: it lies in the UTM zone of its own centre, the rule of `geo.grid.tile_grid`, so that
conversion copies its pixels. Cells of a zone's lattice begin at whole multiples of 5120 m from the zone's origin. A
cell that holds ground of its zone while its centre lies beyond the zone's edge (the meridian, or the equator) is moved
until its centre lies inside: no ground is lost at the edge, and the tiles there overlap.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from data_prep.earth_engine_curation import shapes
from flood_distill import contract
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

CELL_M = contract.TILE_SIZE_PX * contract.PIXEL_SIZE_M
_ZONE_DEG = 6
_INSIDE_DEG = 0.001  # how far inside the meridian the centre of a moved tile is: 111 m at the equator, 12 m at 84 N
_FALSE_NORTHING_M = 10_000_000.0  # y of the equator in southern zones
_EDGE_POINTS = 5  # points a side of a tile's outline in degrees; straight lines between them err by less than 0.1 m


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tile is.

    Attributes:
        cell: zone, hemisphere, column and row of its lattice cell, such as ``45N-C091-R0523``.
        grid: its pixels.
        area: its outline in degrees, see `shapes`.
    """

    cell: str
    grid: Grid
    area: BaseGeometry


def places(area: BaseGeometry) -> list[Place]:
    """Returns the tiles that together cover an area, each of which shares ground with it, sorted by cell.

    Args:
        area: polygon or multipolygon in degrees within -180 to 180 and the latitudes of UTM.
    """
    found = [place for part, crs, name in _zone_parts(area) for place in _places_of_zone(part, crs, name)]
    return sorted(found, key=lambda place: place.cell)


def outline(grid: Grid) -> BaseGeometry:
    """Returns the outline of a grid in degrees; in two parts where it crosses the 180th meridian."""
    return shapes.wrap(_outlines([grid])[0])


def _zone_parts(area: BaseGeometry) -> Iterator[tuple[BaseGeometry, str, str]]:
    """Yields the part of an area in each UTM zone, the zone's crs and its name such as ``45N``."""
    west, south, east, north = area.bounds
    for zone in range(int((west + 180) // _ZONE_DEG), min(int((east + 180) // _ZONE_DEG), 59) + 1):
        left = zone * _ZONE_DEG - 180
        for letter, base, low, high in (("S", 32700, min(south, 0), 0), ("N", 32600, 0, max(north, 0))):
            part = shapes.union([area.intersection(shapely.box(left, low, left + _ZONE_DEG, high))])
            if not part.is_empty:
                yield part, f"EPSG:{base + zone + 1}", f"{zone + 1:02d}{letter}"


def _places_of_zone(part: BaseGeometry, crs: str, name: str) -> list[Place]:
    cells = _cells_of(part, crs)
    grids = [_grid(crs, column * CELL_M, (row + 1) * CELL_M) for column, row in cells]
    # A zone's own area is whole: only the tile's outline may pass the 180th meridian, so it is compared unwrapped.
    meets = shapely.area(shapely.intersection(_outlines(grids), part)) > 0
    return [
        _place(f"{name}-C{cell[0]:03d}-R{cell[1]:04d}", _moved_inside(grid) if beyond else grid)
        for cell, grid, met, beyond in zip(cells, grids, meets, _beyond(grids), strict=True)
        if met
    ]


def _place(cell: str, grid: Grid) -> Place:
    return Place(cell, grid, outline(grid))


def _cells_of(part: BaseGeometry, crs: str) -> list[tuple[int, int]]:
    """Column and row of every cell that an area may touch, polygon by polygon so that islands need no ocean between."""
    cells = set()
    for polygon in getattr(part, "geoms", [part]):
        # Straight in degrees is bent in UTM: by metres between points 0.1 degrees apart; a tenth of a cell is slack.
        points = shapely.get_coordinates(shapely.segmentize(polygon.exterior, 0.1))
        xs, ys = grid_lib.project(grid_lib.GEOGRAPHIC_CRS, crs, points[:, 0], points[:, 1])
        columns = range(math.floor(xs.min() / CELL_M - 0.1), math.floor(xs.max() / CELL_M + 0.1) + 1)
        rows = range(math.floor(ys.min() / CELL_M - 0.1), math.floor(ys.max() / CELL_M + 0.1) + 1)
        cells |= {(column, row) for column in columns for row in rows}
    return sorted(cells)


def _grid(crs: str, left: float, top: float) -> Grid:
    size, pixel = contract.TILE_SIZE_PX, contract.PIXEL_SIZE_M
    return Grid(crs, (pixel, 0.0, left, 0.0, -pixel, top), size, size)


def _beyond(grids: list[Grid]) -> np.ndarray:
    """Returns bool [grids]: whether the centre lies beyond the edge of its zone."""
    xs, ys = np.array([_centre(grid) for grid in grids]).T
    longitudes, latitudes = grid_lib.project(grids[0].crs, grid_lib.GEOGRAPHIC_CRS, xs, ys)
    west, northern = _zone_of(grids[0].crs)
    longitudes = shapes.around(longitudes, west + _ZONE_DEG / 2)
    return (longitudes < west) | (longitudes >= west + _ZONE_DEG) | ((latitudes >= 0) != northern)


def _moved_inside(grid: Grid) -> Grid:
    """Returns the tile moved along its rows or columns until its centre lies inside its zone."""
    x, y = _centre(grid)
    west, northern = _zone_of(grid.crs)
    y = max(y, contract.PIXEL_SIZE_M) if northern else min(y, _FALSE_NORTHING_M - contract.PIXEL_SIZE_M)
    first, last = (_easting(grid.crs, west + inside, y) for inside in (_INSIDE_DEG, _ZONE_DEG - _INSIDE_DEG))
    pixel, half_m = contract.PIXEL_SIZE_M, CELL_M / 2
    x = min(max(x, math.ceil(first / pixel) * pixel), math.floor(last / pixel) * pixel)
    return _grid(grid.crs, x - half_m, y + half_m)


def _easting(crs: str, longitude: float, northing: float) -> float:
    """Returns the x of a meridian at a y of a zone; the fixed point is reached to millimetres in three rounds."""
    x = 500_000.0
    for _ in range(3):
        latitude = grid_lib.project(crs, grid_lib.GEOGRAPHIC_CRS, np.array([x]), np.array([northing]))[1]
        x = float(grid_lib.project(grid_lib.GEOGRAPHIC_CRS, crs, np.array([longitude]), latitude)[0][0])
    return x


def _centre(grid: Grid) -> tuple[float, float]:
    _, _, left, _, _, top = grid.transform
    return left + CELL_M / 2, top - CELL_M / 2


def _zone_of(crs: str) -> tuple[float, bool]:
    """Returns a zone's western meridian in degrees and whether it is a northern one."""
    return (int(crs[-2:]) - 1) * _ZONE_DEG - 180.0, crs.startswith("EPSG:326")


def _outlines(grids: list[Grid]) -> np.ndarray:
    """Returns polygons [grids] in degrees, longitudes counted on from the tile's first corner."""
    steps = np.linspace(0, contract.TILE_SIZE_PX, _EDGE_POINTS)[:-1]
    low, high = 0 * steps, 0 * steps + contract.TILE_SIZE_PX
    rows = np.concatenate([low, steps, high, contract.TILE_SIZE_PX - steps])
    cols = np.concatenate([steps, high, contract.TILE_SIZE_PX - steps, low])
    corners = [grid.points(rows, cols) for grid in grids]
    xs, ys = (np.array([corner[axis] for corner in corners]) for axis in (0, 1))
    longitudes, latitudes = grid_lib.project(grids[0].crs, grid_lib.GEOGRAPHIC_CRS, xs, ys)
    middle = _zone_of(grids[0].crs)[0] + _ZONE_DEG / 2
    return shapely.polygons(np.stack([shapes.around(longitudes, middle), latitudes], axis=-1))
