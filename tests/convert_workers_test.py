import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from tensorflow_datasets.core import shuffle

from data_prep import conversion, testing, tiles, workers
from data_prep.testing import chip_grid
from data_prep.workers import Workers
from flood_distill.errors import UserError

HAND = "sen1floods11/hand"
PID = "__import__('time').sleep(0.01) or __import__('os').getpid()"
PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture
def pool():
    pool = Workers(2)
    yield pool
    pool.close()


def _write(folder, num_chips):
    chip_ids = [f"Ghana_{number}" for number in range(num_chips)]
    testing.write_splits(folder / "v1.1", {"train": chip_ids[:-1], "test": chip_ids[-1:]})
    return {
        chip_id: testing.write_hand_chip(
            folder / "v1.1", chip_id, chip_grid(float(number), 40.0), without=["s2"] * (number % 2)
        )
        for number, chip_id in enumerate(chip_ids)
    }


def _contents(result):
    return {path.name: path.read_bytes() for path in result.path.iterdir()}


def _gone(processes):
    return not psutil.wait_procs(processes, timeout=20)[1]


def test_dataset_does_not_depend_on_the_number_of_workers(tmp_path):
    _write(tmp_path / "tiles", 5)
    alone, one, three = (
        _contents(conversion.convert(HAND, tmp_path / "tiles", tmp_path / str(count), num_workers=count))
        for count in (0, 1, 3)
    )
    assert alone == one == three
    assert len(alone) == 2 + 4  # shards; features, metadata, dataset_info, shards.json


def test_fault_that_a_worker_finds_is_reported_as_ever(tmp_path):
    files = _write(tmp_path / "tiles", 4)
    testing.truncate(files["Ghana_1"]["s1"])
    testing.truncate(files["Ghana_2"]["label"])
    messages = []
    for count in (0, 2):
        with pytest.raises(UserError, match="2 chips are incomplete or damaged") as caught:
            conversion.convert(HAND, tmp_path / "tiles", tmp_path / "records", num_workers=count)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not (tmp_path / "records").exists()
    kept = [
        _contents(conversion.convert(HAND, tmp_path / "tiles", tmp_path / name, allow_missing=True, num_workers=count))
        for name, count in (("a", 0), ("b", 2))
    ]
    assert kept[0] == kept[1]
    assert len(json.loads(kept[0]["metadata.json"])["left_out"]) == 2


def test_results_come_in_order_and_look_ahead_is_bounded(pool):
    taken = []
    items = (taken.append(number) or number for number in range(100))
    results = pool.map(abs, items)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 1 + 2 * 2  # two results a worker besides the one that is given out
    assert list(results) == list(range(10, 100))


def test_error_in_a_worker_comes_at_its_turn(pool):
    results = pool.map(int, ["1", "2", "x", "3"])
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="'x'"):
        next(results)
    assert list(pool.map(int, ["4"])) == [4]


def test_killed_worker_is_told_and_not_waited_for(pool):
    assert list(pool.map(abs, [1])) == [1]
    with pytest.raises(UserError, match="worker processes was killed, perhaps for lack of memory; fewer need less"):
        list(pool.map(signal.raise_signal, [signal.SIGKILL]))


def test_closed_pool_leaves_no_process(pool):
    processes = [psutil.Process(pid) for pid in set(pool.map(eval, [PID] * 20))]
    assert os.getpid() not in {process.pid for process in processes}
    assert all(process.is_running() for process in processes)
    pool.close()
    assert _gone(processes)


def test_worker_loads_no_tensorflow():
    pool = Workers(1)
    assert list(pool.map(tiles.event_of, ["Ghana_1"])) == ["Ghana"]  # loads what conversion needs
    heavy = "sorted(set(__import__('sys').modules) & {'tensorflow', 'keras', 'tensorflow_datasets', 'pytest'})"
    assert list(pool.map(eval, [heavy])) == [[]]
    pool.close()


PARENT = """
import sys, time
from data_prep.workers import Workers
pool = Workers(2)
print(list(pool.map(abs, range(8))), flush=True)
list(pool.map(time.sleep, [600] * 2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_die_with_their_parent(how):
    with subprocess.Popen([sys.executable, "-c", PARENT], cwd=PROJECT, stdout=subprocess.PIPE) as parent:
        parent.stdout.readline()
        processes = psutil.Process(parent.pid).children(recursive=True)
        assert len(processes) >= 2  # and Python's resource tracker
        parent.send_signal(how)
        assert _gone(processes)


def test_few_tiles_are_not_worth_a_worker(monkeypatch):
    monkeypatch.setattr(workers, "num_cores", lambda: 4)
    found = [workers.worthwhile_workers(count) for count in (0, 1, 31, 32, 48, 64, 5000)]
    assert found == [0, 0, 0, 2, 3, 4, 4]
    monkeypatch.setattr(workers, "num_cores", lambda: 1)
    assert workers.worthwhile_workers(5000) == 0


def test_splits_larger_than_the_buffer_are_shuffled_on_disk(tmp_path, monkeypatch):
    _write(tmp_path / "tiles", 4)
    in_memory = _contents(conversion.convert(HAND, tmp_path / "tiles", tmp_path / "memory"))
    assert shuffle.MAX_MEM_BUFFER_SIZE == 256 << 20  # else TFDS takes 1 GB; the name is TFDS's own
    monkeypatch.setattr(conversion, "_SHUFFLE_BUFFER_BYTES", 1 << 20)  # less than one tile
    on_disk = _contents(conversion.convert(HAND, tmp_path / "tiles", tmp_path / "disk"))
    assert on_disk == in_memory
