"""Chip lists: what the installed ones hold, and what a restricted dataset gives."""

import itertools

import pytest

from data_prep import conversion, testing
from data_prep.ombria import layout
from flood_distill import chip_lists, contract, records
from flood_distill.errors import UserError

SIZES = (20, 40, 80, 160)


def test_lists_of_ombria_are_nested_and_hold_no_validation_tuple():
    lists = [chip_lists.read(f"ombria_{size}") for size in SIZES]
    assert [len(chips) for chips in lists] == list(SIZES)
    for smaller, larger in itertools.pairwise(lists):
        assert set(smaller) < set(larger)
    numbers = [int(chip_id.removeprefix("ombria_")) for chip_id in lists[-1]]
    assert all(number % layout.VALIDATION_MODULO for number in numbers)
    assert numbers == sorted(numbers)


def test_faulty_lists_are_refused(tmp_path):
    with pytest.raises(UserError, match="not one of ombria_160, ombria_20"):
        chip_lists.read("ombria_30")
    for text in ("", "a\nb\na\n"):
        (tmp_path / "bad.txt").write_text(text)
        with pytest.raises(UserError, match=r"bad\.txt: is empty or names a chip twice"):
            chip_lists.read(str(tmp_path / "bad.txt"))


def test_restricted_dataset_holds_these_chips_of_the_training_split_only(tmp_path):
    for number, folder in ((1, "train"), (2, "train"), (3, "train"), (10, "train"), (5, "test")):
        testing.write_ombria_tuple(tmp_path / "tiles", folder, number)
    conversion.convert(contract.OMBRIA_AFTER, tmp_path / "tiles", tmp_path / "records")
    whole = records.load(tmp_path / "records", contract.OMBRIA_AFTER)
    two = whole.only(["ombria_0003", "ombria_0001"])
    assert (whole.num_examples("train"), two.num_examples("train"), two.num_with_s2("train")) == (3, 2, 2)
    assert (two.num_examples("validation"), two.num_examples("test")) == (1, 1)
    chip_ids = [example["chip_id"].decode() for example in two.dataset("train").as_numpy_iterator()]
    assert sorted(chip_ids) == ["ombria_0001", "ombria_0003"]
    examples = list(two.dataset("train", features=["label"]).as_numpy_iterator())
    assert [list(example) for example in examples] == [["label"], ["label"]]
    with pytest.raises(UserError, match=r"has no chip ombria_0010 \(1 of the list missing\)"):
        whole.only(["ombria_0001", "ombria_0010"])
