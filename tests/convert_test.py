import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep import conversion, testing
from data_prep.testing import chip_grid
from flood_distill import files, records
from flood_distill.errors import UserError
from flood_distill.geo import raster

HAND = "sen1floods11/hand"
PROJECT = Path(__file__).resolve().parent.parent
CHIPS = ("Ghana_1", "Ghana_2", "Spain_3")


def _write(folder):
    """Two chips of train, one of test; returns the files by chip and feature."""
    root = folder / "v1.1"
    testing.write_splits(root, {"train": CHIPS[:2], "test": CHIPS[2:]})
    return {
        chip_id: testing.write_hand_chip(root, chip_id, chip_grid(float(number), 40.0))
        for number, chip_id in enumerate(CHIPS)
    }


def _all_paths(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _run(script, *args, cwd=PROJECT):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run([sys.executable, *script, *args], capture_output=True, text=True, cwd=cwd, env=environment)


def _rewrite(path, feature_grid=None, shape=None, bands=None, dtype=None):
    with raster.open_raster(path) as dataset:
        array, grid = np.moveaxis(dataset.read(), 0, -1), raster.grid_of(dataset)
    array = array[..., : bands or array.shape[-1]].astype(dtype or array.dtype)
    if shape:
        array = array[: shape[0], : shape[1]]
        grid = grid.window(0, 0, *shape)
    raster.write_geotiff(path, array, feature_grid or grid, None, cog=False)


FAULTS = {
    "missing": ("s1", lambda path: path.unlink(), "missing"),
    "size": ("label", lambda path: _rewrite(path, shape=(511, 512)), "511x512 pixels, not 512x512"),
    "bands": ("s2", lambda path: _rewrite(path, bands=12), r"12 band\(s\), not 13"),
    "dtype": ("s1", lambda path: _rewrite(path, dtype=np.float64), "dtype float64, not float32"),
    "grid": ("label", lambda path: _rewrite(path, feature_grid=chip_grid(7.0, 7.0)), "its grid .* is not that of"),
    "unreadable": ("label", lambda path: path.write_bytes(b"no raster"), "unreadable"),
    "truncated": ("s1", testing.truncate, "truncated"),
    "empty": ("permanent_water", lambda path: path.write_bytes(b""), "unreadable"),
    "values": ("label", lambda path: _label_of(path, 7), r"holds the values \[7\]"),
}


def _label_of(path, value):
    with raster.open_raster(path) as dataset:
        grid = raster.grid_of(dataset)
    raster.write_geotiff(path, np.full(grid.shape, value, np.int16), grid, None, cog=False)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_one_line_with_file_and_reason_and_leaves_nothing(tmp_path, name):
    feature, damage, reason = FAULTS[name]
    path = _write(tmp_path / "tiles")[CHIPS[2]][feature]
    damage(path)
    (tmp_path / "records").mkdir()
    with pytest.raises(UserError, match=reason) as caught:
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("1 chip is incomplete or damaged; mend these files, or")
    assert len(lines) == 1
    assert lines[0].startswith(f"  {path}: ")
    assert list((tmp_path / "records").iterdir()) == []


def test_all_faults_of_all_chips_are_listed_at_once(tmp_path):
    files = _write(tmp_path / "tiles")
    files[CHIPS[0]]["s1"].unlink()
    testing.truncate(files[CHIPS[1]]["s2"])
    _rewrite(files[CHIPS[2]]["label"], dtype=np.float32)
    files[CHIPS[2]]["permanent_water"].write_bytes(b"no raster")
    with pytest.raises(UserError) as caught:
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("3 chips")
    named = [files[CHIPS[0]]["s1"], files[CHIPS[1]]["s2"], files[CHIPS[2]]["label"], files[CHIPS[2]]["permanent_water"]]
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [str(path) for path in named]
    assert not (tmp_path / "records").exists()


def test_truncation_alone_is_found_in_every_split(tmp_path):
    files = _write(tmp_path / "tiles")
    testing.truncate(files[CHIPS[1]]["s1"])
    testing.truncate(files[CHIPS[2]]["s1"])
    with pytest.raises(UserError, match="2 chips") as caught:
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    assert str(files[CHIPS[2]]["s1"]) in str(caught.value)


def test_allow_missing_converts_the_rest_and_lists_what_it_left_out(tmp_path):
    files = _write(tmp_path / "tiles")
    files[CHIPS[0]]["label"].unlink()
    testing.truncate(files[CHIPS[2]]["s1"])  # the only chip of test
    result = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", allow_missing=True)
    assert result.num_examples == {"train": 1}
    left_out = result.metadata["left_out"]
    assert left_out[0] == f"{files[CHIPS[0]]['label']}: missing"
    assert left_out[1].startswith(f"{files[CHIPS[2]]['s1']}: truncated")
    assert len(left_out) == 2
    with pytest.raises(UserError, match="has no split 'test', only train"):
        records.load(tmp_path / "records", HAND).dataset("test")


def test_allow_missing_needs_one_whole_chip(tmp_path):
    for layers in _write(tmp_path / "tiles").values():
        testing.truncate(layers["s1"])
    with pytest.raises(UserError, match="3 chips"):
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", allow_missing=True)
    assert not (tmp_path / "records").exists()


def test_command_and_plain_tfds_in_fresh_processes(tmp_path):
    _write(tmp_path / "tiles")
    arguments = [f"--dataset={HAND}", f"--input_dir={tmp_path / 'tiles'}", f"--data_dir={tmp_path / 'records'}"]
    done = _run(["-m", "data_prep.convert"], *arguments)
    assert done.returncode == 0, done.stderr
    assert "train: 2 tiles, 2 with Sentinel-2" in done.stdout
    read = """
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory(sys.argv[1])
for split in ("train", "test"):
    for example in builder.as_dataset(split=split).as_numpy_iterator():
        print(split, example["chip_id"].decode(), example["s1"].dtype, example["s2"].shape, example["source"].decode())
assert not any(name.split(".")[0] in ("flood_distill", "data_prep") for name in sys.modules)
"""
    seen = _run(["-c", read], str(tmp_path / "records" / HAND / "1.0.0"), cwd=tmp_path)
    assert sorted(seen.stdout.splitlines()) == [
        "test Spain_3 float32 (320, 320, 4) real",
        "train Ghana_1 float32 (320, 320, 4) real",
        "train Ghana_2 float32 (320, 320, 4) real",
    ], seen.stderr
    here = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "here").path / "shards.json"
    assert (tmp_path / "records" / HAND / "1.0.0" / "shards.json").read_text() == here.read_text()
    again = _run(["-m", "data_prep.convert"], *arguments)
    assert again.returncode == 0
    assert "already converted; --overwrite converts again" in again.stdout


