import numpy as np
import pytest

from data_prep import conversion, testing
from data_prep.sen1floods11 import layout
from data_prep.testing import CHIP_SIZE_DEG, chip_grid
from flood_distill import contract, records
from flood_distill.errors import UserError
from flood_distill.geo import grid as grid_lib

VALIDATION, TEST, BOLIVIA = ("Ghana_2", "Sri-Lanka_3", "Bolivia_4")


def _write_hand(root):
    """One chip a split, 1 degree apart."""
    testing.write_splits(root, {"train": ["Ghana_1"], "validation": [VALIDATION], "test": [TEST], "bolivia": [BOLIVIA]})
    testing.write_hand_chip(root, "Ghana_1", chip_grid(1.0, 50.0))
    testing.write_hand_chip(root, VALIDATION, chip_grid(2.0, 50.0), without=["s2"])
    testing.write_hand_chip(root, TEST, chip_grid(3.0, -20.0), without=["permanent_water"])
    testing.write_hand_chip(root, BOLIVIA, chip_grid(4.0, 50.0), without=["s2", "permanent_water"])


def _examples(data_dir, dataset, split):
    return {
        example["chip_id"].decode(): example
        for example in records.load(data_dir, dataset).dataset(split).as_numpy_iterator()
    }


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    """Tiles and the converted dataset."""
    folder = tmp_path_factory.mktemp("hand")
    _write_hand(folder / "tiles" / "v1.1")
    (folder / "tiles/v1.1" / layout.HAND_FOLDER / "S1Hand" / ".DS_Store").write_text("x")
    return folder, conversion.convert("sen1floods11/hand", folder / "tiles", folder / "records")


def test_official_lists_make_the_splits(hand):
    folder, conversion_ = hand
    assert conversion_.num_examples == {"train": 1, "validation": 1, "test": 1, "bolivia": 1}
    for split, chip_id in (("train", "Ghana_1"), ("validation", VALIDATION), ("test", TEST), ("bolivia", BOLIVIA)):
        assert list(_examples(folder / "records", "sen1floods11/hand", split)) == [chip_id]


def test_features_are_those_of_the_contract(hand):
    folder, _ = hand
    example = _examples(folder / "records", "sen1floods11/hand", "train")["Ghana_1"]
    found = {name: (value.dtype, value.shape) for name, value in example.items() if isinstance(value, np.ndarray)}
    assert found == {
        "s1": (np.float32, (320, 320, 2)),
        "s2": (np.int16, (320, 320, 4)),
        "label": (np.int8, (320, 320)),
        "permanent_water": (np.int8, (320, 320)),
        "transform": (np.float64, (6,)),
    }
    strings = {name: example[name] for name in ("chip_id", "event", "source", "crs")}
    assert strings == {"chip_id": b"Ghana_1", "event": b"Ghana", "source": b"real", "crs": b"EPSG:32631"}
    assert example["has_s2"]
    assert example["has_permanent_water"]


def test_contents_and_place(hand):
    folder, _ = hand
    example = _examples(folder / "records", "sen1floods11/hand", "train")["Ghana_1"]
    grid = chip_grid(1.0, 50.0)
    expected = grid_lib.tile_grid(grid.crs, grid.transform, grid.width, grid.height)
    assert tuple(example["transform"]) == expected.transform
    valid = np.isfinite(example["s1"][..., 0])
    assert 0.6 < valid.mean() < 0.66  # cos(50 degrees) = 0.64
    np.testing.assert_allclose(example["s1"][valid], np.broadcast_to([-10, -17], (valid.sum(), 2)), rtol=1e-6)
    np.testing.assert_array_equal((example["s2"] != 0).any(-1), valid)
    assert example["s2"][valid][0].tolist() == [2000, 3000, 4000, 8000]  # file bands 2, 3, 4 and 8
    np.testing.assert_array_equal(example["label"] >= 0, valid)
    assert 0.49 < (example["label"][valid] == contract.WATER).mean() < 0.51
    np.testing.assert_array_equal(example["permanent_water"], example["label"])


def test_optional_layers_that_lack_are_no_data(hand):
    folder, conversion_ = hand
    without_s2 = _examples(folder / "records", "sen1floods11/hand", "validation")[VALIDATION]
    assert not without_s2["has_s2"]
    assert without_s2["has_permanent_water"]
    assert not without_s2["s2"].any()
    without_water = _examples(folder / "records", "sen1floods11/hand", "test")[TEST]
    assert without_water["has_s2"]
    assert not without_water["has_permanent_water"]
    assert (without_water["permanent_water"] == -1).all()
    assert without_water["event"] == b"Sri-Lanka"
    assert without_water["crs"] == b"EPSG:32731"  # south of the equator
    assert conversion_.metadata["num_with_s2"] == {"train": 1, "validation": 0, "test": 1, "bolivia": 0}


def test_shares_of_outside_and_cut_pixels_are_recorded(hand):
    folder, conversion_ = hand
    label = _examples(folder / "records", "sen1floods11/hand", "train")["Ghana_1"]["label"]
    assert conversion_.metadata["outside_share"]["train"] == pytest.approx((label < 0).mean())
    assert 0 <= conversion_.metadata["cut_share"]["train"] < 0.02


