"""Statistics and health of datasets: the arithmetic on tiles made here."""

import tracemalloc

import numpy as np
import pytest

from data_prep.inspection import contents, ground, report, survey, tally
from data_prep.testing import utm_grid
from flood_distill import contract

VV = contract.Band("VV", -20.0, 0.0, "dB")
COUNT = contract.Band("B", 0.0, 255.0, "count")
REFLECTANCE = contract.Band("B2", 0.0, 3000.0, "reflectance x 10000")


def example(size_px=8, chip_id="Spain_1", crs="EPSG:32631", **changes):
    """A tile of radar noise: half water, half dry."""
    random = np.random.default_rng(list(chip_id.encode()))
    label = np.zeros((size_px, size_px), np.int8)
    label[: size_px // 2] = 1
    made = {
        "s1": random.uniform(-19, -1, (size_px, size_px, 2)).astype(np.float32),
        "s2": random.integers(1, 3000, (size_px, size_px, 4)).astype(np.int16),
        "label": label,
        "has_s2": True,
        "chip_id": chip_id.encode(),
        "event": chip_id.split("_")[0].encode(),
        "source": b"real",
        "crs": crs.encode(),
        "transform": np.array(utm_grid(320000.0, 640000.0).transform),
    }
    return made | changes


def add_all(examples, imagery=contract.SENTINEL):
    total = tally.Tally.empty(imagery)
    for one in examples:
        total.add(one, tally.validity(one, imagery.feature_bands))
    return total


def faults_of(one, imagery=contract.SENTINEL):
    return list(contents.tile_faults(one, tally.validity(one, imagery.feature_bands), imagery))


# --- Counting --------------------------------------------------------------------------------------------------------
def test_classes_no_data_and_scored_pixels_add_up():
    one = example()
    one["label"][:2] = -1  # of 64 pixels 16 without label, 16 water, 32 dry
    one["s1"][2, :, 1] = np.nan  # 8 water pixels lack VH
    one["s2"][7] = 0
    other = example(chip_id="Spain_2", has_s2=False, s2=np.zeros((8, 8, 4), np.int16))
    found = add_all([one, other]).summary()
    assert (found["num_tiles"], found["num_with_s2"]) == (2, 1)
    assert found["share_water"] == (16 + 32) / 128
    assert found["share_unlabelled"] == 16 / 128
    assert found["share_water_of_labelled"] == 48 / 112
    assert found["share_scored"] == (48 - 8 + 64) / 128
    assert found["share_no_data"] == {"s1": 8 / 128, "s2": 8 / 64}  # the tile without Sentinel-2 is not counted
    assert found["bands"]["s1 VV"]["num_values"] == 120  # where VH lacks, VV does not count


def test_permanent_water_is_a_share_of_the_water():
    permanent = np.full((8, 8), -1, np.int8)
    permanent[:1] = 1
    assert add_all([example(permanent_water=permanent)]).summary()["share_permanent_of_water"] == 8 / 32


def test_tallies_of_parts_add_up_to_the_whole():
    examples = [example(chip_id=f"Spain_{number}") for number in range(4)]
    parts = add_all(examples[:1]) + add_all(examples[1:])
    found, expected = parts.summary(), add_all(examples).summary()
    for band, numbers in expected.pop("bands").items():
        assert found["bands"][band] == pytest.approx(numbers)
    del found["bands"]
    assert found == expected


def test_clipped_shares_and_moments():
    histogram = tally.Histogram.empty(VV)
    histogram.add(np.array([-80.0, -20.0, -10.0, 0.0, 0.5], np.float32))  # the limits themselves are not clipped
    histogram.add(np.array([], np.float32))
    found = histogram.summary()
    assert (found["share_clipped_low"], found["share_clipped_high"]) == (1 / 5, 1 / 5)
    assert (found["min"], found["max"], found["mean"]) == (-80.0, 0.5, pytest.approx(-109.5 / 5))
    assert tally.Histogram.empty(VV).summary()["median"] is None


@pytest.mark.parametrize(("band", "scale"), [(VV, 8.0), (REFLECTANCE, 700.0)])
def test_percentiles_are_those_of_numpy_to_a_bin(band, scale):
    values = np.random.default_rng(0).normal((band.low + band.high) / 2, scale, 10_000).astype(np.float32)
    histogram = tally.Histogram.empty(band)
    histogram.add(values)
    width = np.diff(tally.edges(band))[0]
    for share in (0.01, 0.5, 0.99):
        assert abs(histogram.percentile(share) - np.quantile(values, share)) <= width


@pytest.mark.parametrize("band", [COUNT, REFLECTANCE])
def test_whole_numbers_fill_the_bins_evenly(band):
    histogram = tally.Histogram.empty(band)
    histogram.add(np.arange(band.low, band.high + 1).astype(np.int16))
    inside = histogram.counts[histogram.counts > 0][:-1]
    assert len(set(inside.tolist())) == 1


# --- Ground ----------------------------------------------------------------------------------------------------------
def outline_of(grid, seen=None):
    return ground.outline(np.ones(grid.shape, bool) if seen is None else seen, grid)


def shifted(grid, east_px, north_px):
    return utm_grid(grid.transform[2] + 16 * east_px, grid.transform[5] + 16 * north_px)


HERE = utm_grid(320000.0, 4400000.0)


@pytest.mark.parametrize(
    ("east_px", "north_px", "share"),
    [(0, 0, 1.0), (160, 0, 0.5), (160, 160, 0.25), (320, 0, 0.0), (0, 320, 0.0), (319, 0, 0.0), (318, 0, 1 / 319)],
)
def test_shared_ground_of_two_tiles(east_px, north_px, share):
    """Outlines join pixel centres: 319 pixel widths; tiles that touch, or share half pixels, have nothing in common."""
    found = ground.common_share(outline_of(HERE), outline_of(shifted(HERE, east_px, north_px)))
    assert found == pytest.approx(share, abs=4e-3)
    assert (found == pytest.approx(0, abs=1e-9)) == (share == 0)


def test_chips_that_lie_askew_on_their_tiles_do_not_meet_their_neighbours():
    """The boxes in degrees of two diamonds overlap by half, the diamonds do not."""
    rows, columns = np.mgrid[:320, :320]
    diamond = abs(rows - 159.5) + abs(columns - 159.5) < 150
    first, second = outline_of(HERE, diamond), outline_of(shifted(HERE, 160, 160), diamond)
    assert ground.common_share(first, second) == 0
    assert ground.common_share(first, outline_of(shifted(HERE, 75, 75), diamond)) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("zone", "next_zone"), [(31, 32), (60, 1)])
