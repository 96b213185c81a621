import numpy as np
import pytest
from PIL import Image

from data_prep import conversion, testing
from data_prep.ombria import images
from flood_distill import contract, records
from flood_distill.errors import UserError

AFTER, BEFORE_AFTER = contract.OMBRIA_AFTER, contract.OMBRIA_BEFORE_AFTER
TRAIN, VALIDATION, TEST = 7, 20, 13


@pytest.fixture(scope="module")
def ombria(tmp_path_factory):
    """Three tuples, one a split; converted to both configs."""
    folder = tmp_path_factory.mktemp("ombria")
    for number, name in ((TRAIN, "train"), (VALIDATION, "train"), (TEST, "test")):
        testing.write_ombria_tuple(folder / "tiles", name, number)
    (folder / "tiles/OmbriaS1/train/AFTER/Thumbs.db").write_text("x")
    tiles, data_dir = folder / "tiles", folder / "records"
    return folder, {name: conversion.convert(name, tiles, data_dir) for name in (AFTER, BEFORE_AFTER)}


def _examples(folder, dataset, split):
    return list(records.load(folder / "records", dataset).dataset(split).as_numpy_iterator())


def _convert_one(folder, **changes):
    testing.write_ombria_tuple(folder / "tiles", "train", 1, **changes)
    return conversion.convert(AFTER, folder / "tiles", folder / "records")


def test_numbers_make_the_splits(ombria):
    folder, conversions = ombria
    for dataset, converted in conversions.items():
        assert converted.num_examples == {"train": 1, "validation": 1, "test": 1}
        assert converted.metadata["num_with_s2"] == {"train": 1, "validation": 1, "test": 1}
        for split, number in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
            (example,) = _examples(folder, dataset, split)
            assert example["chip_id"].decode() == f"ombria_{number:04d}"


@pytest.mark.parametrize(("dataset", "num_dates"), [(AFTER, 1), (BEFORE_AFTER, 2)])
def test_features_are_those_of_the_contract(ombria, dataset, num_dates):
    folder, _ = ombria
    (example,) = _examples(folder, dataset, "train")
    found = {name: (value.dtype, value.shape) for name, value in example.items() if isinstance(value, np.ndarray)}
    before = {"s1_before": (np.float32, (256, 256, 1)), "s2_before": (np.int16, (256, 256, 3))}
    assert found == {
        "s1": (np.float32, (256, 256, 1)),
        "s2": (np.int16, (256, 256, 3)),
        "label": (np.int8, (256, 256)),
        "transform": (np.float64, (6,)),
    } | (before if num_dates == 2 else {})
    strings = {name: example[name] for name in ("event", "source", "crs")}
    assert strings == {"event": b"ombria", "source": b"real", "crs": b""}
    assert example["has_s2"]
    assert example["transform"].tolist() == [1, 0, 0, 0, 1, 0]


def test_values_are_those_of_the_files(ombria):
    folder, _ = ombria
    (example,) = _examples(folder, BEFORE_AFTER, "test")
    for feature, kind in (("s1", "AFTER"), ("s1_before", "BEFORE")):
        path = folder / f"tiles/OmbriaS1/test/{kind}/S1_{kind.lower()}_{TEST:04d}.png"
        np.testing.assert_array_equal(example[feature][..., 0], np.asarray(Image.open(path)))
    assert example["s2"][5, 5].tolist() == [40, 60, 80]
    assert example["s2_before"][5, 5].tolist() == [90, 70, 50]
    assert (example["label"][:128] == 1).all()
    assert (example["label"][128:] == 0).all()


def test_after_does_not_need_the_images_before(tmp_path):
    converted = _convert_one(tmp_path, without=["s1_before", "s2_before"])
    assert converted.num_examples == {"train": 1}
    with pytest.raises(UserError, match=r"OmbriaS1/train/BEFORE/S1_before_0001\.png: missing"):
        conversion.convert(BEFORE_AFTER, tmp_path / "tiles", tmp_path / "records")


def _speckle():
    return np.random.default_rng(0).integers(1, 255, (256, 256)).astype(np.uint8)