def test_awkward_chips_convert(tmp_path):
    root = tmp_path / "v1.1"
    testing.write_splits(root, {"test": ["Paraguay_34417", "Ghana_83483"]})
    all_nan = {"s1": np.full((512, 512, 2), np.nan, np.float32)}
    no_label = {"label": np.full((512, 512), -1, np.int16)}
    testing.write_hand_chip(root, "Paraguay_34417", chip_grid(-57.77, -24.4), arrays=all_nan)
    testing.write_hand_chip(root, "Ghana_83483", chip_grid(-1.5, 9.1), arrays=no_label)
    conversion.convert("sen1floods11/hand", tmp_path, tmp_path / "records")
    examples = _examples(tmp_path / "records", "sen1floods11/hand", "test")
    assert np.isnan(examples["Paraguay_34417"]["s1"]).all()
    assert (examples["Paraguay_34417"]["label"] >= 0).any()
    assert (examples["Ghana_83483"]["label"] == -1).all()


def test_lists_are_read_as_published_and_checked(tmp_path):
    testing.write_splits(tmp_path, {"train": ["Ghana_1", "Sri-Lanka_2"], "test": ["Ghana_3"]})
    path = tmp_path / "splits/flood_handlabeled/flood_train_data.csv"
    assert path.read_bytes().startswith(b"Ghana_1_S1Hand.tif,Ghana_1_LabelHand.tif\r\n")
    assert layout.read_splits(tmp_path)["train"] == ["Ghana_1", "Sri-Lanka_2"]
    path.write_text("Ghana_1_S1Hand.tif,Ghana_2_LabelHand.tif\r\n")
    with pytest.raises(UserError, match=r"flood_train_data\.csv: line 1 is 'Ghana_1_S1Hand"):
        layout.read_splits(tmp_path)
    testing.write_splits(tmp_path, {"train": ["Ghana_1"], "test": ["Ghana_1"]})
    with pytest.raises(UserError, match=r"flood_test_data\.csv: Ghana_1 is listed already, in split train"):
        layout.read_splits(tmp_path)
    path.unlink()
    with pytest.raises(UserError, match=r"flood_train_data\.csv: official split list cannot be read"):
        layout.read_splits(tmp_path)


def test_weak_leaves_out_bolivia_and_ground_that_is_evaluated_on(tmp_path):
    root = tmp_path / "v1.1"
    _write_hand(root)
    testing.write_weak_chip(root, "Ghana_10", chip_grid(1.0, 50.0))  # shows what hand-labelled training shows: stays
    testing.write_weak_chip(root, "Ghana_11", chip_grid(2.0 + CHIP_SIZE_DEG / 2, 50.0))  # half of a validation chip
    testing.write_weak_chip(root, "Ghana_12", chip_grid(2.0 + CHIP_SIZE_DEG, 50.0), without=["s2"])  # its neighbour
    testing.write_weak_chip(root, "India_13", chip_grid(3.0, -20.0 - CHIP_SIZE_DEG * 0.99))  # a strip of a test chip
    testing.write_weak_chip(root, "India_14", chip_grid(4.01, 50.01))  # a Bolivia chip's ground under another name
    testing.write_weak_chip(root, "Bolivia_15", chip_grid(9.0, 9.0))  # the event, though far away
    result = conversion.convert("sen1floods11/weak", tmp_path, tmp_path / "records")
    examples = _examples(tmp_path / "records", "sen1floods11/weak", "train")
    assert sorted(examples) == ["Ghana_10", "Ghana_12"]
    assert not examples["Ghana_12"]["has_s2"]
    assert "permanent_water" not in examples["Ghana_10"]
    assert result.num_examples == {"train": 2}
    assert sorted(map(sorted, result.metadata["excluded"].values())) == [
        ["Bolivia_15"],
        ["Ghana_11", "India_13", "India_14"],
    ]


def test_weak_needs_the_evaluation_footprints(tmp_path):
    root = tmp_path / "v1.1"
    _write_hand(root)
    testing.write_weak_chip(root, "Ghana_11", chip_grid(2.0, 50.0))
    testing.write_weak_chip(root, "Ghana_10", chip_grid(1.0, 50.0))
    conversion.convert("sen1floods11/hand", tmp_path, tmp_path / "with_hand")
    for path in (root / layout.HAND_FOLDER).glob(f"*/{VALIDATION}_*.tif"):
        path.unlink()
    with pytest.raises(UserError, match=rf"{VALIDATION}_S1Hand\.tif: .*cannot be kept out of training"):
        conversion.convert("sen1floods11/weak", tmp_path, tmp_path / "alone")
    result = conversion.convert("sen1floods11/weak", tmp_path, tmp_path / "alone", allow_missing=True)
    assert result.num_examples == {"train": 2}
    assert result.metadata["exclusion_unknown"] == [VALIDATION]
    # The converted hand labels know the footprint too.
    result = conversion.convert("sen1floods11/weak", tmp_path, tmp_path / "with_hand")
    assert result.num_examples == {"train": 1}
    assert result.metadata["exclusion_unknown"] == []
