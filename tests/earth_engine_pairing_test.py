"""Which images go together: time, cloud, ground, passes."""

import datetime

import pytest

shapely = pytest.importorskip("shapely")

from data_prep.earth_engine_curation import pairing, shapes, tiling  # noqa: E402
from data_prep.earth_engine_curation.events import Event  # noqa: E402
from data_prep.earth_engine_curation.pairing import Scene  # noqa: E402

HERE = (90.0, 24.0, 90.4, 24.4)
NOON = datetime.datetime(2020, 7, 14, 12, tzinfo=datetime.UTC)
EVENT = Event("A", NOON - datetime.timedelta(days=1), NOON + datetime.timedelta(days=1), shapes.box(*HERE))


def _s1(name, hours=0.0, group="pass", box=HERE):
    return Scene(name, NOON + datetime.timedelta(hours=hours), group, shapes.box(*box))


def _s2(name, hours, group="take", box=HERE, cloud=5.0):
    return Scene(name, NOON + datetime.timedelta(hours=hours), group, shapes.box(*box), cloud)


def _pair(s1, s2, event=EVENT, max_gap_hours=12.0, max_cloud_percent=12.0):
    return pairing.pair(event, s1, s2, max_gap_hours, max_cloud_percent)


def _names(scenes):
    return [scene.scene_id for scene in scenes]


@pytest.mark.parametrize(
    ("hours", "paired"), [(0, True), (-12, True), (12, True), (12 + 1 / 3600, False), (-12 - 1 / 3600, False)]
)
def test_twelve_hours_either_way(hours, paired):
    assert bool(_pair([_s1("a")], [_s2("b", hours)]).pairs) == paired


@pytest.mark.parametrize(("cloud", "paired"), [(0, True), (11.99, True), (12.0, False), (float("nan"), False)])
def test_less_than_twelve_percent_cloud(cloud, paired):
    found = _pair([_s1("a")], [_s2("b", 1, cloud=cloud)])
    assert bool(found.pairs) == paired
    if not paired:
        assert "all 1 Sentinel-2 image(s) have 12 % cloud or more" in found.unpaired["pass"]


def test_without_a_limit_every_image_is_clear():
    assert _pair([_s1("a")], [_s2("b", 1, cloud=99.0)], max_cloud_percent=None).pairs


def test_pass_without_a_partner_is_discarded_with_its_reason():
    s1 = [_s1("a", group="one"), _s1("b", 20, group="two")]
    found = _pair(s1, [_s2("c", -1), _s2("d", -2, cloud=50.0), _s2("e", 21, cloud=40.0), _s2("f", 22, cloud=30.0)])
    assert [_names(pair.s1) for pair in found.pairs] == [["a"]]
    assert _names(found.pairs[0].s2) == ["c"]
    assert found.unpaired == {"two": "all 2 Sentinel-2 image(s) have 12 % cloud or more (the least 30.0 %)"}
    assert found.num_passes == 2


def test_images_elsewhere_do_not_pair():
    beside = (91.0, 24.0, 91.4, 24.4)
    touching = (90.4, 24.0, 90.8, 24.4)
    for box in (beside, touching):
        assert "no Sentinel-2 image of the same ground" in _pair([_s1("a")], [_s2("b", 1, box=box)]).unpaired["pass"]
        assert _pair([_s1("a", box=box)], [_s2("b", 1)]).num_passes == 0


def test_both_see_the_event_but_not_the_same_part_of_it():
    west, east = (90.0, 24.0, 90.2, 24.4), (90.2, 24.0, 90.4, 24.4)
    assert not _pair([_s1("a", box=west)], [_s2("b", 1, box=east)]).pairs


@pytest.mark.parametrize(("hours", "num_passes"), [(-24, 1), (-24.01, 0), (23.99, 1), (24, 0)])
def test_only_passes_in_the_time_of_the_event(hours, num_passes):
    assert _pair([_s1("a", hours)], []).num_passes == num_passes


