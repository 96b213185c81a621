"""The shipped gin files on OMBRIA, made tiny: teacher, baseline and student train, and the student is evaluated."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_training

from data_prep import conversion, testing
from flood_distill import contract

PROJECT = Path(__file__).resolve().parents[2]


def run(module, *arguments):
    command = [sys.executable, "-m", f"flood_distill.{module}", *map(str, arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ombria")
    for number, name in ((1, "train"), (2, "train"), (10, "train"), (3, "test")):
        testing.write_ombria_tuple(folder / "tiles", name, number)
    for dataset in (contract.OMBRIA_AFTER, contract.OMBRIA_BEFORE_AFTER):
        conversion.convert(dataset, folder / "tiles", folder / "records")
    return folder / "records"


@pytest.mark.parametrize(("dataset", "channels"), [(contract.OMBRIA_AFTER, 1), (contract.OMBRIA_BEFORE_AFTER, 2)])
def test_all_three_train_and_are_evaluated(data_dir, tmp_path, dataset, channels):
    bindings = [f"--gin_param={binding}" for binding in (*tiny_training.BINDINGS, f"OMBRIA='{dataset}'")]

    def train(name, *more):
        arguments = (f"--gin_file=ombria_{name}.gin", *bindings, f"--data_dir={data_dir}")
        done = run("train", *arguments, f"--model_dir={tmp_path / name}", *more)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / name / "model.json").read_text())

    assert train("teacher")["network"]["num_channels"] == 4 * channels
    assert train("supervised_hand")["network"]["num_channels"] == channels
    student = train("student_distill", f"--teacher_model_dir={tmp_path / 'teacher'}")
    assert (student["dataset"], len(student["bands"])) == (dataset, channels)
    for name in ("teacher", "supervised_hand", "student_distill"):
        output_dir = tmp_path / "out" / name
        done = run("evaluate", f"--model={tmp_path / name}", f"--data_dir={data_dir}", f"--output_dir={output_dir}")
        assert done.returncode == 0, done.stderr
        metrics = json.loads((output_dir / "metrics.json").read_text())
        assert (metrics["dataset"], metrics["target"]) == (dataset, "flood")
        assert metrics["tp"] + metrics["fp"] + metrics["fn"] + metrics["tn"] == 256**2
        assert set(np.unique(np.load(output_dir / "predictions.npz")["ombria_0003"])) <= {0, 1}
        assert not list(output_dir.glob("*.tif"))
