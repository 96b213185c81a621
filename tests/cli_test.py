"""What all binaries share: gin by name, overrides, one line for an error."""

import subprocess
import sys
from pathlib import Path

import gin
import pytest

from flood_distill import cli
from flood_distill.errors import UserError
from flood_distill.training import optimization

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = (
    "teacher",
    "supervised_hand",
    "supervised_weak",
    "supervised_weak_external",
    "student_distill",
    "student_distill_weak_pool",
)


@pytest.fixture(autouse=True)
def _clean_gin():
    yield
    gin.clear_config()


def test_installed_file_is_found_by_name_and_overridden_in_order(tmp_path, monkeypatch):
    from flood_distill.training import experiment  # noqa: F401  (the bindings of base.gin)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gin").write_text("poly_schedule.base_learning_rate = 0.3\npoly_schedule.power = 0.5\n")
    cli.parse_gin(["teacher.gin", "mine.gin"], ["poly_schedule.power = 2.0"])
    schedule = optimization.poly_schedule(10)
    assert float(schedule(0)) == pytest.approx(0.3)  # the later file wins
    assert float(schedule(5)) == pytest.approx(0.3 * 0.5**2.0)  # and the binding wins over it


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_shipped_experiments_parse_and_differ_from_base_in_15_lines(name):
    from flood_distill.training import experiment  # noqa: F401

    cli.parse_gin([f"{name}.gin"], [])
    assert gin.query_parameter("train.name") == name
    assert gin.query_parameter("train.num_steps") == 30000  # appendix B
    lines = Path(cli.find_gin_file(f"{name}.gin")).read_text().splitlines()
    assert sum(bool(line.strip()) and not line.startswith("#") for line in lines) <= 15


def test_values_of_the_paper():
    from flood_distill.training import experiment  # noqa: F401

    cli.parse_gin(["base.gin"], [])
    expected = {
        "train.batch_size": 64,
        "train.crop_size_px": 321,
        "momentum_optimizer.momentum": 0.9,
        "poly_schedule.power": 0.9,
        "network.decoder_strides": (4, 2),
        "network.num_middle_units": 16,
        "network.width_multiplier": 1.0,
        "distillation_objective.temperature": 1.0,
        "distillation_objective.teacher_labels": "soft",
        "distillation_objective.confidence": "uniform",
        "distillation_objective.lovasz_weight": 0.0,
        "supervised_objective.lovasz_weight": 0.0,
        "momentum_optimizer.weight_average_decay": 0.0,
        "label_weights.hand": 0.0,
        "label_weights.weak": 0.0,
    }
    assert {name: gin.query_parameter(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("files", "params", "message"),
    [
        (["nowhere.gin"], [], r"--gin_file=nowhere.gin: no such file.*base.gin"),
        ([], ["poly_schedule.powr = 1"], "powr"),
        ([], ["poly_scheduel.power = 1"], "poly_scheduel"),
        ([], ["poly_schedule.power = ["], "gin configuration"),
    ],
)
def test_bad_configuration_is_one_error(files, params, message):
    with pytest.raises(UserError, match=message) as caught:
        cli.parse_gin(files, params)
    assert "\n" not in str(caught.value)


def _train(*flags):
    command = [sys.executable, "-m", "flood_distill.train", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gin_file=student_distill.gin"], "error: distillation needs --teacher_model_dir"),
        (
            ["--gin_file=teacher.gin", "--gin_param=train.thresholds=(0.5, 1.0)"],
            r"error: train.thresholds=\(0.5, 1.0\): give one or more between 0 and 1",
        ),
        (["--gin_file=teacher.gin"], "error: .*sen1floods11/hand.*data_prep.convert"),
        (["--gin_file=teacher.gin", "word"], "error: unexpected argument 'word'"),
    ],
)
def test_train_command_ends_with_one_clear_line(tmp_path, flags, message):
    import re

    done = _train(*flags, f"--data_dir={tmp_path}", f"--model_dir={tmp_path / 'model'}")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert re.search(message, errors[0])
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