@pytest.mark.parametrize(
    ("value", "rows", "columns", "missing"),
    [
        (255, slice(0, 5), slice(None), True),  # a swath edge
        (255, slice(0, 1), slice(0, 10), True),  # its smallest size
        (255, slice(0, 1), slice(0, 9), False),  # a bright target at the border
        (255, slice(100, 140), slice(100, 140), False),  # a large bright target inside
        (130, slice(216, 256), slice(None), True),  # a fill of another value
        (130, slice(250, 256), slice(0, 160), False),  # 960 pixels: too small for one
        (130, slice(100, 140), slice(100, 140), False),  # large, but not at the border
        (0, slice(0, 40), slice(None), False),  # calm water
    ],
)
def test_no_data_of_radar(value, rows, columns, missing):
    pixels = _speckle()
    pixels[rows, columns] = value
    expected = np.zeros(pixels.shape, bool)
    expected[rows, columns] = missing
    found = images.backscatter(pixels)
    assert found.dtype == np.float32
    # Speckle of the same value beside the piece belongs to it.
    beside = expected != np.isnan(found[..., 0])
    assert (pixels[beside] == value).all()
    assert beside.sum() < 20
    np.testing.assert_array_equal(found[~np.isnan(found)], pixels[..., None][~np.isnan(found)])


def test_pieces_of_255_inside_do_not_reach_the_border_over_corners():
    pixels = np.full((256, 256), 100, np.uint8)
    pixels[::2, ::2] = pixels[1::2, 1::2] = 255  # a chessboard: connected over corners only
    assert not np.isnan(images.backscatter(pixels)[1:-1, 1:-1]).any()


FAULTS = {
    "size": ("s1", np.zeros((256, 255), np.uint8), "256x255 pixels, not 256x256"),
    "colours": ("s2", np.zeros((256, 256), np.uint8), r"image mode L, not RGB \(3 band\(s\) of 8 bits\)"),
    "depth": ("s1", np.zeros((256, 256), np.uint16), "image mode I;16, not L"),
    "mask": ("label", np.full((256, 256), 1, np.uint8), r"holds the values \[1\], only \[0, 255\] are masks"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_wrong_images_are_refused(tmp_path, name):
    feature, array, reason = FAULTS[name]
    with pytest.raises(UserError, match=reason) as caught:
        _convert_one(tmp_path, arrays={feature: array})
    assert "0001.png: " in str(caught.value)
    assert not (tmp_path / "records").exists()


@pytest.mark.parametrize("damage", [testing.truncate, testing.flip_byte, lambda path: path.write_bytes(b"no image")])
def test_damaged_files_are_named_and_left_out_on_demand(tmp_path, damage):
    good = testing.write_ombria_tuple(tmp_path / "tiles", "train", 1, arrays={"s1": _speckle()})
    testing.write_ombria_tuple(tmp_path / "tiles", "train", 2)
    damage(good["s1"])
    with pytest.raises(UserError, match=r"S1_after_0001\.png: unreadable or truncated"):
        conversion.convert(AFTER, tmp_path / "tiles", tmp_path / "records")
    result = conversion.convert(AFTER, tmp_path / "tiles", tmp_path / "records", allow_missing=True)
    assert result.num_examples == {"train": 1}
    assert result.metadata["left_out"][0].startswith(str(good["s1"]))


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match="no OmbriaS1 in it"):
        conversion.convert(AFTER, tmp_path, tmp_path / "records")
    (tmp_path / "OmbriaS1").mkdir()
    with pytest.raises(UserError, match="no files OmbriaS1/train/AFTER"):
        conversion.convert(AFTER, tmp_path, tmp_path / "records")
    for folder in ("train", "test"):
        testing.write_ombria_tuple(tmp_path, folder, 3)
    with pytest.raises(UserError, match="number 3 is in both train and test"):
        conversion.convert(AFTER, tmp_path, tmp_path / "records")
    testing.write_ombria_tuple(tmp_path / "clone/OMBRIA", "test", 3)
    assert conversion.convert(AFTER, tmp_path / "clone", tmp_path / "records").num_examples == {"test": 1}


def test_weak_labels_are_an_index_of_sentinel_2_on_the_training_tuples(ombria):
    folder, _ = ombria
    colors = np.zeros((256, 256, 3), np.uint8)
    colors[:, :, 0], colors[:, :, 2] = 100, np.arange(256)[:, np.newaxis]  # visible above SWIR from row 101 on
    colors[:2] = 0
    testing.write_ombria_tuple(folder / "more", "train", TRAIN, arrays={contract.S2: colors})
    testing.write_ombria_tuple(folder / "more", "train", VALIDATION)
    for dataset, kind in ((contract.OMBRIA_AFTER_WEAK, AFTER), (contract.OMBRIA_BEFORE_AFTER_WEAK, BEFORE_AFTER)):
        converted = conversion.convert(dataset, folder / "more", folder / "records")
        assert converted.num_examples == {"train": 1}
        (example,) = _examples(folder, dataset, "train")
        label = example["label"]
        assert (label[:2] == -1).all()
        assert (label[2:101] == 0).all()
        assert (label[101:] == 1).all()
        assert contract.imagery(dataset) == contract.imagery(kind)
