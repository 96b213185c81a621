"""The events file: what is read, and what every unusable line says."""

import datetime
from pathlib import Path

import pytest

shapely = pytest.importorskip("shapely")

from data_prep import earth_engine_curation  # noqa: E402
from data_prep.earth_engine_curation import events, shapes  # noqa: E402
from flood_distill.errors import UserError  # noqa: E402

HEADER = "id,start,end,west,south,east,north,geometry\n"
GOOD = "A,2020-07-01,2020-07-02,10,50,11,51,\n"


def _read(tmp_path, text, header=HEADER):
    path = tmp_path / "events.csv"
    path.write_text(header + text)
    return events.read_events(path)


def _utc(*args):
    return datetime.datetime(*args, tzinfo=datetime.UTC)


def test_box_and_days(tmp_path):
    (event,) = _read(tmp_path, GOOD)
    assert event.event_id == "A"
    assert (event.start, event.end) == (_utc(2020, 7, 1), _utc(2020, 7, 3))  # the whole of the second day
    assert event.area.bounds == (10, 50, 11, 51)


def test_times_with_and_without_a_zone_are_utc(tmp_path):
    (event,) = _read(tmp_path, "A,2020-07-01T06:00+06:00,2020-07-01T06:00,10,50,11,51,\n")
    assert (event.start, event.end) == (_utc(2020, 7, 1, 0), _utc(2020, 7, 1, 6))


@pytest.mark.parametrize(
    "geometry",
    [
        '"MULTIPOLYGON(((10 50,11 50,11 51,10 50)),((20 50,21 50,21 51,20 50)))"',
        '"{""type"": ""MultiPolygon"", ""coordinates"": [[[[10,50],[11,50],[11,51],[10,50]]],'
        '[[[20,50],[21,50],[21,51],[20,50]]]]}"',
        '"{""type"": ""Feature"", ""properties"": {}, ""geometry"": {""type"": ""MultiPolygon"", ""coordinates"": '
        '[[[[10,50],[11,50],[11,51],[10,50]]],[[[20,50],[21,50],[21,51],[20,50]]]]}}"',
        '"GEOMETRYCOLLECTION(POINT(0 0),POLYGON((10 50,11 50,11 51,10 50)),POLYGON((20 50,21 50,21 51,20 50)))"',
    ],
)
def test_all_parts_of_a_multipolygon_count(tmp_path, geometry):
    (event,) = _read(tmp_path, f"A,2020-07-01,2020-07-02,,,,,{geometry}\n")
    assert event.area.area == pytest.approx(1.0)
    assert len(event.area.geoms) == 2


@pytest.mark.parametrize(
    "where",
    [
        "179,-17,-179,-16,",
        ',,,,"POLYGON((179 -17,-179 -17,-179 -16,179 -16,179 -17))"',  # the short way round
        ',,,,"POLYGON((179 -17,181 -17,181 -16,179 -16,179 -17))"',
        ',,,,"POLYGON((-181 -17,-179 -17,-179 -16,-181 -16,-181 -17))"',
        ',,,,"MULTIPOLYGON(((179 -17,180 -17,180 -16,179 -16,179 -17)),'
        '((-180 -17,-179 -17,-179 -16,-180 -16,-180 -17)))"',
    ],
)
def test_area_across_the_180th_meridian_is_in_two_parts(tmp_path, where):
    (event,) = _read(tmp_path, f"A,2020-07-01,2020-07-02,{where}\n")
    assert event.area.area == pytest.approx(2.0)  # not 358
    assert sorted(part.bounds[::2] for part in event.area.geoms) == [(-180, -179), (179, 180)]


def test_a_hole_moves_with_its_polygon_across_the_180th_meridian():
    hole = "(-179.8 -16.8,-179.2 -16.8,-179.2 -16.2,-179.8 -16.2,-179.8 -16.8)"
    area = shapes.area_of(shapely.from_wkt(f"POLYGON((179 -17,-179 -17,-179 -16,179 -16,179 -17),{hole})"))
    assert area.area == pytest.approx(2.0 - 0.36)


def test_self_crossing_polygon_is_mended_not_dropped(tmp_path):
    (event,) = _read(tmp_path, 'A,2020-07-01,2020-07-02,,,,,"POLYGON((0 0,1 1,1 0,0 1,0 0))"\n')
    assert event.area.is_valid
    assert event.area.area == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("A B,2020-07-01,2020-07-02,10,50,11,51,", r"id 'A B' must be letters"),
        (",2020-07-01,2020-07-02,10,50,11,51,", r"id '' must be"),
        ("../A,2020-07-01,2020-07-02,10,50,11,51,", r"id '\.\./A' must be"),
        ("A,July,2020-07-02,10,50,11,51,", r"start 'July' is no date"),
        ("A,2020-07-02,2020-07-01,10,50,11,51,", r"end 2020-07-01 lies before start 2020-07-02"),
        ("A,2020-07-01,2020-07-02,10,,11,51,", r"needs a geometry, or numbers for west"),
        ("A,2020-07-01,2020-07-02,10,51,11,50,", r"south must be less than north"),
        ("A,2020-07-01,2020-07-02,10,50,200,51,", r"west and east must be in -180 to 180"),
        ("A,2020-07-01,2020-07-02,,,,,POINT(10 50)", r"its area is empty"),
        ("A,2020-07-01,2020-07-02,,,,,POLYGON((10", r"geometry is neither WKT nor GeoJSON"),
        ('A,2020-07-01,2020-07-02,,,,,"{""type"": 1}"', r"geometry is neither WKT nor GeoJSON"),
        ("A,2020-07-01,2020-07-02,50,85,51,88,", r"latitudes 85 to 88 lie outside of UTM"),
    ],
)
def test_unusable_line_says_where_and_why(tmp_path, line, reason):
    with pytest.raises(UserError, match=rf"events\.csv: line 3: .*{reason}"):
        _read(tmp_path, GOOD.replace("A,", "B,") + line + "\n")


def test_all_unusable_lines_are_listed_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        _read(tmp_path, GOOD + GOOD.replace("2020-07-01", "x").replace("A,", "B,") + "\n" + GOOD.lower())
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("2 line(s)")
    assert "line 3: start 'x'" in lines[1]
    assert "line 5: id a is there already" in lines[2]  # names of files must differ on any disk


def test_files_that_are_no_events_files(tmp_path):
    with pytest.raises(UserError, match="no column start, end, west"):
        _read(tmp_path, "", header="id,when\n")
    with pytest.raises(UserError, match="holds no events"):
        _read(tmp_path, "\n")
    with pytest.raises(UserError, match="no column id"):
        _read(tmp_path, "", header="")
    with pytest.raises(UserError, match="--events=.*nowhere.csv: cannot be read"):
        events.read_events(tmp_path / "nowhere.csv")


def test_spreadsheet_habits_are_forgiven(tmp_path):
    (event,) = _read(
        tmp_path,
        " A , 2020-07-01,2020-07-02,10,50,11,51,,a note\n",
        header="\ufeffID, Start,END,West,south,east,north,geometry,note\n",
    )
    assert event.event_id == "A"


def test_shipped_example_has_the_countries_of_the_paper():
    path = Path(earth_engine_curation.__file__).parent / "example_events.csv"
    found = events.read_events(path)
    assert {event.event_id.split("-")[0] for event in found} == {"Bangladesh", "Brazil", "Colombia", "India", "Peru"}
    assert all(event.start.year >= 2016 for event in found)  # Sentinel-2 images begin in June 2015
