"""The binary checkpoints as a person calls it: a run's weights out as a TF1 checkpoint and in again."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from flood_distill.models import deeplab


def call(*arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "flood_distill.checkpoints", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_exported_and_imported_weights_are_the_run_s(tmp_path):
    network = tiny_models.write_model_dir(tmp_path / "M")
    result = call("export", f"--model_dir={tmp_path}/M", f"--output={tmp_path}/tf1/model.ckpt")
    assert result.returncode == 0, result.stderr
    assert "expect inputs in [0, 1]" in result.stdout
    assert "aspp0/weights" in tf.train.load_checkpoint(str(tmp_path / "tf1/model.ckpt")).get_variable_to_shape_map()
    result = call(
        "import",
        f"--checkpoint={tmp_path}/tf1",
        "--channels=2",
        f"--output={tmp_path}/keras/W.weights.h5",
        "--gin_param=network.width_multiplier=0.05",
        "--gin_param=network.num_middle_units=1",
    )
    assert result.returncode == 0, result.stderr
    assert "initialised anew: nothing" in result.stdout
    assert sorted(path.name for path in (tmp_path / "keras").iterdir()) == ["W.json", "W.weights.h5"]
    again = deeplab.deeplab_v3_plus(**json.loads((tmp_path / "keras/W.json").read_text()))
    again.load_weights(tmp_path / "keras/W.weights.h5")
    image = np.random.default_rng(0).random((1, 40, 33, 2), dtype=np.float32)
    np.testing.assert_allclose(again(image), network(image), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=W"], "error: say what to do: one of import, export; see --help"),
        (["convert", "--output=W"], "error: say what to do: one of import, export; see --help"),
        (["import", "W", "--output=W"], "error: unexpected argument 'W'; see --help"),
        (["import", "--output=W"], "error: import needs --checkpoint; see --help"),
        (["export", "--output=W"], "error: export needs --model_dir; see --help"),
    ],
)
def test_what_is_missing_is_one_line(arguments, message):
    result = call(*arguments)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [message]
