"""Areas in longitude and latitude, and what becomes of them at the 180th meridian.

Areas are Shapely polygons or multipolygons, planar in degrees, x from -180 to 180: what crosses the 180th meridian is
in two parts.
"""

from collections.abc import Callable, Sequence

import numpy as np
import shapely
import shapely.geometry
import shapely.ops
from shapely.geometry.base import BaseGeometry

EMPTY = shapely.Polygon()
_WORLD = shapely.box(-180, -90, 180, 90)
_TURNS_DEG = (-720, -360, 0, 360, 720)


def area_of(geometry: BaseGeometry) -> BaseGeometry:
    """Returns the polygons of any geometry as one valid area within -180 to 180.

    A ring with an edge of more than 180 degrees of longitude is taken the short way round, across the 180th meridian;
    longitudes beyond 180 count on. Points and lines are dropped.
    """
    polygons = [part for part in _parts(geometry) if isinstance(part, shapely.Polygon)]
    wrapped = [wrap(_valid(_unwrap(polygon))) for polygon in polygons]
    return _polygons_of(shapely.union_all(wrapped)) if wrapped else EMPTY


def wrap(area: BaseGeometry) -> BaseGeometry:
    """Returns an area whose longitudes may go beyond 180 in parts within -180 to 180."""
    west, _, east, _ = area.bounds if not area.is_empty else (0, 0, 0, 0)
    if west >= -180 and east <= 180:
        return area
    turned = [shapely.ops.transform(_turn(degrees), area) for degrees in _TURNS_DEG]
    return _polygons_of(shapely.union_all([part.intersection(_WORLD) for part in turned if part.intersects(_WORLD)]))


def box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """Returns a box; `west` greater than `east` means that it crosses the 180th meridian."""
    return wrap(shapely.box(west, south, east if west <= east else east + 360, north))


def around(longitudes: np.ndarray, centre: float) -> np.ndarray:
    """Returns longitudes as they are met on the short way from `centre`, so beyond 180 where need be."""
    return centre + (longitudes - centre + 180) % 360 - 180


def union(areas: Sequence[BaseGeometry]) -> BaseGeometry:
    """Returns the union; empty for no areas."""
    return _polygons_of(shapely.union_all(list(areas))) if areas else EMPTY


def _turn(degrees: float) -> Callable:
    return lambda xs, ys, zs=None: (np.asarray(xs) + degrees, ys)


def _parts(geometry: BaseGeometry) -> list[BaseGeometry]:
    return [inner for part in getattr(geometry, "geoms", [geometry]) for inner in getattr(part, "geoms", [part])]


def _polygons_of(geometry: BaseGeometry) -> BaseGeometry:
    polygons = [part for part in _parts(geometry) if isinstance(part, shapely.Polygon) and part.area > 0]
    if len(polygons) == 1:
        return polygons[0]
    return shapely.MultiPolygon(polygons) if polygons else EMPTY


def _valid(polygon: BaseGeometry) -> BaseGeometry:
    return polygon if polygon.is_valid else _polygons_of(shapely.make_valid(polygon))


def _unwrap(polygon: shapely.Polygon) -> shapely.Polygon:
    shell = _unwrap_ring(polygon.exterior)
    centre = float(shell[:, 0].mean())
    holes = [_unwrap_ring(ring, centre) for ring in polygon.interiors]
    return shapely.Polygon(shell, holes)


def _unwrap_ring(ring: shapely.LinearRing, near: float | None = None) -> np.ndarray:
    points = np.asarray(ring.coords)[:, :2].copy()
    if near is not None:
        points[:, 0] += around(points[0, 0], near) - points[0, 0]
    steps = np.diff(points[:, 0])
    if np.abs(steps).max() <= 180:
        return points
    points[1:, 0] = points[0, 0] + np.cumsum((steps + 180) % 360 - 180)
    return points
