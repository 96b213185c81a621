"""From an events file to a folder that converts: nothing lost, nothing half written, nothing asked for twice."""

import csv
import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("ee")
pytest.importorskip("shapely")

import earth_engine_server as service  # noqa: E402
from earth_engine_server import SETTINGS, TRAFFIC  # noqa: E402

from data_prep import conversion, exclusion, testing  # noqa: E402
from data_prep.earth_engine_curation import curate, evaluation_ground, ledger, planning  # noqa: E402
from data_prep.earth_engine_curation.events import read_events  # noqa: E402
from flood_distill import records  # noqa: E402
from flood_distill.errors import UserError  # noqa: E402
from flood_distill.geo import raster  # noqa: E402

pytest_plugins = ("earth_engine_fixtures",)
BOX = (90.0, 24.0, 90.5, 24.5)
NEAR = (90.20, 24.20, 90.25, 24.21)  # inside of BOX, a few tiles


def _events(tmp_path, *lines):
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["id,start,end,west,south,east,north", *lines]) + "\n")
    return read_events(path)


def _event(name, box=NEAR, days="2020-07-14,2020-07-14"):
    return f"{name},{days},{','.join(map(str, box))}"


def _pair_of_scenes(box=BOX, **s2):
    def water_in_the_north(xs, ys):
        return np.where(ys > 24.2, 900.0, 200.0)

    return [
        service.s1_scene("s1", "2020-07-14T12:00", box, orbit=33),
        service.s2_scene("s2", "2020-07-14T04:30", box, b3=water_in_the_north, b8=500.0, **s2),
    ]


def _curate(events, earth_engine, folder, what=SETTINGS, how=TRAFFIC, **kwargs):
    return curate.curate(events, earth_engine, folder, what, how, **kwargs)


def _table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _tiles(folder):
    return sorted(path.name for path in folder.rglob("*.tif"))


def test_what_is_written_converts_pixel_by_pixel(tmp_path, server, connect):
    server.scenes = _pair_of_scenes(cloud=7.5)
    done = _curate(_events(tmp_path, _event("Bangladesh-2020")), connect(), tmp_path / "external")
    assert done.complete
    rows = _table(tmp_path / "external" / ledger.METADATA)
    assert len(rows) == done.num_made >= 2
    result = conversion.convert("external/events", tmp_path / "external", tmp_path / "records")
    assert result.num_examples == {"train": done.num_made}
    assert result.metadata["outside_share"] == {"train": 0}  # copied, not resampled
    examples = records.load(tmp_path / "records", "external/events").dataset("train").as_numpy_iterator()
    by_name = {example["chip_id"].decode(): example for example in examples}
    assert set(by_name) == {row["tile"] for row in rows}
    for row in rows:
        example = by_name[row["tile"]]
        assert example["event"] == b"Bangladesh-2020"
        assert example["crs"].decode() == row["crs"] == "EPSG:32646"
        assert example["transform"].tolist() == [16, 0, float(row["left_m"]), 0, -16, float(row["top_m"])]
        assert (example["s1"] == [-10, -17]).all()
        green, near_infrared = example["s2"][..., 1].astype(float), example["s2"][..., 3].astype(float)
        np.testing.assert_array_equal(example["label"], (green - near_infrared) / (green + near_infrared) > 0)
        assert (example["label"] == 1).mean() == pytest.approx(float(row["water_share"]), abs=1e-4)
        assert (row["s1_time"], row["s2_time"]) == ("2020-07-14T12:00:00Z", "2020-07-14T04:30:00Z")
        assert (row["gap_hours"], row["image_cloud_percent"]) == ("-7.5", "7.5")
        assert row["s1_scenes"] == "COPERNICUS/S1_GRD/s1"
        assert row["s2_scenes"] == "COPERNICUS/S2_HARMONIZED/s2"
    assert 0 < np.mean([float(row["water_share"]) for row in rows]) < 1


