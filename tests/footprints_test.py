import pytest

from flood_distill.geo import footprints
from flood_distill.geo.grid import Grid

STEP = 8.983152841195215e-05  # degrees; Sen1Floods11's pixel
SIZE = 512 * STEP


def _chip(west: float, north: float) -> Grid:
    return Grid("EPSG:4326", (STEP, 0.0, west, 0.0, -STEP, north), 512, 512)


def test_footprint_of_a_chip_in_degrees_is_its_box():
    assert footprints.footprint(_chip(10.0, 50.0)) == pytest.approx((10.0, 50.0 - SIZE, 10.0 + SIZE, 50.0))


def test_footprint_of_a_utm_tile_holds_all_corners():
    tile = Grid("EPSG:32631", (16.0, 0.0, 320000.0, 0.0, -16.0, 5000000.0), 320, 320)
    west, south, east, north = footprints.footprint(tile)
    assert north - south == pytest.approx(5120 / 111_000, rel=0.05)
    assert 0 < west < east < 3  # zone 31, west of its central meridian


@pytest.mark.parametrize(
    ("west", "north", "meets"),
    [
        (10.0, 50.0, True),  # the same
        (10.0 + SIZE, 50.0, False),  # a neighbour shares an edge, no pixel
        (10.0 + SIZE - STEP, 50.0, True),  # one column in common
        (10.0 + SIZE - STEP, 50.0 + SIZE - STEP, True),  # one pixel in common
        (10.0, 50.0 + 2 * SIZE, False),
        (10.0 + 360, 50.0, True),
    ],
)
def test_meeting_means_sharing_ground(west, north, meets):
    first = footprints.footprint(_chip(10.0, 50.0))
    second = (west, north - SIZE, west + SIZE, north)
    assert footprints.meets([first], [(0, 0, 1, 1), second]).tolist() == [meets]


def test_nothing_meets_an_empty_list():
    assert footprints.meets([(0, 0, 1, 1)], []).tolist() == [False]
    assert footprints.meets([], [(0, 0, 1, 1)]).tolist() == []


def test_box_across_the_180th_meridian():
    box = footprints.footprint(_chip(180 - SIZE / 2, 10.0))
    assert box[2] - box[0] == pytest.approx(SIZE)
    beyond = footprints.footprint(_chip(-180 + SIZE / 4, 10.0))
    assert footprints.meets([box], [beyond]).tolist() == [True]
