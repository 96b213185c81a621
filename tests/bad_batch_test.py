"""A run that meets NaN stops, and says at which examples."""

import json

import gin
import pytest
import tensorflow as tf
from fake_records import FakeRecords, make_example

from flood_distill import records
from flood_distill.errors import UserError
from flood_distill.training import experiment, trainer

BINDINGS = """
network.width_multiplier = 0.05
network.num_middle_units = 1
poly_schedule.base_learning_rate = 0.1
l2_weight_decay.rate = 1e-4
"""


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Runs the experiment with steps that only report."""

    def run(**metrics):
        def steps(one, iterator, num_steps):
            one.step.assign_add(num_steps)
            values = dict.fromkeys(trainer.METRICS, 0.0) | {trainer.LEARNING_RATE: 0.1} | metrics
            bad_step = values.pop("bad_step", 0)
            return {name: tf.constant(value) for name, value in values.items()}, tf.constant(bad_step, tf.int64)

        monkeypatch.setattr(trainer.Trainer, "train_steps", steps)
        return experiment.train(
            "D", str(tmp_path), strategy="cpu", name="t", datasets=["sen1floods11/hand"], num_steps=4, batch_size=2,
            crop_size_px=33,
        )  # fmt: skip

    source = FakeRecords([make_example(number, size_px=33) for number in range(3)])
    monkeypatch.setattr(records, "load", lambda data_dir, dataset: source)
    gin.parse_config(BINDINGS)
    yield run
    gin.clear_config()


@pytest.mark.parametrize(("loss", "what"), [(float("nan"), "loss"), (0.5, "gradients")])
def test_bad_batch_is_written_down(train, tmp_path, loss, what):
    with pytest.raises(UserError, match=rf"{what}.*not finite at step 3 \(learning rate 0.1\)"):
        train(bad_step=3, loss=loss)
    found = json.loads((tmp_path / "bad_batch.json").read_text())
    assert (found["step"], found["not_finite"]) == (3, what)
    assert found["learning_rate"] == pytest.approx(0.1)
    # Step 3 of two examples each: the fifth and sixth of the stream, so two of the second epoch's three.
    assert len(found["examples"]) == 2
    assert len({example["chip_id"] for example in found["examples"]} & {"chip_0", "chip_1", "chip_2"}) == 2
    assert {example["dataset"] for example in found["examples"]} == {"sen1floods11/hand"}
    assert not (tmp_path / "checkpoints").exists()


def test_batches_without_a_valid_pixel_are_warned_of(train, capsys):
    train(empty=0.25)
    assert "warning: 1 of the 4 steps from 1 on had no valid pixel" in capsys.readouterr().err