def test_second_run_asks_for_no_tile(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    first = _curate(events, earth_engine, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.tif")}
    second = _curate(events, earth_engine, tmp_path / "out")
    assert len(server.bodies("computePixels")) == first.num_made
    assert (second.num_made, second.num_there) == (0, first.num_made)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(_table(tmp_path / "out" / ledger.METADATA)) == first.num_made


def test_lost_and_damaged_tiles_are_made_again(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    first = _curate(events, earth_engine, tmp_path / "out")
    lost, damaged = _tiles(tmp_path / "out" / "S2")[:2]
    content = (tmp_path / "out/S2" / damaged).read_bytes()
    (tmp_path / "out/S2" / lost).unlink()
    testing.truncate(tmp_path / "out/S2" / damaged)
    second = _curate(events, earth_engine, tmp_path / "out")
    assert (second.num_made, second.num_there) == (2, first.num_made - 2)
    assert (tmp_path / "out/S2" / damaged).read_bytes() == content


def test_one_more_event_adds_its_tiles_only(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    first = _curate(_events(tmp_path, _event("A")), connect(), tmp_path / "out")
    both = _curate(_events(tmp_path, _event("A"), _event("B")), connect(), tmp_path / "out")
    assert (both.num_made, both.num_there) == (first.num_made, first.num_made)
    assert {row["event"] for row in _table(tmp_path / "out" / ledger.METADATA)} == {"A", "B"}


def test_other_settings_need_another_folder(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events = _events(tmp_path, _event("A"))
    _curate(events, connect(), tmp_path / "out")
    other = dataclasses.replace(SETTINGS, ndwi_threshold=0.1)
    with pytest.raises(UserError, match=r"other settings \(ndwi_threshold 0.0, now 0.1\); give another --output_dir"):
        _curate(events, connect(other), tmp_path / "out", other)
    _curate(events, connect(), tmp_path / "out", how=dataclasses.replace(TRAFFIC, num_parallel=1))


def test_failed_tile_is_listed_and_asked_for_again(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    server.faults = ["400"]
    first = _curate(events, earth_engine, tmp_path / "out")
    ((chip_id, reason),) = first.failures.items()
    assert not first.complete
    assert any(chip_id in line and "fault 400" in line for line in curate.summary(first))
    assert _table(tmp_path / "out" / ledger.LEFT_OUT) == [{"tile": chip_id, "reason": reason}]
    assert not any(chip_id in name for name in _tiles(tmp_path / "out"))
    second = _curate(events, earth_engine, tmp_path / "out")
    assert second.complete
    assert second.num_made == 1
    assert _table(tmp_path / "out" / ledger.LEFT_OUT) == []


def test_too_many_failures_end_the_run_and_keep_what_is_done(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events = _events(tmp_path, _event("A", (90.1, 24.1, 90.4, 24.4)))
    server.faults = [None, None] + ["400"] * 1000
    slow = dataclasses.replace(TRAFFIC, num_parallel=1)
    with pytest.raises(UserError, match=r"did not give 3 tiles, so the run ends .*max_failures.*fault 400"):
        _curate(events, connect(), tmp_path / "out", how=slow)
    assert len(server.bodies("computePixels")) < 2 + TRAFFIC.max_failures + 3  # called off, not worked through
    assert len(_table(tmp_path / "out" / ledger.METADATA)) == 2
    assert len(_tiles(tmp_path / "out")) == 2 * 3


def test_tile_with_too_little_data_is_left_out_for_good(tmp_path, server, connect):
    west, south, east, north = NEAR
    server.scenes = [
        service.s1_scene("s1", "2020-07-14T12:00", (west, south, west + 0.001, north)),
        service.s2_scene("s2", "2020-07-14T12:00", BOX),
    ]
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    done = _curate(events, earth_engine, tmp_path / "out")
    assert done.complete
    assert done.num_made == 0
    (count,) = done.left_out.values()
    assert {row["reason"] for row in _table(tmp_path / "out" / ledger.LEFT_OUT)} == {curate.TOO_LITTLE_DATA}
    _curate(events, earth_engine, tmp_path / "out")
    assert len(server.bodies("computePixels")) == count  # not fetched again


def test_cloud_over_the_tile_instead_of_the_image(tmp_path, server, connect):
    def clear_in_the_north(xs, ys):
        return np.where(ys > (NEAR[1] + NEAR[3]) / 2, 0.9, 0.1)

    server.scenes = [
        *_pair_of_scenes(cloud=95.0),
        service.cloud_scene("s2", "2020-07-14T04:30", BOX, clear_in_the_north),
    ]
    events = _events(tmp_path, _event("A", (90.1, 24.1, 90.15, 24.35)))
    over_image = _curate(events, connect(), tmp_path / "image")
    assert over_image.plans[0].problem.endswith("12 % cloud or more (the least 95.0 %)")
    what = dataclasses.replace(SETTINGS, cloud_over="tile")
    done = _curate(events, connect(what), tmp_path / "tile", what)
    clouds = [float(row["tile_cloud_percent"]) for row in _table(tmp_path / "tile" / ledger.METADATA)]
    assert done.num_made == len(clouds) > 0
    assert max(clouds) < 12.0
    assert done.left_out[curate.TOO_CLOUDY] > 0


def test_events_without_a_pair_each_have_a_line_and_none_is_lost(tmp_path, server, connect):
    far = (10.0, 10.0, 10.1, 10.1)
    server.scenes = [
        *_pair_of_scenes(),
        service.s1_scene("lonely", "2021-01-01T12:00", BOX, orbit=44),
        service.s1_scene("cloudy", "2022-01-01T12:00", BOX, orbit=55),
        service.s2_scene("clouds", "2022-01-01T12:00", BOX, cloud=40.0),
    ]
    events = _events(
        tmp_path,
        _event("Paired"),
        _event("Nowhere", far),
        _event("Lonely", days="2021-01-01,2021-01-01"),
        _event("Cloudy", days="2022-01-01,2022-01-01"),
    )
    plans, _ = curate.plan(events, connect(), tmp_path / "out", SETTINGS, None)
    lines = planning.summary(plans, with_pairs=True)
    text = "\n".join(lines)
    assert "Nowhere: no pair: no Sentinel-1 IW image with VV and VH in its time and place" in lines
    assert (
        "Lonely: no pair for any of 1 Sentinel-1 pass(es): S1A000044A: no Sentinel-2 image of the same ground" in text
    )
    assert "Cloudy: no pair for any of 1 Sentinel-1 pass(es): S1A000055A: all 1 Sentinel-2 image(s) have 12 %" in text
    assert "  S1A000033A 2020-07-14T12:00:00Z + GS2A_1_000001 2020-07-14T04:30:00Z: -7.5 h, cloud 5.0 to 5.0 %" in text
    assert lines[-1].endswith("tiles of 1 of 4 events")
    assert server.bodies("computePixels") == []
    assert not (tmp_path / "out").exists()
    done = _curate(events, connect(), tmp_path / "out")
    assert done.complete
    rows = _table(tmp_path / "out" / ledger.PAIRS)
    assert {row["event"] for row in rows} == {"Paired", "Nowhere", "Lonely", "Cloudy"}
    assert all(row["note"] for row in rows if row["event"] != "Paired")


def test_event_that_cannot_be_listed_is_named_and_the_others_go_on(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    server.listing_faults = ["400"]
    done = _curate(_events(tmp_path, _event("A"), _event("B")), connect(), tmp_path / "out")
    assert "refuses to list images: listing fault" in done.plans[0].problem
    assert done.num_made > 0
    assert not done.complete


def _write_sen1floods11(root, box, write_chip):
    """A test chip over the western end of NEAR and, far away, one of Bolivia."""
    testing.write_splits(root, {"test": ["India_1"], "bolivia": ["Bolivia_2"]})
    testing.write_hand_chip(root, "Bolivia_2", testing.chip_grid(-65.0, -14.0), without=("s1", "s2", "permanent_water"))
    if write_chip:
        grid = testing.chip_grid(box[0] - testing.CHIP_SIZE_DEG / 2, box[3] + 0.001)
        testing.write_hand_chip(root, "India_1", grid, without=("s1", "s2", "permanent_water"))


@pytest.mark.parametrize("where", ["flag", "beside"])
def test_ground_of_evaluation_chips_is_left_out(tmp_path, server, connect, where):
    server.scenes = _pair_of_scenes()
    folder = tmp_path / ("sen1floods11" if where == "beside" else "far")
    _write_sen1floods11(folder / "v1.1", NEAR, write_chip=True)
    kwargs = {} if where == "beside" else {"sen1floods11_dir": folder}
    done = _curate(_events(tmp_path, _event("A")), connect(), tmp_path / "external", **kwargs)
    assert done.left_out == {exclusion.MEETS_EVALUATION: len(done.plans[0].excluded)}
    assert done.num_made > 0
    left_out = {row["tile"] for row in _table(tmp_path / "external" / ledger.LEFT_OUT)}
    assert left_out == set(done.plans[0].excluded)
    assert not left_out & {row["tile"] for row in _table(tmp_path / "external" / ledger.METADATA)}
    # Conversion, which compares once more, finds nothing to leave out.
    result = conversion.convert(
        "external/events", tmp_path / "external", tmp_path / "records", sen1floods11_dir=str(folder)
    )
    assert not any(result.metadata["excluded"].values())


def test_chip_without_a_file_counts_as_its_whole_event(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    root = tmp_path / "sen1floods11/v1.1"
    _write_sen1floods11(root, NEAR, write_chip=False)
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    with pytest.raises(UserError, match=r"Sen1Floods11_Metadata.geojson: cannot be read, and chips of India"):
        _curate(events, earth_engine, tmp_path / "external")
    ring = [[89, 23], [92, 23], [92, 26], [89, 26], [89, 23]]
    feature = {"properties": {"location": "India"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    (root / evaluation_ground.METADATA_GEOJSON).write_text(json.dumps({"features": [feature]}))
    done = _curate(events, earth_engine, tmp_path / "external")
    assert done.num_made == 0
    assert "tiles are on evaluation ground" in done.plans[0].problem
    assert "1 validation, test and Bolivia chips have no file" in done.notes[0]


def test_held_out_event_yields_nothing_whatever_its_place(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    done = _curate(_events(tmp_path, _event("Bolivia")), connect(), tmp_path / "out")
    assert set(done.left_out) == {exclusion.HELD_OUT_EVENT}
    assert server.bodies("computePixels") == []


def test_requests_run_in_parallel_and_within_the_limit(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    server.wait_for = 3
    how = dataclasses.replace(TRAFFIC, num_parallel=3)
    _curate(_events(tmp_path, _event("A", (90.1, 24.1, 90.2, 24.15))), connect(traffic=how), tmp_path / "out", how=how)
    assert server.most_under_way == 3


def test_two_runs_in_one_folder_are_refused(tmp_path, server, connect):
    with ledger.opened(tmp_path / "out", {}), pytest.raises(UserError, match="another run is writing there"):
        _curate(_events(tmp_path, _event("A")), connect(), tmp_path / "out")


def test_manifest_of_a_killed_run_is_read_up_to_its_last_whole_line(tmp_path, server, connect):
    server.scenes = _pair_of_scenes()
    events, earth_engine = _events(tmp_path, _event("A")), connect()
    first = _curate(events, earth_engine, tmp_path / "out")
    manifest = tmp_path / "out" / ledger.MANIFEST
    whole = manifest.read_text()
    manifest.write_text(whole[:-40])
    second = _curate(events, earth_engine, tmp_path / "out")
    assert (second.num_made, second.num_there) == (1, first.num_made - 1)
    assert sorted(manifest.read_text().splitlines()) == sorted(whole.splitlines())
    lines = whole.splitlines()
    manifest.write_text("\n".join([lines[0], "{", *lines[1:]]))
    with pytest.raises(UserError, match=r"manifest.jsonl: line 2 is damaged"):
        _curate(events, earth_engine, tmp_path / "out")


def test_full_disk_ends_the_run(tmp_path, server, connect, monkeypatch):
    server.scenes = _pair_of_scenes()

    def full(path, *args, **kwargs):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(raster, "write_geotiff", full)
    with pytest.raises(UserError, match="No space left"):
        _curate(_events(tmp_path, _event("A")), connect(), tmp_path / "out")
    assert _tiles(tmp_path / "out") == []
