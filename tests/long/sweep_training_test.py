"""The sweep command on real trainings, made tiny: stopped once, gone on with, one point diverges."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_training

from data_prep import conversion, testing
from flood_distill import contract, exit_codes, model_info

PROJECT = Path(__file__).resolve().parents[2]
RATE = "poly_schedule.base_learning_rate"
TINY = (
    *tiny_training.BINDINGS,
    f"sweep.grid={{'{RATE}': (0.1, 1e30)}}",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ombria")
    for number, name in ((1, "train"), (10, "train"), (3, "test")):
        testing.write_ombria_tuple(folder / "tiles", name, number)
    conversion.convert(contract.OMBRIA_AFTER, folder / "tiles", folder / "records")
    return folder / "records"


def _command(module, *arguments):
    return [sys.executable, "-m", f"flood_distill.{module}", *map(str, arguments)]


def _environment():
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def _run(command):
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=_environment())


def test_a_stopped_sweep_goes_on_and_picks_the_best(data_dir, tmp_path):
    sweep_dir = tmp_path / "sweep"
    bindings = [f"--gin_param={binding}" for binding in (*TINY, f"OMBRIA='{contract.OMBRIA_AFTER}'")]
    shared = ("--gin_file=ombria_supervised_hand.gin", *bindings, f"--data_dir={data_dir}")
    command = _command("sweep", *shared, f"--sweep_dir={sweep_dir}", "--train_flag=--threads=1")

    process = subprocess.Popen(command, cwd=PROJECT, env=_environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(sweep_dir.glob("trials/*/model.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == exit_codes.STOPPED

    done = _run(command)
    assert done.returncode == 0, done.stderr
    with open(sweep_dir / "table.csv", newline="") as file:
        by_rate = {float(row[RATE]): row for row in csv.DictReader(file)}
    assert {rate: row["state"] for rate, row in by_rate.items()} == {0.1: "done", 1e30: "failed"}
    assert "not finite" in by_rate[1e30]["reason"]
    assert sorted(int(row["attempts"]) for row in by_rate.values()) == [1, 2]
    info = model_info.read(sweep_dir / "trials" / "base_learning_rate=0.1")
    assert float(by_rate[0.1]["validation_iou"]) == info.iou
    assert (sweep_dir / "heatmap.png").read_bytes().startswith(b"\x89PNG")

    # The gin file of the best trains alone, with the same configuration.
    best = ("train", f"--gin_file={sweep_dir / 'best.gin'}", f"--data_dir={data_dir}", f"--model_dir={tmp_path / 'M'}")
    again = _run(_command(*best))
    assert again.returncode == 0, again.stderr
    configs = [path / "config.gin" for path in (tmp_path / "M", sweep_dir / "trials" / "base_learning_rate=0.1")]
    assert configs[0].read_text() == configs[1].read_text()


def test_wrong_names_stop_before_any_training(data_dir, tmp_path):
    command = _command("sweep", "--gin_file=teacher.gin", f"--data_dir={data_dir}", f"--sweep_dir={tmp_path / 'S'}")
    for binding in ("sweep.grid={'train.num_stepz': (1, 2)}", "train.num_stepz=2"):
        bad = _run([*command, f"--gin_param={binding}"])
        assert bad.returncode == 1
        assert "num_stepz" in bad.stderr
        assert "Traceback" not in bad.stderr
    assert not (tmp_path / "S").exists()