def test_every_image_is_within_the_limit_of_every_image_of_its_pass():
    s1 = [_s1("a", 0), _s1("b", 0.1)]
    found = _pair(s1, [_s2("c", -11.95), _s2("d", -11.85)])
    assert _names(found.pairs[0].s2) == ["d"]  # c is 12.05 hours from b
    assert found.pairs[0].gap_hours == pytest.approx(-11.95)


def test_gap_is_signed_and_the_largest():
    assert pairing.largest_gap_hours([_s1("a", 0), _s1("b", 1)], [_s2("c", -2), _s2("d", 2)]) == -3.0
    assert pairing.largest_gap_hours([_s1("a", 0)], [_s2("d", 2)]) == 2.0


def test_one_sentinel_2_image_may_serve_two_passes():
    found = _pair([_s1("a", -6, "down"), _s1("b", 6, "up")], [_s2("c", 0)])
    assert [pair.s1[0].group for pair in found.pairs] == ["down", "up"]


def test_clearest_image_lies_on_top():
    found = _pair([_s1("a")], [_s2("b", 1, cloud=1.0), _s2("c", 1, cloud=9.0), _s2("d", 1, cloud=5.0)])
    assert _names(found.pairs[0].s2) == ["c", "d", "b"]


def test_windows_are_joined_and_reach_both_ways():
    scenes = [_s1("a", 0), _s1("b", 30), _s1("c", 10)]
    spans = [[(time - NOON).total_seconds() / 3600 for time in span] for span in pairing.windows(scenes, 12.0)]
    assert spans == [[-12, 42]]  # -12..12, -2..22 and 18..42
    spans = [[(time - NOON).total_seconds() / 3600 for time in span] for span in pairing.windows(scenes[:2], 2.0)]
    assert spans == [[-2, 2], [28, 32]]
    assert pairing.windows([], 12.0) == []


def _sources(s1, s2):
    found = _pair(s1, s2)
    places = tiling.places(EVENT.area)
    return places, pairing.tile_sources(EVENT, found.pairs, places)


def test_every_place_once_for_every_pass():
    places, sources = _sources([_s1("a", -6, "P1"), _s1("b", 6, "P2")], [_s2("c", 0)])
    assert len(sources) == 2 * len(places)
    assert len({source.chip_id for source in sources}) == len(sources)
    assert sources[0].chip_id == f"A_{places[0].cell}-P1"


def test_tile_takes_the_images_that_reach_it_and_the_datatake_nearest_in_time():
    west, east = (89.9, 23.9, 90.2, 24.5), (90.2, 23.9, 90.5, 24.5)
    s2 = [_s2("far", 8, "late"), _s2("near-west", 2, "early", west)]
    places, sources = _sources([_s1("a", box=west), _s1("b", box=east)], s2)
    assert len(sources) == len(places)
    for source in sources:
        outline = source.place.area
        assert _names(source.s1) == [n for n, box in (("a", west), ("b", east)) if outline.intersects(shapes.box(*box))]
        assert _names(source.s2) == (["near-west"] if outline.intersects(shapes.box(*west)) else ["far"])


def test_only_where_both_sensors_see():
    s1, s2 = (90.0, 24.0, 90.2, 24.4), (90.1, 24.0, 90.4, 24.4)
    _, sources = _sources([_s1("a", box=s1)], [_s2("b", 1, box=s2)])
    both = shapes.box(90.1, 24.0, 90.2, 24.4)
    assert sources
    assert all(source.place.area.intersection(both).area > 0 for source in sources)


def test_pairs_across_the_180th_meridian():
    box = (179.9, -16.1, -179.9, -16.0)
    event = Event("Fiji", EVENT.start, EVENT.end, shapes.box(*box))
    scenes = [_s1("a", box=(179.5, -17, -179.5, -15)), _s2("b", 1, box=(-180.0, -17, -179.0, -15))]
    found = pairing.pair(event, scenes[:1], scenes[1:], 12.0, 12.0)
    assert found.pairs[0].area.bounds == pytest.approx((-180, -16.1, -179.9, -16.0))
    sources = pairing.tile_sources(event, found.pairs, tiling.places(event.area))
    assert {source.tile_id[:3] for source in sources} >= {"01S"}