def test_command_fails_in_lines_without_a_traceback(tmp_path):
    path = _write(tmp_path / "tiles")[CHIPS[0]]["s1"]
    path.unlink()
    arguments = [f"--dataset={HAND}", f"--input_dir={tmp_path / 'tiles'}", f"--data_dir={tmp_path / 'records'}"]
    failed = _run(["-m", "data_prep.convert"], *arguments)
    assert failed.returncode == 1
    assert f"{path}: missing" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_dataset_that_is_there_stays_unless_overwritten(tmp_path):
    files = _write(tmp_path / "tiles")
    first = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    before = (first.path / "shards.json").read_text()
    _label_of(files[CHIPS[0]]["label"], 1)
    second = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    assert (first.done, second.done) == (True, False)
    assert second.num_examples == first.num_examples
    assert (first.path / "shards.json").read_text() == before
    assert conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", overwrite=True).done
    assert (first.path / "shards.json").read_text() != before
    assert [path.name for path in first.path.parent.iterdir()] == ["1.0.0"]


def test_conversion_is_deterministic(tmp_path):
    _write(tmp_path / "tiles")
    hashes = [
        (conversion.convert(HAND, tmp_path / "tiles", tmp_path / name).path / "shards.json").read_text()
        for name in "ab"
    ]
    assert hashes[0] == hashes[1]


def test_overwrite_that_fails_keeps_the_old_dataset(tmp_path):
    files = _write(tmp_path / "tiles")
    first = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    testing.truncate(files[CHIPS[0]]["s1"])
    before = _all_paths(tmp_path / "records")
    with pytest.raises(UserError):
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", overwrite=True)
    assert _all_paths(tmp_path / "records") == before
    assert records.load(tmp_path / "records", HAND).splits == first.num_examples