def test_ground_is_compared_across_zones_and_the_antimeridian(zone, next_zone):
    """Tiles on both sides of a zone's edge at the equator, 834 km east of 0 in one zone and 166 km in the next."""
    west, east = utm_grid(831000.0, 0.0, 32600 + zone), utm_grid(166000.0, 0.0, 32600 + next_zone)
    # 5120 m wide; the edge lies 833,978.6 m and 166,021.4 m east: 2141.4 m of the eastern half of the first are common.
    share = ground.common_share(outline_of(west), outline_of(east))
    assert share == pytest.approx(2141.4 / 5104, abs=0.01)
    (overlap,) = ground.overlaps([outline_of(west)], [outline_of(east)], ["w"], ["e"])
    assert overlap.share == share
    assert ground.common_share(outline_of(HERE), outline_of(utm_grid(320000.0, 4400000.0, 32632))) == 0


def test_pairs_are_named_once_the_largest_first():
    first = [outline_of(HERE), outline_of(shifted(HERE, 5000, 0))]
    second = [outline_of(shifted(HERE, 160, 0)), outline_of(HERE), outline_of(shifted(HERE, 0, 5000))]
    found = ground.overlaps(first, second, ["a", "b"], ["c", "d", "e"])
    assert [(overlap.first, overlap.second) for overlap in found] == [("a", "d"), ("a", "c")]
    assert [round(overlap.share, 2) for overlap in found] == [1.0, 0.5]
    assert ground.overlaps(first, [], ["a", "b"], []) == []


