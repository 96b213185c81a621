"""Polygons of a mask: areas by counting pixels, holes, corners, longitude and latitude."""

import json

import numpy as np
import pytest
import rasterio

from flood_distill.geo import cog, polygons
from flood_distill.geo.grid import Grid

GRID = Grid("EPSG:32630", (16.0, 0.0, 640000.0, 0.0, -16.0, 4224000.0), 8, 6)
MASK = np.array(
    [
        [1, 1, 1, 0, 0, 0, 0, 255],
        [1, 0, 1, 0, 0, 0, 0, 255],
        [1, 1, 1, 0, 0, 0, 0, 255],
        [0, 0, 0, 1, 0, 0, 0, 255],
        [0, 0, 0, 0, 0, 1, 1, 255],
        [0, 0, 0, 0, 0, 0, 0, 255],
    ],
    np.uint8,
)


@pytest.fixture
def mask_path(tmp_path):
    path = tmp_path / "mask.tif"
    with cog.open_strips(path, GRID) as writer:
        writer.write(0, MASK[:4])
        writer.write(4, MASK[4:])
    return path


def test_geojson_has_the_water_with_its_area(mask_path, tmp_path):
    path = tmp_path / "water.geojson"
    assert polygons.write_geojson(polygons.water_polygons(mask_path), GRID.crs, path, "water") == 3
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    # A ring of 8 pixels with a hole, a pixel that touches it at a corner only, two pixels: 16 m x 16 m each.
    areas = sorted(feature["properties"]["area_m2"] for feature in collection["features"])
    assert areas == [1 * 256, 2 * 256, 8 * 256]
    ring = max(collection["features"], key=lambda feature: feature["properties"]["area_m2"])["geometry"]["coordinates"]
    assert len(ring) == 2
    for index, points in enumerate(ring):
        assert points[0] == points[-1]
        assert (polygons.signed_area(np.array(points)) > 0) == (index == 0)  # RFC 7946: outer counter-clockwise


def test_coordinates_are_longitude_and_latitude(mask_path, tmp_path):
    path = tmp_path / "water.geojson"
    polygons.write_geojson(polygons.water_polygons(mask_path), GRID.crs, path, "water")
    points = np.concatenate(
        [feature["geometry"]["coordinates"][0] for feature in json.loads(path.read_text())["features"]]
    )
    xs, ys = rasterio.warp.transform("EPSG:4326", GRID.crs, points[:, 0].tolist(), points[:, 1].tolist())
    assert min(xs) == pytest.approx(640000, abs=0.05)
    assert max(ys) == pytest.approx(4224000, abs=0.05)
    assert max(xs) == pytest.approx(640000 + 7 * 16, abs=0.05)


def test_mask_without_water_gives_an_empty_collection(tmp_path):
    mask = tmp_path / "mask.tif"
    with cog.open_strips(mask, GRID) as writer:
        writer.write(0, np.where(MASK == 1, 0, MASK))
    path = tmp_path / "water.geojson"
    assert polygons.write_geojson(polygons.water_polygons(mask), GRID.crs, path, "water") == 0
    assert json.loads(path.read_text())["features"] == []


def test_longitudes_stay_continuous_across_the_antimeridian(tmp_path):
    # UTM zone 1 begins at 180 W: x = 166021 lies there at the equator.
    square = np.array([[160000, 0], [170000, 0], [170000, 5000], [160000, 5000], [160000, 0]], float)
    path = tmp_path / "water.geojson"
    polygons.write_geojson([[square]], "EPSG:32601", path, "water")
    longitudes = np.array(json.loads(path.read_text())["features"][0]["geometry"]["coordinates"][0])[:, 0]
    assert np.ptp(longitudes) < 0.2
