"""The report on converted datasets: what it finds, what it writes, what it does with damaged ones."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from data_prep import conversion, testing
from data_prep.inspection import ground, report, run
from data_prep.testing import CHIP_SIZE_DEG, chip_grid, utm_grid
from flood_distill import contract
from flood_distill.errors import UserError


@pytest.fixture(scope="module")
def hand(tmp_path_factory):
    """Train: a chip, and half of a test chip; test: that one, its neighbour, and a chip with the first one's radar."""
    folder = tmp_path_factory.mktemp("hand")
    root = folder / "tiles/v1.1"
    grids = {
        "Ghana_1": chip_grid(1.0, 0.05),
        "Ghana_2": chip_grid(2.0 + CHIP_SIZE_DEG / 2, 0.05),
        "Spain_3": chip_grid(2.0, 0.05),
        "Spain_4": chip_grid(2.0, 0.05 + CHIP_SIZE_DEG),
        "Spain_5": chip_grid(1.0, 0.05),
    }
    radar = {name: np.random.default_rng(index).normal(-12, 4, (512, 512, 2)) for index, name in enumerate(grids)}
    radar["Spain_5"] = radar["Ghana_1"]
    for name, grid in grids.items():
        testing.write_hand_chip(root, name, grid, arrays={"s1": radar[name].astype(np.float32)})
    testing.write_splits(root, {"train": ["Ghana_1", "Ghana_2"], "test": ["Spain_3", "Spain_4", "Spain_5"]})
    conversion.convert(contract.HAND, folder / "tiles", folder / "records")
    return folder


@pytest.fixture(scope="module")
def inspected(hand):
    return run.inspect(hand / "records", contract.HAND, hand / "report"), hand / "report"


def test_leaks_and_duplicates_across_splits_are_found(inspected):
    found, _ = inspected
    leaks = {(leak["first"], leak["second"]): leak["share"] for leak in found["leaks"]}
    assert leaks.keys() == {("train/Ghana_1", "test/Spain_5"), ("train/Ghana_2", "test/Spain_3")}
    assert leaks["train/Ghana_1", "test/Spain_5"] == pytest.approx(1, abs=1e-6)
    assert leaks["train/Ghana_2", "test/Spain_3"] == pytest.approx(0.5, abs=0.01)
    radar = [group for group in found["duplicates"] if group["feature"] == "s1"]
    assert radar == [{"feature": "s1", "tiles": ["test/Spain_5", "train/Ghana_1"], "across_splits": True}]


def test_counts_by_split_and_event(inspected):
    found, _ = inspected
    assert {split: group["num_tiles"] for split, group in found["splits"].items()} == {"train": 2, "test": 3}
    assert {event: group["num_tiles"] for event, group in found["events"]["test"].items()} == {"Spain": 3}
    vv = found["splits"]["train"]["bands"]["s1 VV"]
    assert vv["share_clipped_low"] == pytest.approx(0.01, abs=0.02)  # -12 +- 4 dB, smoothed by the warp, against -20
    assert vv["mean"] == pytest.approx(-12, abs=0.2)
    b8 = found["splits"]["train"]["bands"]["s2 B8"]
    assert (b8["median"], b8["share_clipped_high"]) == (8000, 1.0)


def test_files_of_the_report(inspected):
    found, folder = inspected
    names = ["events.png", "histograms.png", "inspect.json", "report.md", "shares.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    written = json.loads((folder / "inspect.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert written == found
    text = (folder / "report.md").read_text()
    assert "2 pairs of tiles: a leak" in text
    assert re.search(r"^\* train/Ghana_2 and test/Spain_3: (49|50)\.\d%$", text, re.MULTILINE)
    assert "| s1 VV | train | -20 to 0 dB |" in text
    assert all(f"![{name}]({name})" in text for name in names if name.endswith(".png"))
    for name in names[:2]:
        assert Image.open(folder / name).size[0] > 1000
    assert "2 pairs" in report.summary(found)


def test_training_tiles_on_evaluation_ground_of_sen1floods11_are_a_leak(hand, tmp_path):
    """Converted before the hand labels were there to exclude them."""
    tile = utm_grid(320000.0, 4400000.0)
    testing.write_external_tile(tmp_path / "tiles", "India_1", tile)
    corners = ground.outline(np.ones(tile.shape, bool), tile)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    conversion.convert("external/events", tmp_path / "tiles", tmp_path / "records")
    root = tmp_path / "later/v1.1"
    testing.write_splits(root, {"test": ["Spain_1"]})
    testing.write_hand_chip(root, "Spain_1", chip_grid(*centre))  # from the tile's middle to the south-east
    conversion.convert(contract.HAND, tmp_path / "later", tmp_path / "records")
    (leak,) = run.inspect(tmp_path / "records", "external/events", tmp_path / "report")["leaks"]
    assert (leak["first"], leak["second"]) == ("train/India_1", "sen1floods11/hand Spain_1")
    # A quarter of the tile, 2552 m x 2552 m, of a chip of 0.046 degrees at 39.7 degrees north, 3937 m x 5107 m.
    assert leak["share"] == pytest.approx(2552**2 / (3937 * 5107), abs=0.01)


def test_tiles_without_a_place_are_said_not_to_be_compared(tmp_path):
    for number, folder in ((1, "train"), (2, "test")):
        testing.write_ombria_tuple(tmp_path / "tiles", folder, number)
    conversion.convert(contract.OMBRIA_BEFORE_AFTER, tmp_path / "tiles", tmp_path / "records")
    found = run.inspect(tmp_path / "records", contract.OMBRIA_BEFORE_AFTER, tmp_path / "report")
    assert (found["num_without_place"], found["leaks"], found["target"]) == (2, [], "flood")
    assert {group["feature"] for group in found["duplicates"] if group["across_splits"]} == {
        *("s1", "s1_before", "s2", "s2_before")
    }
    assert "2 tiles have no place and were not compared" in (tmp_path / "report/report.md").read_text()


def test_damaged_split_is_told_and_the_rest_is_inspected(hand, tmp_path):
    shutil.copytree(hand / "records", tmp_path / "records")  # a shard is checked once a process and path
    shards = {split: next((tmp_path / "records").rglob(f"*-{split}.tfrecord*")) for split in ("train", "test")}
    testing.flip_byte(shards["train"])
    found = run.inspect(tmp_path / "records", contract.HAND, tmp_path / "report")
    assert list(found["splits"]) == ["test"]
    assert shards["train"].name in found["damaged_splits"]["train"]
    assert f"Not read to the end: split train.** {shards['train']}" in (tmp_path / "report/report.md").read_text()


def test_dataset_that_cannot_be_read_at_all_is_an_error(hand, tmp_path):
    shutil.copytree(hand / "records", tmp_path / "records")
    for shard in (tmp_path / "records").rglob("*.tfrecord*"):
        shard.unlink()
    with pytest.raises(UserError, match="shard is missing"):
        run.inspect(tmp_path / "records", contract.HAND, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