# --- Contents --------------------------------------------------------------------------------------------------------
def test_equal_images_are_found_bit_for_bit():
    images = contents.Images(("s1", "s2"))
    one = example(chip_id="a_1")
    nearly = one | {"s1": one["s1"] + np.float32(1e-6)}
    empty = example(s1=np.full((8, 8, 2), np.nan, np.float32))
    for tile, made in {"train/a": one, "test/b": one, "test/c": nearly, "train/d": empty, "train/e": empty}.items():
        images.add(tile, made, tally.validity(made, ("s1", "s2")))
    assert images.duplicates() == [
        {"feature": "s1", "tiles": ["test/b", "train/a"], "across_splits": True},
        {"feature": "s2", "tiles": ["test/b", "test/c", "train/a"], "across_splits": True},
        {"feature": "s2", "tiles": ["train/d", "train/e"], "across_splits": False},  # without radar, yet equal
    ]


def _with(feature, index, value):
    one = example()
    one[feature][index] = value
    return one


UPPER_LABELLED = np.repeat([[1], [-1]], 4, axis=0) * np.ones((8, 8), np.int8)
FAULTS = {
    "label is -1 throughout": lambda: _with("label", ..., -1),
    "label holds other values": lambda: _with("label", 0, 2),
    "s1 has no data at all": lambda: _with("s1", ..., np.nan),
    "no pixel has both label and s1": lambda: _with("s1", slice(0, 4), np.nan) | {"label": UPPER_LABELLED},
    "s1 holds infinite values": lambda: _with("s1", 0, np.inf),
    "s1 lacks one band": lambda: _with("s1", (0, 0, 1), np.nan),
    "s1 holds one value only": lambda: _with("s1", ..., -9.0),
    "s1 has a median above 0 dB": lambda: example(s1=np.random.default_rng(0).random((8, 8, 2)).astype(np.float32)),
    "s2 has no data at all": lambda: _with("s2", ..., 0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_a_tile(fault):
    assert any(found.startswith(fault) for found in faults_of(FAULTS[fault]()))


def test_sound_tiles_have_no_faults():
    assert faults_of(example()) == []
    assert faults_of(example(has_s2=False, s2=np.zeros((8, 8, 4), np.int16))) == []


def test_unmarked_fill_and_equal_dates_of_ombria_are_found():
    imagery = contract.imagery(contract.OMBRIA_BEFORE_AFTER)
    random = np.random.default_rng(0)
    s1, before = random.integers(0, 255, (2, 64, 64, 1)).astype(np.float32)
    made = example(64, s1=s1, s1_before=before, s2=np.ones((64, 64, 3), np.int16), s2_before=np.ones((64, 64, 3), "i2"))
    assert set(faults_of(made, imagery)) == {
        "s2 holds one value only",
        "s2_before holds one value only",
        "s2 and s2_before are the same image",
    }
    made["s1"][:20] = 130  # 1280 pixels
    assert any("perhaps no data that is not marked" in fault for fault in faults_of(made, imagery))


def test_all_faulty_tiles_are_counted_and_the_first_are_named():
    faults = contents.Faults()
    for number in range(contents.MAX_LISTED + 5):
        faults.add("bad", f"train/{number}")
    (found,) = faults.as_list()
    assert found["num_tiles"] == contents.MAX_LISTED + 5
    assert found["tiles"][-1] == f"train/{contents.MAX_LISTED - 1}"


# --- One pass ------------------------------------------------------------------------------------------------------
class FakeRecords:
    name, source, imagery, metadata = contract.HAND, "real", contract.SENTINEL, {}


def empty_survey():
    return survey.Survey({}, contents.Images(("s1", "s2")), contents.Faults(), {})


def test_memory_does_not_grow_with_the_pixels():
    found, grown = empty_survey(), []
    tracemalloc.start()
    for start in (0, 200, 400):
        for number in range(start, start + 200):
            survey.add(found, FakeRecords(), "train", example(32, chip_id=f"Spain_{number}"))
        grown.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert (grown[2] - grown[0]) / 400 < 600  # bytes a tile, of 32 x 32 x 17 bytes of pixels


def test_synthetic_tile_in_a_real_dataset_and_a_chip_in_two_splits_are_told():
    found = empty_survey()
    survey.add(found, FakeRecords(), "train", example(source=b"synthetic"))
    survey.add(found, FakeRecords(), "test", example())
    assert "source is not real, as that of the dataset" in found.faults.kinds
    assert report._same_chip_id(found.images.tiles) == ["Spain_1"]
