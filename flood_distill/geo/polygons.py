"""Water masks as polygons: GeoJSON in longitude and latitude, with areas measured on the map grid."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features

from flood_distill import contract
from flood_distill.geo import grid as grid_lib

Ring = np.ndarray  # float64 [points, 2], x and y, the first point repeated at the end
_DECIMALS = 7  # of a degree: 1 cm
_CHUNK_POLYGONS = 1000  # projected together; bounds memory


def water_polygons(mask_path: Path) -> Iterator[list[Ring]]:
    """Yields the polygons of the water in a uint8 mask raster (0, 1, 255): outer ring, then holes, in its crs.

    Pixels that touch at a corner only belong to different polygons: so every polygon is valid.
    """
    with rasterio.open(mask_path) as dataset:
        band = rasterio.band(dataset, 1)
        # Given as its own mask, the raster's dry land, 0, is left out before it is traced.
        for geometry, value in rasterio.features.shapes(band, mask=band, connectivity=4, transform=dataset.transform):
            if value == contract.WATER:
                yield [np.asarray(ring, np.float64) for ring in geometry["coordinates"]]


def signed_area(ring: Ring) -> float:
    """Returns the area in squared units of the coordinates, positive if counter-clockwise (shoelace formula)."""
    x, y = (ring - ring[0]).T  # small numbers: UTM northings squared would cost digits
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def polygon_area(rings: Sequence[Ring]) -> float:
    """Returns the area of a polygon without its holes."""
    return abs(signed_area(rings[0])) - sum(abs(signed_area(hole)) for hole in rings[1:])


def write_geojson(polygons: Iterable[list[Ring]], crs: str, path: Path, name: str) -> int:
    """Writes polygons as a GeoJSON FeatureCollection (RFC 7946: EPSG:4326, outer rings counter-clockwise).

    Each feature has ``area_m2``, measured in `crs`, which must be in metres; in UTM that is within 0.1 % of the area on
    the ground. A scene across the antimeridian keeps continuous longitudes, beyond 180 degrees on one side.

    Args:
        polygons: outer ring, then holes, in `crs`.
        crs: their coordinate reference system.
        path: file to write.
        name: of the collection.

    Returns:
        The number of polygons.
    """
    count = 0
    with path.open("w") as file:
        file.write(f'{{"type": "FeatureCollection", "name": {json.dumps(name)}, "features": [')
        for rings, lonlat_rings in _with_lonlat(polygons, crs):
            file.write((",\n" if count else "\n") + json.dumps(_feature(count, rings, lonlat_rings)))
            count += 1
        file.write("\n]}\n")
    return count


def _feature(number: int, rings: list[Ring], lonlat_rings: list[Ring]) -> dict:
    return {
        "type": "Feature",
        "id": number,
        "properties": {"class": "water", "area_m2": round(polygon_area(rings), 2)},
        "geometry": {
            "type": "Polygon",
            "coordinates": [
                _oriented(ring, counter_clockwise=index == 0).round(_DECIMALS).tolist()
                for index, ring in enumerate(lonlat_rings)
            ],
        },
    }


def _oriented(ring: Ring, counter_clockwise: bool) -> Ring:
    return ring if (signed_area(ring) > 0) == counter_clockwise else ring[::-1]


def _with_lonlat(polygons: Iterable[list[Ring]], crs: str) -> Iterator[tuple[list[Ring], list[Ring]]]:
    """Yields each polygon with its rings in longitude and latitude; many are projected at once."""
    remaining = iter(polygons)
    reference = None
    while chunk := list(itertools.islice(remaining, _CHUNK_POLYGONS)):
        sizes = [len(ring) for rings in chunk for ring in rings]
        x, y = np.concatenate([ring for rings in chunk for ring in rings]).T
        longitudes, latitudes = grid_lib.project(crs, grid_lib.GEOGRAPHIC_CRS, x, y)
        reference = longitudes[0] if reference is None else reference
        longitudes = longitudes - 360 * np.round((longitudes - reference) / 360)
        lonlat = iter(np.split(np.stack([longitudes, latitudes], axis=1), np.cumsum(sizes)[:-1]))
        for rings in chunk:
            yield rings, [next(lonlat) for _ in rings]
