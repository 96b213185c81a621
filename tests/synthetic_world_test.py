"""The synthetic world: reproducible bytes, the layout of the real data, and physics that points the right way."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

from data_prep.synthetic import build, chips, days, ground, labels, layout, noise, optical, radar, world
from flood_distill import contract
from flood_distill.errors import UserError

SMALL = {
    "num_train": 2,
    "num_validation": 0,
    "num_test": 1,
    "num_bolivia": 0,
    "num_weak": 1,
    "num_external": 1,
    "scene_width_px": 96,
    "scene_height_px": 64,
    "contact_sheet": False,
}
SHAPE = (256, 256)
EVENT = world.TRAIN_EVENTS[0]


@pytest.fixture(scope="module")
def small_world(tmp_path_factory) -> Path:
    return build.synthesize(str(tmp_path_factory.mktemp("world") / "w"), workers=1, **SMALL)


def _digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _windless(**changes) -> days.Day:
    return dataclasses.replace(days.draw(EVENT), bias_vv_db=0.0, bias_vh_db=0.0, incidence_degrees=38.0, **changes)


def _flat_ground(water: np.ndarray, cover: int = world.GRASS) -> ground.Ground:
    shape = water.shape
    zeros = np.zeros(shape, np.float32)
    return ground.Ground(
        elevation_m=zeros,
        depth_m=np.where(water, 1.0, -1.0).astype(np.float32),
        permanent=water,
        water=water,
        emergence=zeros,
        cover=np.full(shape, cover, np.uint8),
        parcel=zeros,
        vigour=np.ones(shape, np.float32),
        turbidity=zeros,
    )


def _half_water() -> np.ndarray:
    return np.indices(SHAPE)[1] < SHAPE[1] // 2


# --- Reproducible ----------------------------------------------------------------------------------------------------
def test_same_bytes_whatever_the_number_of_workers(small_world, tmp_path):
    again = build.synthesize(str(tmp_path / "again"), workers=2, **SMALL)
    assert _digests(again) == _digests(small_world)


def test_a_smaller_world_holds_the_first_chips_of_a_larger_one():
    small, large = chips.plan(chips.Sizes(2, 1, 1, 1, 1, 2)), chips.plan(chips.Sizes())
    assert set(small) < set(large)


def test_names_places_and_seeds_are_unique():
    specs = chips.plan(chips.Sizes())
    assert len({spec.name for spec in specs}) == len(specs)
    boxes = {}
    for spec in specs:
        crs, transform = layout.placement(spec)
        size = contract.TILE_SIZE_PX if spec.split == "external" else world.CHIP_SIZE_PX
        boxes.setdefault(crs, []).append((transform.c, transform.f, size * transform.a))
    for own in boxes.values():
        for index, (west, north, width) in enumerate(own):
            for other_west, other_north, _ in own[:index]:
                assert abs(west - other_west) >= width or abs(north - other_north) >= width


def test_train_and_test_events_differ():
    events = {}
    for spec in chips.plan(chips.Sizes()):
        events.setdefault(spec.split, set()).add(spec.event.name)
    seen_in_training = events["train"] | events["validation"] | events["external"]
    assert not seen_in_training & (events["test"] | events["bolivia"])
    assert not events["weak"] & events["test"]


# --- Layout ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("folder", "layer", "bands", "dtype", "nodata"),
    [
        ("HandLabeled", "S1Hand", 2, "float32", float("nan")),
        ("HandLabeled", "S2Hand", 13, "int16", 0.0),
        ("HandLabeled", "LabelHand", 1, "int16", None),
        ("HandLabeled", "JRCWaterHand", 1, "uint8", None),
        ("WeaklyLabeled", "S1Weak", 2, "float32", float("nan")),
        ("WeaklyLabeled", "S2Weak", 13, "int16", 0.0),
        ("WeaklyLabeled", "S2IndexLabelWeak", 1, "int16", None),
    ],
)
def test_chips_look_like_the_real_bucket(small_world, folder, layer, bands, dtype, nodata):
    files = sorted((small_world / "sen1floods11/v1.1/data/flood_events" / folder / layer).iterdir())
    assert len(files) == {"HandLabeled": 2 + 1, "WeaklyLabeled": 1}[folder]
    for file in files:
        assert file.name.count("_") == 2
        assert file.name.endswith(f"_{layer}.tif")
        with rasterio.open(file) as source:
            assert source.crs.to_epsg() == 4326
            assert (source.count, source.width, source.height) == (bands, 512, 512)
            assert set(source.dtypes) == {dtype}
            assert source.transform.a == pytest.approx(8.983152841195215e-05, rel=1e-12)
            assert source.nodata is None if nodata is None else np.array_equal(source.nodata, nodata, equal_nan=True)
            assert source.compression.name == "deflate"


def test_split_lists_have_two_columns_crlf_and_no_header(small_world):
    folder = small_world / layout.SPLITS_DIR
    content = (folder / "flood_train_data.csv").read_bytes()
    assert content == (
        b"Mekong_10007_S1Hand.tif,Mekong_10007_LabelHand.tif\r\n"
        b"Sri-Lanka_10007_S1Hand.tif,Sri-Lanka_10007_LabelHand.tif\r\n"
    )
    names = {path.name for path in folder.iterdir()}
    assert names == {f"flood_{split}_data.csv" for split in ("train", "valid", "test", "bolivia")}


def test_external_tiles_lie_on_the_16_m_lattice(small_world):
    for layer, bands, dtype in (("S1", 2, "float32"), ("S2", 4, "int16"), ("NDWILabel", 1, "int16")):
        files = sorted((small_world / "external" / layer).glob(f"*_{layer}.tif"))
        assert len(files) == 1
        with rasterio.open(files[0]) as source:
            assert 32600 < source.crs.to_epsg() < 32761
            assert (source.count, source.width, source.height) == (bands, 320, 320)
            assert set(source.dtypes) == {dtype}
            assert source.transform.a == 16.0
            assert source.transform.c % 16 == 0
            assert source.transform.f % 16 == 0
    assert len((small_world / "external/metadata.csv").read_text().splitlines()) == 1 + 1


def test_scene_has_truth_and_no_data_where_the_radar_has_none(small_world):
    with rasterio.open(next(small_world.glob("scenes/*_scene_S1.tif"))) as source:
        s1 = source.read()
        assert s1.shape == (2, 64, 96)
    with rasterio.open(next(small_world.glob("scenes/*_scene_water.tif"))) as source:
        water = source.read(1)
    assert set(np.unique(water)) <= {0, 1, contract.MASK_NODATA}
    assert np.array_equal(np.isnan(s1).all(axis=0), water == contract.MASK_NODATA)
    assert (water == contract.MASK_NODATA).any()


def test_every_root_is_marked_synthetic(small_world):
    for folder in (".", "sen1floods11", "external", "scenes"):
        note = json.loads((small_world / folder / contract.SYNTHETIC_MARKER).read_text())
        assert note["source"] == "synthetic"
        assert note["seed"] == world.SEED
        assert note["world_version"] == world.WORLD_VERSION


def test_a_complete_world_is_left_alone_and_anything_else_is_refused(small_world, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in small_world.rglob("*")}
    build.synthesize(str(small_world), workers=1, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in small_world.rglob("*")} == before
    with pytest.raises(UserError, match="overwrite"):
        build.synthesize(str(small_world), workers=1, **{**SMALL, "num_train": 3})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("no")
    with pytest.raises(UserError, match="holds something else"):
        build.synthesize(str(tmp_path / "mine"), workers=1, **SMALL)


def test_a_failed_run_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "write_chip", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build.synthesize(str(tmp_path / "w"), workers=1, **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [-1, 1001])
def test_impossible_sizes_are_refused(tmp_path, number):
    with pytest.raises(UserError, match="num_weak"):
        build.synthesize(str(tmp_path / "w"), **{**SMALL, "num_weak": number})


# --- Awkward chips ---------------------------------------------------------------------------------------------------
def test_the_default_world_holds_every_awkward_chip():
    quirks = {}
    for spec in chips.plan(chips.Sizes()):
        quirks.setdefault(spec.split, []).append(spec.quirk)
    every = {world.NO_LABEL, world.NO_RADAR, world.SWATH_EDGE, world.NO_WATER, world.ALL_WATER}
    assert every <= set(quirks["train"])
    assert every - {world.ALL_WATER} <= set(quirks["test"])
    assert world.ALL_WATER in quirks["external"]
    assert world.SWATH_EDGE in quirks["bolivia"]


@pytest.mark.parametrize(
    ("quirk", "holds"),
    [
        (world.NO_LABEL, lambda chip: (chip.label == -1).all() and np.isfinite(chip.s1).all()),
        (world.NO_RADAR, lambda chip: np.isnan(chip.s1).all() and (chip.label >= 0).any()),
        (world.NO_WATER, lambda chip: not chip.truth.any() and not (chip.label == 1).any()),
        (world.ALL_WATER, lambda chip: chip.truth.mean() > 0.9),
        (world.SWATH_EDGE, lambda chip: 0.05 < np.isnan(chip.s1[0]).mean() < 0.65),
    ],
)
def test_awkward_chip(quirk, holds):
    chip = chips.make_chip(chips.Spec("test", world.TEST_EVENTS[3], 40, quirk))
    assert holds(chip)
    assert np.array_equal(np.isnan(chip.s1[0]), np.isnan(chip.s1[1]))


# --- Physics ---------------------------------------------------------------------------------------------------------
def test_speckle_has_mean_one_and_the_variance_of_its_looks():
    pattern = radar.speckle(noise.generator("test", "speckle"), (512, 512))
    assert pattern.mean() == pytest.approx(1.0, abs=0.01)
    assert pattern.var() == pytest.approx(1.0 / world.LOOKS, rel=0.03)
    neighbours = np.corrcoef(pattern[:, :-1].ravel(), pattern[:, 1:].ravel())[0, 1]
    assert neighbours == pytest.approx(np.exp(-1 / (4 * world.RESOLUTION_SIGMA_PX**2)), abs=0.05)


def test_water_is_darker_than_land_in_both_bands():
    water = _half_water()
    s1 = radar.backscatter(_flat_ground(water), _windless(wind_ms=3.0), noise.generator("test", "dark"))
    for band in s1:
        assert band[water].mean() < band[~water].mean() - 5.0


def test_wind_raises_vv_far_more_than_vh():
    land = _flat_ground(np.ones(SHAPE, bool))
    calm, windy = (
        radar.backscatter(land, _windless(wind_ms=wind), noise.generator("test", "wind")).mean(axis=(1, 2))
        for wind in (2.0, 8.0)
    )
    # CMOD5.N at 38 degrees: -24.3 dB at 2 m/s, -16.0 dB at 8 m/s.
    assert windy[0] - calm[0] > 5.0
    assert windy[0] - calm[0] > 2.0 * (windy[1] - calm[1])


@pytest.mark.parametrize(("wind_ms", "incidence", "cmod5n_db"), [(2, 38, -24.3), (5, 36, -18.0), (10, 40, -15.1)])
def test_water_vv_follows_cmod5n(wind_ms, incidence, cmod5n_db):
    assert radar.water_vv_db(np.float32(wind_ms), incidence) == pytest.approx(cmod5n_db, abs=0.9)


def test_sand_looks_like_water_in_radar_and_not_in_optical():
    water = _half_water()
    land = _flat_ground(water, world.SAND)
    day = _windless(wind_ms=5.0, cover_vv_db=(0.0,) * 9, cover_vh_db=(0.0,) * 9)
    s1 = radar.backscatter(land, day, noise.generator("test", "sand"))
    assert abs(s1[0][water].mean() - s1[0][~water].mean()) < 2.5
    clear = optical.Sky(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32))
    s2 = optical.reflectance(land, day, clear, noise.generator("test", "sand"))
    assert s2[7][~water].mean() > 5 * s2[7][water].mean()


def test_flooded_forest_is_brighter_than_dry_forest():
    dry = _flat_ground(np.zeros(SHAPE, bool), world.FOREST)
    flooded = dataclasses.replace(dry, depth_m=np.ones(SHAPE, np.float32), emergence=np.full(SHAPE, 0.95, np.float32))
    means = [radar.backscatter(g, _windless(), noise.generator("test", "f"))[0].mean() for g in (dry, flooded)]
    assert means[1] > means[0] + 2.0


def test_slopes_that_face_away_are_dark():
    dry = _flat_ground(np.zeros(SHAPE, bool))
    ridge = np.abs(np.indices(SHAPE)[1] - 128.0).astype(np.float32) * -6.0  # 31 degrees up, then down
    day = _windless(looks_east=True)
    s1 = radar.backscatter(dataclasses.replace(dry, elevation_m=ridge), day, noise.generator("test", "slope"))
    assert s1[0][:, 8:120].mean() > s1[0][:, 136:248].mean() + 6.0


def test_cloud_hides_from_the_labeller_and_misleads_the_index():
    water = _half_water()
    land, day = _flat_ground(water), _windless()
    thin = optical.Sky(np.full(SHAPE, 0.45, np.float32), np.zeros(SHAPE, np.float32))
    clear = optical.Sky(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32))
    assert (labels.hand_label(water, thin, noise.generator("test", "hand")) == contract.IGNORE_LABEL).all()
    for sky, expected in ((clear, 1.0), (thin, 0.0)):
        s2 = optical.reflectance(land, day, sky, noise.generator("test", "cloud"))
        weak = labels.sen1floods11_weak_label(s2)
        assert (weak[water] == 1).mean() == pytest.approx(expected, abs=0.02)


def test_shadow_and_mud_mislead_ndwi():
    water = _half_water()
    day = _windless()
    bands = tuple(index - 1 for index in contract.S2_FILE_INDICES)
    ones, zeros = np.ones(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    shaded = optical.reflectance(
        _flat_ground(water, world.PLOUGHED), day, optical.Sky(zeros, ones), noise.generator("test", "s"), bands
    )
    assert (labels.external_weak_label(shaded)[~water] == 1).mean() > 0.5
    muddy = dataclasses.replace(_flat_ground(water), turbidity=ones)
    s2 = optical.reflectance(muddy, day, optical.Sky(zeros, zeros), noise.generator("test", "m"), bands)
    assert (labels.external_weak_label(s2)[water] == 0).mean() > 0.1


def test_weak_label_is_no_data_where_the_image_is():
    assert (labels.external_weak_label(np.zeros((4, 3, 3), np.int16)) == -1).all()
    assert (labels.sen1floods11_weak_label(np.zeros((13, 3, 3), np.int16)) == -1).all()


def test_a_careful_hand_is_close_to_the_truth():
    chip = chips.make_chip(chips.Spec("test", world.TEST_EVENTS[0], 50))
    seen = chip.label >= 0
    drawn, truth = chip.label[seen] == 1, chip.truth[seen]
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.8
    assert set(np.unique(chip.label)) <= {-1, 0, 1}
    assert chip.s2.min() > 0  # 0 would be no data
