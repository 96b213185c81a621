"""A run that is killed ten times at random moments, and a job whose workers are killed, end as if nothing had been.

A quarter of an hour: every start imports TensorFlow and traces the step anew.
"""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from data_prep import conversion, testing
from data_prep.testing import chip_grid
from flood_distill import contract, exit_codes, supervision
from flood_distill.training import checkpoint_folder

PROJECT = Path(__file__).resolve().parents[2]
NUM_STEPS = 90
CHECKPOINT_EVERY = 3
KILLS = 10
TIMEOUT_S = 900
# At 65 pixels the arithmetic of two threads repeats to the bit, at 161 it does not: one thread, and 161 pixels.
SETTINGS = (
    "network.width_multiplier=0.05",
    "network.num_middle_units=1",
    "network.batch_norm_momentum=0.9",
    "network.dropout_rate=0.3",
    f"train.num_steps={NUM_STEPS}",
    "train.batch_size=2",
    "train.crop_size_px=161",
    "train.precise_batch_norm_batches=1",
    "train.validation_batch_size=2",
    "train.report_every=4",
    "train.validate_every=10",
    f"train.checkpoint_every={CHECKPOINT_EVERY}",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    rng = np.random.default_rng(0)
    chip_ids = [f"Ghana_{number}" for number in range(8)]
    testing.write_splits(folder / "v1.1", {"train": chip_ids[:5], "validation": chip_ids[5:]})
    for number, chip_id in enumerate(chip_ids):
        grid = chip_grid(float(number), 10.0)
        water = rng.integers(0, 2, (8, 8), np.int16).repeat(64, 0).repeat(64, 1)
        backscatter = rng.normal(np.stack([-10 - 5 * water, -16 - 6 * water]).transpose(1, 2, 0), 2.0)
        arrays = {contract.LABEL: water, contract.S1: backscatter.astype(np.float32)}
        testing.write_hand_chip(folder / "v1.1", chip_id, grid, arrays=arrays)
    conversion.convert(contract.HAND, folder, folder / "records")
    return folder / "records"


def _command(data_dir, model_dir, *flags):
    bindings = [f"--gin_param={setting}" for setting in SETTINGS]
    command = [sys.executable, "-m", "flood_distill.train", "--gin_file=supervised_hand.gin", *bindings, "--threads=1"]
    return [*command, f"--data_dir={data_dir}", f"--model_dir={model_dir}", *flags]


def _environment(**more):
    # Unbuffered: what a killed process has said is in the log.
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"} | more


def _steps(model_dir):
    """Steps of the checkpoints that are there."""
    names = [path.name for path in (model_dir / "checkpoints").glob("ckpt-*.index")]
    return {int(re.search(r"\d+", name)[0]) for name in names}


def _wait(process, reached, pause_s=0.002):
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        assert process.poll() is None, "it ended before the moment came"
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(pause_s)


def _start(command, log, **environment):
    with open(log, "ab") as output:
        return subprocess.Popen(command, cwd=PROJECT, stdout=output, stderr=output, env=_environment(**environment))


def _signal_at(moment, command, model_dir, log, number):
    """Starts the command and sends a signal at a random moment.

    Args:
        moment: a share of 0.4 s after the first new checkpoint; below 0, of the first ten seconds of the start.
    """
    started = log.with_suffix(".started")
    started.unlink(missing_ok=True)
    newest = max(_steps(model_dir), default=0)
    begun = time.monotonic()
    with _start(command, log, **{supervision.STARTED_FILE: str(started)}) as process:
        if moment < 0:
            _wait(process, lambda: started.exists() or time.monotonic() > begun - 10 * moment)
        else:
            _wait(process, lambda: max(_steps(model_dir), default=0) > newest)
            time.sleep(0.4 * moment)
        process.send_signal(number)
        return process.wait(TIMEOUT_S)


def _tensors(path):
    reader = tf.train.load_checkpoint(path)
    names = [
        name for name in reader.get_variable_to_shape_map() if ".ATTRIBUTES" in name and "save_counter" not in name
    ]
    return {name: reader.get_tensor(name) for name in names}


def _rows(model_dir):
    with open(model_dir / contract.TRAINING_CSV) as file:
        return {row["step"]: row for row in csv.DictReader(file)}


def test_run_killed_ten_times_is_the_run_that_was_not_to_the_last_bit(data_dir, tmp_path):
    unkilled, killed = tmp_path / "unkilled", tmp_path / "killed"
    log = tmp_path / "log"
    with _start(_command(data_dir, unkilled), log) as process:
        assert process.wait(TIMEOUT_S) == 0, log.read_text()
    seed = random.randrange(1 << 32)
    print("seed of the moments:", seed)
    draw = random.Random(seed)
    moments = [draw.random() for _ in range(KILLS - 2)] + [-draw.random() for _ in range(2)]
    draw.shuffle(moments)
    command = _command(data_dir, killed)
    for moment in moments:
        assert _signal_at(moment, command, killed, log, signal.SIGKILL) == -signal.SIGKILL, log.read_text()
    assert _signal_at(draw.random(), command, killed, log, signal.SIGTERM) == exit_codes.STOPPED, log.read_text()
    with _start(command, log) as process:
        assert process.wait(TIMEOUT_S) == 0, log.read_text()
    resumed = re.findall(r"resumed from .*/ckpt-(\d+)", log.read_text())
    assert len(set(resumed)) >= KILLS - 2
    # Weights, statistics, momenta, step; weights, step and IoU of the best; what model.json says of it.
    for folder in ("checkpoints", "best"):
        paths = [checkpoint_folder.newest_whole(model_dir / folder) for model_dir in (unkilled, killed)]
        one, other = map(_tensors, paths)
        assert one.keys() == other.keys()
        assert [name for name in one if not np.array_equal(one[name], other[name])] == []
    assert len(one) > 100
    assert json.loads((unkilled / "model.json").read_text()) == json.loads((killed / "model.json").read_text())
    rows, others = _rows(unkilled), _rows(killed)
    ious = {step: row["validation_iou"] for step, row in rows.items() if row["validation_iou"]}
    assert len(set(ious.values())) >= 3  # it learns, so there was something to choose
    assert {step: others[step]["validation_iou"] for step in ious} == ious


def _workers(supervisor):
    found = {}
    for process in psutil.Process(supervisor.pid).children():
        found[json.loads(process.environ()["TF_CONFIG"])["task"]["index"]] = process
    return [found[0], found[1]]


def test_job_goes_on_from_its_checkpoint_when_either_worker_is_killed(data_dir, tmp_path):
    model_dir, log = tmp_path / "run", tmp_path / "log"
    command = [sys.executable, "-m", "flood_distill.supervise", "--num_workers=2", "--startup_deadline_s=600"]
    command += [f"--worker_log_dir={tmp_path}", "--", *_command(data_dir, model_dir, "--strategy=multi_worker")]
    with _start(command, log) as supervisor:
        at_kill = []
        for index in (1, 0):
            newest = max(_steps(model_dir), default=0)
            _wait(supervisor, lambda newest=newest: max(_steps(model_dir), default=0) > newest)
            workers = _workers(supervisor)
            at_kill.append(max(_steps(model_dir)))
            workers[index].kill()
            psutil.wait_procs(workers, timeout=60)
        assert supervisor.wait(TIMEOUT_S) == 0, log.read_text()
    said = log.read_text()
    assert [f"worker {index} was killed by SIGKILL" in said for index in (0, 1)] == [True, True]
    resumed = [int(step) for step in re.findall(r"resumed from .*/ckpt-(\d+)", said)]
    assert resumed[0] >= at_kill[0]
    assert resumed[-1] >= at_kill[1] > at_kill[0]
    assert max(_steps(model_dir)) == NUM_STEPS
    assert max(map(int, _rows(model_dir))) == NUM_STEPS
