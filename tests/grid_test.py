import numpy as np
import pytest

from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

STEP = 8.983152841195215e-05  # degrees; Sen1Floods11's pixel


def _chip(longitude: float, latitude: float, size: int = 512) -> tuple:
    """Arguments of a chip in degrees, centred on a point."""
    return "EPSG:4326", (STEP, 0.0, longitude - STEP * size / 2, 0.0, -STEP, latitude + STEP * size / 2), size, size


@pytest.mark.parametrize(
    ("longitude", "latitude", "code"),
    [
        (-0.76, 38.1, 32630),  # zone 30 is 6 W to 0
        (5.82, 9.08, 32631),
        (-57.75, -24.4, 32721),  # south of the equator: 327xx
        (179.9, 1.0, 32660),
        (-179.9, -1.0, 32701),
        (6.0, 60.0, 32632),  # plain zones: no exception for Norway
    ],
)
def test_zone_is_that_of_the_centre(longitude, latitude, code):
    assert grid_lib.utm_crs(Grid(*_chip(longitude, latitude))) == f"EPSG:{code}"


@pytest.mark.parametrize(("longitude", "latitude"), [(-0.76, 38.1), (-57.75, -24.4), (105.9, 13.3)])
def test_tile_is_centred_and_on_the_lattice(longitude, latitude):
    tile = grid_lib.tile_grid(*_chip(longitude, latitude))
    assert (tile.width, tile.height) == (320, 320)
    a, b, left, d, e, top = tile.transform
    assert (a, b, d, e) == (16, 0, 0, -16)
    assert left % 16 == 0
    assert top % 16 == 0
    x, y = grid_lib.project("EPSG:4326", tile.crs, np.array([longitude]), np.array([latitude]))
    assert abs(left + 160 * 16 - x[0]) <= 8  # half a pixel of snapping
    assert abs(top - 160 * 16 - y[0]) <= 8


def test_utm_tile_on_the_lattice_is_its_own_grid():
    source = Grid("EPSG:32631", (16.0, 0.0, 16 * 30000.0, 0.0, -16.0, 16 * 60000.0), 320, 320)
    assert grid_lib.tile_grid(source.crs, source.transform, 320, 320) == source
    assert grid_lib.scene_grid(source) == source


def test_scene_grid_covers_the_outline_and_no_more():
    source = Grid(*_chip(-0.76, 38.1))
    scene = grid_lib.scene_grid(source)
    rows, cols = scene.pixels(*grid_lib.project(source.crs, scene.crs, *grid_lib.outline(source)))
    for positions, size in ((rows, scene.height), (cols, scene.width)):
        assert 0 <= positions.min() < 1
        assert size - 1 < positions.max() <= size
    assert scene.transform[2] % 16 == 0
    assert scene.transform[5] % 16 == 0


def test_window_shifts_the_origin():
    grid = Grid("EPSG:32631", (16.0, 0.0, 160.0, 0.0, -16.0, 320.0), 100, 100)
    assert grid.window(row=3, col=-2, height=5, width=7) == Grid(
        "EPSG:32631", (16.0, 0.0, 160.0 - 2 * 16, 0.0, -16.0, 320.0 - 3 * 16), 7, 5
    )


def test_points_and_pixels_are_inverse_for_a_rotated_grid():
    grid = Grid("EPSG:32631", (10.0, 3.0, 500.0, 2.0, -10.0, 900.0), 100, 100)
    rows, cols = np.array([0.0, 12.5]), np.array([7.25, 99.0])
    np.testing.assert_allclose(grid.pixels(*grid.points(rows, cols)), (rows, cols), atol=1e-9)


def test_same_grid_tolerates_rounding_but_not_a_shift():
    first = Grid(*_chip(-0.76, 38.1))
    a, b, c, d, e, f = first.transform
    assert grid_lib.same_grid(first, Grid(first.crs, (a + 1e-16, b, c, d, e + 1e-16, f), 512, 512))
    assert not grid_lib.same_grid(first, Grid(first.crs, (a, b, c + 0.1 * STEP, d, e, f), 512, 512))
    assert not grid_lib.same_grid(first, Grid(first.crs, first.transform, 512, 511))
    assert not grid_lib.same_grid(first, Grid("EPSG:4258", first.transform, 512, 512))


def test_poles_and_unknown_crs_are_refused():
    with pytest.raises(UserError, match="outside of UTM"):
        grid_lib.tile_grid(*_chip(0.0, 88.0))
    with pytest.raises(UserError, match="EPSG:1"):
        grid_lib.project("EPSG:1", "EPSG:4326", np.zeros(1), np.zeros(1))
