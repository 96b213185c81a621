"""SIGKILL at several moments of a conversion, each told by the files that are there; about ten seconds a moment."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from data_prep import conversion, testing
from data_prep.testing import chip_grid
from flood_distill import records

HAND = "sen1floods11/hand"
VERSION = "1.0.0"
PROJECT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_S = 300
NUM_CHIPS = 24
OLD = 1000.0  # time of change, in seconds since 1970, that marks the dataset to be replaced


def _inside(config_dir, pattern):
    try:
        return any(config_dir.glob(f"incomplete.*/{pattern}"))
    except FileNotFoundError:  # renamed between being listed and being opened
        return False


def _workers_read(config_dir, process):
    return _inside(config_dir, "") and len(process.children()) >= 2


def _is_new(path):
    try:
        return path.stat().st_mtime != OLD
    except FileNotFoundError:
        return False


MOMENTS = {
    "nothing but the folder": lambda folder, process: folder.is_dir(),
    "tiles are being read": _workers_read,
    "a split is spilled to buckets": lambda folder, process: _inside(folder, "bucket_*"),
    "a first shard is begun": lambda folder, process: _inside(folder, "*-train.tfrecord*"),
    "the last split's shards are begun": lambda folder, process: _inside(folder, "*-bolivia.tfrecord*"),
    "hashes are written": lambda folder, process: _inside(folder, "shards.json"),
    "metadata are written": lambda folder, process: _inside(folder, "metadata.json"),
    "the dataset has its name": lambda folder, process: (folder / VERSION).is_dir(),
}
OVERWRITING = {
    "tiles are being read": _workers_read,
    "the old one is set aside": lambda folder, process: (folder / f"{VERSION}.replaced").is_dir(),
    "the new one has its name": lambda folder, process: _is_new(folder / VERSION / "dataset_info.json"),
}
# The real command, with a buffer of TFDS that is smaller than the dataset, and a second between the last file and the
# dataset's name: on a busy machine that moment is over before it is seen.
COMMAND = """
import time
import tensorflow_datasets as tfds
from data_prep import conversion, convert
write = tfds.core.DatasetInfo.write_to_directory
def write_and_wait(*args, **kwargs):
    write(*args, **kwargs)
    time.sleep(1)
tfds.core.DatasetInfo.write_to_directory = write_and_wait
conversion._SHUFFLE_BUFFER_BYTES = 8 << 20
convert.entry_point()
"""


@pytest.fixture(scope="module")
def tiles_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    chip_ids = [f"Ghana_{number}" for number in range(NUM_CHIPS)]
    splits = {"train": chip_ids[:-4], "validation": chip_ids[-4:-2], "test": chip_ids[-2:-1], "bolivia": chip_ids[-1:]}
    testing.write_splits(folder / "v1.1", splits)
    for number, chip_id in enumerate(chip_ids):
        testing.write_hand_chip(folder / "v1.1", chip_id, chip_grid(float(number), 40.0))
    return folder


@pytest.fixture(scope="module")
def unkilled(tiles_dir, tmp_path_factory):
    return _contents(conversion.convert(HAND, tiles_dir, tmp_path_factory.mktemp("unkilled")).path)


def _contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _kill_at(moment, tiles_dir, data_dir, *flags):
    """Runs the command until a moment, kills it, returns the processes that it had started."""
    arguments = [f"--dataset={HAND}", f"--input_dir={tiles_dir}", f"--data_dir={data_dir}", "--num_workers=2", *flags]
    with subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], cwd=PROJECT, stderr=subprocess.PIPE) as command:
        process = psutil.Process(command.pid)
        deadline = time.monotonic() + TIMEOUT_S
        while not moment(data_dir / HAND, process):
            assert command.poll() is None, command.stderr.read().decode()
            assert time.monotonic() < deadline, "the moment did not come"
            time.sleep(0.002)
        children = process.children(recursive=True)
        command.kill()
    assert command.returncode == -9  # it had not ended by itself
    return children


def _check_after_kill(config_dir, tiles_dir, data_dir, unkilled, children):
    assert not psutil.wait_procs(children, timeout=20)[1]
    final_dir = config_dir / VERSION
    if final_dir.exists():
        assert _contents(final_dir) == unkilled
    conversion.convert(HAND, tiles_dir, data_dir)
    assert _contents(final_dir) == unkilled
    assert [path.name for path in config_dir.iterdir()] == [VERSION]
    records.load(data_dir, HAND).verify()


@pytest.mark.parametrize("name", MOMENTS)
def test_killed_conversion_leaves_no_dataset_or_a_whole_one(name, tiles_dir, tmp_path, unkilled):
    children = _kill_at(MOMENTS[name], tiles_dir, tmp_path)
    _check_after_kill(tmp_path / HAND, tiles_dir, tmp_path, unkilled, children)


@pytest.mark.parametrize("name", OVERWRITING)
def test_killed_overwriting_keeps_the_old_one_or_has_a_whole_new_one(name, tiles_dir, tmp_path, unkilled):
    old = conversion.convert(HAND, tiles_dir, tmp_path).path
    os.utime(old / "dataset_info.json", (OLD, OLD))
    children = _kill_at(OVERWRITING[name], tiles_dir, tmp_path, "--overwrite")
    _check_after_kill(tmp_path / HAND, tiles_dir, tmp_path, unkilled, children)
