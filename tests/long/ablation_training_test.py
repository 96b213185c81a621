"""The ablation through its real command, made tiny: every knob at once trains, is scored and stands in the table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep import conversion, testing
from flood_distill import contract

PROJECT = Path(__file__).resolve().parents[2]
TINY_GIN = """
network.width_multiplier = 0.05
network.num_middle_units = 1
network.batch_norm_momentum = 0.5
train.num_steps = 4
train.batch_size = 2
train.crop_size_px = 65
train.validate_every = 2
train.checkpoint_every = 2
train.report_every = 2
train.initial_weights = 'teacher'
momentum_optimizer.weight_average_decay = 0.5
"""
ABLATION_GIN = """
ablation.gin_files = ['{tiny}']
ablation.teacher_gin_file = 'ombria_teacher.gin'
ablation.student_gin_file = 'ombria_student_distill.gin'
ablation.teachers = {{'optical': ["train.inputs = 's2'", 'supervised_objective.lovasz_weight = 1.0']}}
ablation.students = {{'all': [
    "distillation_objective.teacher_labels = 'hard'",
    "distillation_objective.confidence = 'entropy'",
    'distillation_objective.lovasz_weight = 0.5',
    'label_weights.hand = 1.0',
    "training_dataset.teacher_view = 'clean_tile'",
]}}
ablation.num_parallel = 2
ablation.threads = 1
"""


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ombria")
    for number, name in ((1, "train"), (2, "train"), (10, "train"), (3, "test")):
        testing.write_ombria_tuple(folder / "tiles", name, number)
    conversion.convert(contract.OMBRIA_AFTER, folder / "tiles", folder / "records")
    return folder / "records"


def test_every_knob_at_once(data_dir, tmp_path):
    (tmp_path / "tiny.gin").write_text(TINY_GIN)
    (tmp_path / "ablation.gin").write_text(ABLATION_GIN.format(tiny=tmp_path / "tiny.gin"))
    work = tmp_path / "work"
    command = [sys.executable, "-m", "flood_distill.ablation", f"--gin_file={tmp_path / 'ablation.gin'}"]
    command += [f"--data_dir={data_dir}", f"--work_dir={work}"]

    def run():
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, env=environment)
        assert done.returncode == 0, done.stderr
        return {path: path.stat().st_mtime_ns for path in (work / "stages").iterdir()}

    stages = run()
    assert len(stages) == 6
    table = (work / "ablation.md").read_text()
    assert "2 of 2 runs scored" in table
    for name, channels in (("teacher_optical", 3), ("student_all", 1)):
        info = json.loads((work / f"models/{name}_seed0/model.json").read_text())
        assert info["network"]["num_channels"] == channels
        assert info["weight_average_decay"] == 0.5
        metrics = json.loads((work / f"evaluation/{name}_seed0/test/metrics.json").read_text())
        assert f"{100 * metrics['iou_pooled']:.2f}" in next(row for row in table.splitlines() if f"| {name} |" in row)
    assert run() == stages