def test_synthetic_and_real_never_overwrite_each_other(tmp_path):
    _write(tmp_path / "real")
    _write(tmp_path / "world" / "sen1floods11")
    testing.mark_synthetic(tmp_path / "world")  # a folder above counts
    real = conversion.convert(HAND, tmp_path / "real", tmp_path / "records")
    with pytest.raises(UserError, match="holds a real dataset and the tiles are synthetic"):
        conversion.convert(HAND, tmp_path / "world/sen1floods11", tmp_path / "records", overwrite=True)
    synthetic = conversion.convert(HAND, tmp_path / "world/sen1floods11/v1.1", tmp_path / "records2")
    with pytest.raises(UserError, match="holds a synthetic dataset and the tiles are real"):
        conversion.convert(HAND, tmp_path / "real", tmp_path / "records2", overwrite=True)
    for folder, result, source in (("records", real, "real"), ("records2", synthetic, "synthetic")):
        assert result.source == source
        found = records.load(tmp_path / folder, HAND)
        assert found.source == source
        examples = found.dataset("train", features=["source"]).as_numpy_iterator()
        assert {example["source"] for example in examples} == {source.encode()}


KILLED = """
import os, signal, sys
from data_prep import conversion, tiles
read_chip = tiles.read_chip
def kill(chip, specs):
    if chip.chip_id == "Spain_3":
        os.kill(os.getpid(), signal.SIGKILL)
    return read_chip(chip, specs)
tiles.read_chip = kill
conversion.convert("sen1floods11/hand", sys.argv[1], sys.argv[2], overwrite=True)
"""


@pytest.mark.parametrize("overwriting", [False, True])
def test_killed_run_leaves_no_harm(tmp_path, overwriting):
    _write(tmp_path / "tiles")
    config_dir = tmp_path / "records" / HAND
    if overwriting:
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    killed = _run(["-c", KILLED], str(tmp_path / "tiles"), str(tmp_path / "records"))
    assert killed.returncode == -9
    assert any(path.name.startswith("incomplete.") for path in config_dir.iterdir())
    assert not (config_dir / "1.0.0").exists()
    result = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    assert result.done != overwriting  # what the killed run had set aside is back
    assert result.num_examples == {"train": 2, "test": 1}
    assert [path.name for path in config_dir.iterdir()] == ["1.0.0"]
    records.load(tmp_path / "records", HAND).verify()


def test_two_conversions_at_once_are_refused(tmp_path):
    _write(tmp_path / "tiles")
    config_dir = tmp_path / "records" / HAND
    config_dir.mkdir(parents=True)
    with files.only_one(config_dir, "mine"), pytest.raises(UserError, match="another conversion"):
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records")
    assert conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records").done


def test_wrong_settings_name_themselves(tmp_path):
    with pytest.raises(UserError, match=r"--dataset=sen1floods11/both: not one of sen1floods11/hand"):
        conversion.convert("sen1floods11/both", tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"--input_dir=.*nowhere: no such folder"):
        conversion.convert(HAND, tmp_path / "nowhere", tmp_path / "records")
    with pytest.raises(UserError, match="give the folder that holds Sen1Floods11's v1.1"):
        conversion.convert(HAND, tmp_path, tmp_path / "records")
    (tmp_path / "file").write_text("x")
    _write(tmp_path / "tiles")
    with pytest.raises(UserError, match="Not a directory"):
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "file")
    (tmp_path / "records" / HAND / "1.0.0").mkdir(parents=True)
    with pytest.raises(UserError, match=r"hand/1\.0\.0: is there but is no dataset"):
        conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", overwrite=True)


def test_every_shard_has_its_hash(tmp_path):
    _write(tmp_path / "tiles")
    path = conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records").path
    shards = {shard.name: hashlib.sha256(shard.read_bytes()).hexdigest() for shard in path.glob("*.tfrecord*")}
    assert len(shards) == 2
    assert json.loads((path / "shards.json").read_text()) == shards
