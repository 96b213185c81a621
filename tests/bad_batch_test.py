"""A run that meets NaN stops, and says at which examples."""

import functools
import json
from unittest import mock

import gin
import pytest
import tensorflow as tf
from fake_records import FakeRecords, make_example

from flood_distill import records
from flood_distill.errors import UserError
from flood_distill.training import experiment, loop, source_losses, trainer, training_csv

BINDINGS = """
network.width_multiplier = 0.05
network.num_middle_units = 1
poly_schedule.base_learning_rate = 0.1
l2_weight_decay.rate = 1e-4
monitoring.num_maps = 0
"""


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Runs the experiment with steps that only report."""

    def run(bad_step, **metrics):
        monkeypatch.setattr(trainer.Trainer, "train_steps", _reporting(bad_step, metrics))
        settings = {"num_steps": 4, "batch_size": 2, "crop_size_px": 33, "datasets": ["sen1floods11/hand"]}
        return experiment.train("D", str(tmp_path), strategy="cpu", name="t", **settings)

    source = FakeRecords([make_example(number, size_px=33) for number in range(3)])
    monkeypatch.setattr(records, "load", lambda data_dir, dataset: source)
    gin.parse_config(BINDINGS)
    yield run
    gin.clear_config()


def _reporting(bad_step, metrics):
    def steps(one, iterator, num_steps):
        one.step.assign_add(num_steps)
        values = dict.fromkeys(trainer.METRICS, 0.0) | {trainer.LEARNING_RATE: 0.1} | metrics
        return {name: tf.constant(value) for name, value in values.items()}, tf.constant(bad_step, tf.int64)

    return steps


class _Trainer:
    """Makes no steps, reports them."""

    stopped = False
    model, optimizer = None, mock.Mock(spec=["use_ema"], use_ema=False)

    def __init__(self, bad_step=0, **metrics):
        self.step = tf.Variable(0, dtype=tf.int64)
        self.train_steps = functools.partial(_reporting(bad_step, metrics), self)

    def learning_rate(self):
        return 0.1


def _loop(one, folder):
    cadence = loop.Cadence(4, 4, 4, 4)
    state, log = mock.Mock(best=(0, 0.0)), mock.Mock()
    validate, watch = (lambda: {training_csv.VALIDATION_IOU: 0.5, training_csv.VALIDATION_THRESHOLD: 0.5}), mock.Mock()
    losses = source_losses.SourceLosses(mock.Mock(), ["one"])
    examples = lambda step: [f"of step {step}"]  # noqa: E731
    return loop.Loop(one, state, log, cadence, 2, validate, watch, losses, examples, str(folder), "t")


def test_bad_batch_is_written_down(train, tmp_path):
    with pytest.raises(UserError, match=r"loss.*not finite at step 3 \(learning rate 0.1\)"):
        train(bad_step=3, loss=float("nan"))
    found = json.loads((tmp_path / "bad_batch.json").read_text())
    assert (found["step"], found["not_finite"]) == (3, "loss")
    assert found["learning_rate"] == pytest.approx(0.1)
    # Step 3 of two examples each: the fifth and sixth of the stream, so two of the second epoch's three.
    assert len({example["chip_id"] for example in found["examples"]} & {"chip_0", "chip_1", "chip_2"}) == 2
    assert [example["dataset"] for example in found["examples"]] == ["sen1floods11/hand"] * 2
    assert not (tmp_path / "checkpoints").exists()


def test_finite_loss_means_that_the_gradients_were_not(tmp_path):
    with pytest.raises(UserError, match="gradients"):
        _loop(_Trainer(bad_step=2, loss=0.5), tmp_path).run(iter([]), 0)
    found = json.loads((tmp_path / "bad_batch.json").read_text())
    assert (found["step"], found["not_finite"], found["examples"]) == (2, "gradients", ["of step 2"])


def test_batches_without_a_valid_pixel_are_warned_of(tmp_path, capsys):
    _loop(_Trainer(empty=0.25), tmp_path).run(iter([]), 0)
    assert "warning: 1 of the 4 steps from 1 on had no valid pixel" in capsys.readouterr().err
    _loop(_Trainer(), tmp_path).run(iter([]), 0)
    assert "warning" not in capsys.readouterr().err
