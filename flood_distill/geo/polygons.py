"""Water masks as polygons: GeoJSON in longitude and latitude, with areas on the ground.

A mask is traced band by band. What touches the next band waits and is joined with what continues it there, so memory
grows with the polygons that a band's edge cuts, not with the mask.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import rasterio.windows
import shapely
import shapely.geometry

from flood_distill import contract
from flood_distill.geo import areas
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

_DECIMALS = 7  # of a degree: 1 cm
_CHUNK_POLYGONS = 1000  # projected together; bounds memory
BAND_ROWS_PX = 512
_TOP, _BOTTOM = 1, 3  # of bounds in columns and rows


def water_polygons(
    mask_path: Path, value: int = contract.WATER, band_rows_px: int = BAND_ROWS_PX
) -> Iterator[shapely.Polygon]:
    """Yields the polygons of one value of a uint8 raster, in its crs.

    Pixels that touch at a corner only belong to different polygons: so every polygon is valid.
    """
    with rasterio.open(mask_path) as dataset:
        waiting: list[shapely.Polygon] = []
        for top in range(0, dataset.height, band_rows_px):
            bottom = min(top + band_rows_px, dataset.height)
            goes_on, whole = _parted(_traced(dataset, top, bottom - top, value), _TOP, top if waiting else None)
            whole += _dissolved([*waiting, *goes_on])
            waiting, whole = _parted(whole, _BOTTOM, bottom if bottom < dataset.height else None)
            yield from _placed(whole, dataset)


def write_geojson(
    polygons: Iterable[shapely.Polygon],
    grid: Grid,
    path: Path,
    name: str,
    *,
    kind: str = "water",
    min_area_m2: float = 0.0,
    simplify_m: float = 0.0,
) -> tuple[int, int]:
    """Writes polygons as a GeoJSON FeatureCollection (RFC 7946: EPSG:4326, outer rings counter-clockwise).

    Each feature has ``area_m2``, on the ground and of the outline before it is simplified. What crosses the
    antimeridian is cut there, as RFC 7946 wants it (section 3.1.9).

    Args:
        polygons: in the crs of `grid`.
        grid: of the mask that they were traced from.
        path: file to write.
        name: of the collection.
        kind: what a feature is: its property ``class``.
        min_area_m2: smaller ones are left out.
        simplify_m: how far a simplified outline may lie from the traced one, by Douglas and Peucker; 0 keeps every
            corner.

    Returns:
        How many polygons were written, and how many were left out.
    """
    equal_area, count, left_out = areas.equal_area_crs(grid), 0, 0
    with path.open("w") as file:
        file.write(f'{{"type": "FeatureCollection", "name": {json.dumps(name)}, "features": [')
        for chunk in _chunks(polygons):
            sizes_m2 = shapely.area(_projected(chunk, grid.crs, equal_area))
            kept = sizes_m2 >= min_area_m2
            left_out += int(np.sum(~kept))
            shapes = _simplified(np.array(chunk, object)[kept], simplify_m, grid)
            lonlat = _lonlat(shapes, grid)
            for shape, area_m2 in zip(lonlat, sizes_m2[kept], strict=True):
                file.write((",\n" if count else "\n") + json.dumps(_feature(count, shape, area_m2, kind)))
                count += 1
        file.write("\n]}\n")
    return count, left_out


def outline_lonlat(grid: Grid) -> shapely.Geometry:
    """Returns the outline of a grid in longitude and latitude, cut at the antimeridian."""
    ring = np.stack(grid_lib.outline(grid), axis=1)
    (shape,) = _lonlat(np.array([shapely.Polygon(ring)], object), grid)
    return shape


def _traced(dataset: rasterio.DatasetReader, top: int, rows: int, value: int) -> list[shapely.Polygon]:
    """Traces a band of rows; corners are whole numbers of columns and rows, so that bands join without a gap."""
    band = dataset.read(1, window=rasterio.windows.Window(0, top, dataset.width, rows))
    shapes = rasterio.features.shapes(
        band, mask=band == value, connectivity=4, transform=rasterio.Affine.translation(0, top)
    )
    return [shapely.geometry.shape(geometry) for geometry, _ in shapes]


def _parted(
    polygons: list[shapely.Polygon], side: int, row: int | None
) -> tuple[list[shapely.Polygon], list[shapely.Polygon]]:
    """Returns the polygons whose side (an index of their bounds) lies at a row, and the others."""
    there = shapely.bounds(np.array(polygons, object))[..., side] == row if polygons and row is not None else []
    reached = {index for index in np.flatnonzero(there)}
    return (
        [polygon for index, polygon in enumerate(polygons) if index in reached],
        [polygon for index, polygon in enumerate(polygons) if index not in reached],
    )


def _dissolved(polygons: list[shapely.Polygon]) -> list[shapely.Polygon]:
    """Joins polygons that share an edge; corners in the middle of a straight line go."""
    return [part.simplify(0) for part in shapely.get_parts(shapely.union_all(polygons))] if polygons else []


def _placed(polygons: list[shapely.Polygon], dataset: rasterio.DatasetReader) -> Iterable[shapely.Polygon]:
    """Returns polygons of columns and rows in the crs of their raster."""

    grid = Grid("", tuple(dataset.transform)[:6], dataset.width, dataset.height)

    def place(points: np.ndarray) -> np.ndarray:
        return np.stack(grid.points(points[:, 1], points[:, 0]), axis=1)

    return shapely.transform(np.array(polygons, object), place)


def _chunks(polygons: Iterable[shapely.Polygon]) -> Iterator[list[shapely.Polygon]]:
    remaining = iter(polygons)
    while chunk := list(itertools.islice(remaining, _CHUNK_POLYGONS)):
        yield chunk


def _projected(polygons, source_crs: str, target_crs: str) -> np.ndarray:
    """Returns polygons in another crs, all their corners projected at once."""

    def project(points: np.ndarray) -> np.ndarray:
        return np.stack(grid_lib.project(source_crs, target_crs, points[:, 0], points[:, 1]), axis=1)

    return shapely.transform(np.array(polygons, object), project)


def _simplified(polygons: np.ndarray, tolerance_m: float, grid: Grid) -> np.ndarray:
    if not tolerance_m:
        return polygons
    pixel_m = np.sqrt(areas.pixel_areas_m2(grid, areas.equal_area_crs(grid)).mean())
    return shapely.simplify(polygons, tolerance_m * abs(grid.transform[0] or grid.transform[1]) / pixel_m)


def _lonlat(polygons: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns polygons in longitude and latitude; those across the antimeridian in two parts."""
    if not len(polygons):
        return polygons
    lonlat = _projected(polygons, grid.crs, grid_lib.GEOGRAPHIC_CRS)
    around = shapely.get_coordinates(lonlat)[0, 0]
    lonlat = shapely.transform(
        lonlat, lambda points: np.stack([grid_lib.nearest_longitudes(points[:, 0], around), points[:, 1]], axis=1)
    )
    west, _, east, _ = shapely.bounds(lonlat).T
    for index in np.flatnonzero((west < -180) | (east > 180)):
        lonlat[index] = _cut(lonlat[index])
    return shapely.transform(shapely.orient_polygons(lonlat), lambda points: np.round(points, _DECIMALS))


def _cut(polygon: shapely.Polygon) -> shapely.Geometry:
    """Cuts a polygon of continuous longitudes at the antimeridian and brings all parts into [-180, 180]."""
    parts = []
    for turn in (-360, 0, 360):
        part = shapely.intersection(polygon, shapely.box(turn - 180, -90, turn + 180, 90))
        part = shapely.transform(part, lambda points, turn=turn: points - [turn, 0])
        parts += [piece for piece in shapely.get_parts(part) if piece.geom_type == "Polygon"]
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _feature(number: int, shape: shapely.Geometry, area_m2: float, kind: str) -> dict:
    return {
        "type": "Feature",
        "id": number,
        "properties": {"class": kind, "area_m2": round(float(area_m2), 2)},
        "geometry": shapely.geometry.mapping(shape),
    }
