"""Polygons of a mask: areas on the ground, holes, corners, longitude and latitude, bands that do not show."""

import json

import numpy as np
import pytest
import rasterio
import shapely

from flood_distill.geo import areas, cog, polygons
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


def write_mask(path, mask=MASK, grid=GRID):
    with cog.open_strips(path, grid) as writer:
        writer.write(0, mask[:4])
        writer.write(4, mask[4:])
    return path


@pytest.fixture
def mask_path(tmp_path):
    return write_mask(tmp_path / "mask.tif")


def features(shapes, path, grid=GRID, **kwargs):
    count, left_out = polygons.write_geojson(shapes, grid, path, "water", **kwargs)
    collection = json.loads(path.read_text())
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == count
    return collection["features"], left_out


def test_geojson_has_the_water_with_its_area(mask_path, tmp_path):
    found, _ = features(polygons.water_polygons(mask_path), tmp_path / "water.geojson")
    # A ring of 8 pixels with a hole, a pixel that touches it at a corner only, two pixels: 16 m x 16 m each on the map,
    # where UTM is 1 / 0.9998^2 too small (140 km from the central meridian; 0.9996 on it).
    sizes_m2 = sorted(feature["properties"]["area_m2"] for feature in found)
    np.testing.assert_allclose(sizes_m2, [1 * 256, 2 * 256, 8 * 256], rtol=1e-3)
    ring = max(found, key=lambda feature: feature["properties"]["area_m2"])["geometry"]["coordinates"]
    assert len(ring) == 2
    for index, points in enumerate(ring):
        assert points[0] == points[-1]
        assert (areas.signed_area(np.array(points)) > 0) == (index == 0)  # RFC 7946: outer counter-clockwise


@pytest.mark.parametrize("value", [1, 0])
def test_bands_do_not_show(tmp_path, value):
    generator = np.random.default_rng(0)
    mask = (generator.random((60, 40)) < 0.6).astype(np.uint8)  # above the threshold of percolation: long outlines
    mask[20:23] = value
    path = write_mask(tmp_path / "mask.tif", mask, Grid(GRID.crs, GRID.transform, 40, 60))
    whole = list(polygons.water_polygons(path, value, band_rows_px=60))
    for band_rows_px in (1, 7, 20, 23):
        banded = list(polygons.water_polygons(path, value, band_rows_px))
        assert len(banded) == len(whole)
        assert shapely.is_valid(banded).all()
        for first, second in zip(_sorted(banded), _sorted(whole), strict=True):
            assert first.equals(second)
    assert sum(polygon.area for polygon in whole) == (mask == value).sum() * 256


def _sorted(shapes):
    return sorted(shapes, key=lambda shape: (shape.bounds, shape.area))


def test_small_ones_are_left_out_and_counted(mask_path, tmp_path):
    found, left_out = features(polygons.water_polygons(mask_path), tmp_path / "w.geojson", min_area_m2=500)
    assert (len(found), left_out) == (2, 1)


def test_simplified_outlines_have_fewer_corners_and_the_area_of_the_traced(tmp_path):
    rows, cols = np.mgrid[:60, :60]
    mask = ((rows - 30) ** 2 + (cols - 30) ** 2 < 20**2).astype(np.uint8)
    path = write_mask(tmp_path / "mask.tif", mask, Grid(GRID.crs, GRID.transform, 60, 60))
    (traced,), _ = features(polygons.water_polygons(path), tmp_path / "a.geojson")
    (simple,), _ = features(polygons.water_polygons(path), tmp_path / "b.geojson", simplify_m=16)
    corners = [len(feature["geometry"]["coordinates"][0]) for feature in (traced, simple)]
    assert corners[1] < corners[0] / 3
    assert traced["properties"]["area_m2"] == simple["properties"]["area_m2"]


def test_coordinates_are_longitude_and_latitude(mask_path, tmp_path):
    found, _ = features(polygons.water_polygons(mask_path), tmp_path / "water.geojson")
    points = np.concatenate([feature["geometry"]["coordinates"][0] for feature in found])
    xs, ys = rasterio.warp.transform("EPSG:4326", GRID.crs, points[:, 0].tolist(), points[:, 1].tolist())
    assert min(xs) == pytest.approx(640000, abs=0.05)
    assert max(ys) == pytest.approx(4224000, abs=0.05)
    assert max(xs) == pytest.approx(640000 + 7 * 16, abs=0.05)


def test_mask_without_water_gives_an_empty_collection(tmp_path):
    path = write_mask(tmp_path / "mask.tif", np.where(MASK == 1, 0, MASK).astype(np.uint8))
    assert features(polygons.water_polygons(path), tmp_path / "water.geojson") == ([], 0)


def test_what_crosses_the_antimeridian_is_cut_there(tmp_path):
    # UTM zone 1 begins at 180 W: x = 166021 lies there at the equator.
    square = shapely.box(160000, 0, 170000, 5000)
    grid = Grid("EPSG:32601", (16.0, 0.0, 160000.0, 0.0, -16.0, 5008.0), 625, 313)
    (feature,), _ = features([square], tmp_path / "water.geojson", grid)
    assert feature["geometry"]["type"] == "MultiPolygon"
    west, east = sorted(np.array(part[0])[:, 0].mean() for part in feature["geometry"]["coordinates"])
    assert -180 <= west < -179.9
    assert 179.9 < east <= 180
    bounds = shapely.geometry.shape(polygons.outline_lonlat(grid)).bounds
    assert bounds[0] == -180
    assert bounds[2] == 180


def test_areas_are_those_on_the_ground_in_any_projection():
    """A degree by a degree around 60 N, by the formula for the zone of an ellipsoid (Snyder, 1987, equation 3-12)."""
    degrees = Grid("EPSG:4326", (0.001, 0.0, 10.0, 0.0, -0.001, 60.5), 1000, 1000)
    axis_m, square = 6378137.0, 0.00669437999014  # WGS 84: half axis, squared eccentricity
    sine, first = np.sin(np.radians([60.5, 59.5])), np.sqrt(square)
    q = (1 - square) * (sine / (1 - square * sine**2) + np.arctanh(first * sine) / first)
    total_m2 = total_area(degrees)
    assert total_m2 == pytest.approx(np.radians(1) * axis_m**2 * (q[0] - q[1]) / 2, rel=1e-4)
    # The same ground in Web Mercator, where a square metre of the map is cos^2(60) = 1/4 of one on the ground.
    left, top = rasterio.warp.transform("EPSG:4326", "EPSG:3857", [10, 11], [60.5, 59.5])
    step_m, height = (left[1] - left[0]) / 1000, round((top[0] - top[1]) / 100)
    mercator = Grid("EPSG:3857", (step_m, 0.0, left[0], 0.0, -100.0, top[0]), 1000, height)
    assert total_area(mercator) == pytest.approx(total_m2, rel=2e-3)


def total_area(grid):
    counted = areas.ClassAreas(grid, [1])
    for row in range(0, grid.height, 300):
        rows = min(300, grid.height - row)
        counted.add(row, np.ones((rows, grid.width), np.uint8))
    assert counted.num_pixels[1] == grid.width * grid.height
    return counted.area_m2[1]
