"""Tiles cover their event, lie on the house grid, and lose no ground where zones meet."""

import numpy as np
import pytest

shapely = pytest.importorskip("shapely")

from data_prep.earth_engine_curation import shapes, tiling  # noqa: E402
from flood_distill.geo import grid as grid_lib  # noqa: E402

PLACES = {
    "inside one zone": (90.1, 24.1, 90.3, 24.25),
    "two zones": (5.9, 51.95, 6.1, 52.05),
    "two hemispheres": (33.0, -0.06, 33.1, 0.06),
    "four zones": (35.95, -0.06, 36.05, 0.06),
    "the 180th meridian": (179.92, -16.1, -179.92, -16.0),
    "far north": (23.9, 71.0, 24.2, 71.1),
    "the last zone's edge": (179.9, 66.0, 180.0, 66.05),
    "smaller than a tile": (90.1, 24.1, 90.101, 24.101),
}


@pytest.mark.parametrize("name", PLACES)
def test_no_ground_is_lost_and_every_tile_keeps_its_grid(name):
    area = shapes.box(*PLACES[name])
    places = tiling.places(area)
    covered = shapes.union([place.area for place in places])
    # Tiles are bounded by straight lines in UTM, outlines here are straight in degrees: metres at most between them.
    assert area.difference(covered.buffer(1e-6)).area == 0
    for place in places:
        assert place.area.intersection(area).area > 0
        a, b, c, d, e, f = place.grid.transform
        assert (a, b, d, e, place.grid.shape) == (16, 0, 0, -16, (320, 320))
        assert (c % 16, f % 16) == (0, 0)
        # What conversion will make of the tile is the tile: UTM zone of its own centre.
        assert grid_lib.tile_grid(place.grid.crs, place.grid.transform, 320, 320) == place.grid
    assert len({place.cell for place in places}) == len(places)


@pytest.mark.parametrize(
    ("name", "zones"),
    [
        ("inside one zone", {"46N"}),
        ("two zones", {"31N", "32N"}),
        ("two hemispheres", {"36N", "36S"}),
        ("four zones", {"36N", "36S", "37N", "37S"}),
        ("the 180th meridian", {"60S", "01S"}),
    ],
)
def test_zone_is_that_of_the_centre(name, zones):
    places = tiling.places(shapes.box(*PLACES[name]))
    assert {place.cell[:3] for place in places} == zones
    for place in places:
        assert place.grid.crs == f"EPSG:{'326' if place.cell[2] == 'N' else '327'}{place.cell[:2]}"


def test_tiles_of_one_zone_lie_on_one_lattice_whatever_the_event():
    first = tiling.places(shapes.box(90.10, 24.10, 90.30, 24.25))
    second = tiling.places(shapes.box(90.17, 24.13, 90.42, 24.31))
    shared = {place.cell: place.grid for place in first}
    both = [place for place in second if place.cell in shared]
    assert len(both) > 5
    assert all(shared[place.cell] == place.grid for place in both)
    lefts = {place.grid.transform[2] % 5120 for place in first}
    assert lefts == {0.0}
    areas = sum(place.area.area for place in first)
    assert shapes.union([place.area for place in first]).area == pytest.approx(areas, rel=1e-6)  # no overlap


def test_cell_names_the_lattice():
    (place,) = tiling.places(shapes.box(90.1, 24.1, 90.101, 24.101))
    zone, column, row = place.cell.split("-")
    assert zone == "46N"
    assert place.grid.transform[2] == int(column[1:]) * 5120  # western edge
    assert place.grid.transform[5] == (int(row[1:]) + 1) * 5120  # northern edge


def test_islands_need_no_tiles_between_them():
    islands = shapes.union([shapes.box(90.1, 24.1, 90.11, 24.11), shapes.box(92.1, 24.1, 92.11, 24.11)])
    assert len(tiling.places(islands)) <= 8  # 200 km apart


def test_random_areas_at_zone_edges_are_covered():
    generator = np.random.default_rng(0)
    for _ in range(12):
        centre = 6 * generator.integers(-29, 30) + generator.uniform(-0.05, 0.05), generator.uniform(-70, 75)
        corners = np.array(centre) + generator.uniform(-0.06, 0.06, (5, 2))
        area = shapely.convex_hull(shapely.multipoints(corners))
        covered = shapes.union([place.area for place in tiling.places(area)])
        assert area.difference(covered.buffer(1e-6)).area == 0, centre


def test_outline_across_the_180th_meridian_is_in_two_parts():
    places = tiling.places(shapes.box(-180, -16.02, -179.999, -16.01))
    assert all(
        place.area.bounds == pytest.approx((-180, *place.area.bounds[1:2], 180, place.area.bounds[3]))
        for place in places
    )
    assert all(len(place.area.geoms) == 2 for place in places)
    assert all(place.area.area < 0.01 for place in places)
