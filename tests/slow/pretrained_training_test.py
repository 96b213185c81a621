"""Training from a TF1 checkpoint: weights and input range are the checkpoint's in training, evaluation and export."""

import json

import gin
import numpy as np
import pytest
import tensorflow as tf
from fake_records import FakeRecords, make_example
from reference_comparison import random_image, reference_network, write_checkpoint

from flood_distill import contract, export_model, input_pipeline, normalization, probability, records
from flood_distill.errors import UserError
from flood_distill.training import experiment, model_files, trainer, training_csv, validation

BINDINGS = """
network.width_multiplier = 0.05
network.num_middle_units = 1
poly_schedule.base_learning_rate = 0.1
l2_weight_decay.rate = 1e-4
monitoring.num_maps = 0
"""


@pytest.fixture(scope="module")
def reference():
    return reference_network(width_multiplier=0.05, num_middle_units=1)


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    return write_checkpoint(reference, tmp_path_factory.mktemp("some_archive"))


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Runs the experiment without batches: its steps count and do nothing else, and every validation scores 0.5."""

    def count(one, iterator, num_steps):
        one.step.assign_add(num_steps)
        return dict.fromkeys(trainer.METRICS, tf.zeros([])), tf.zeros([], tf.int64)

    monkeypatch.setattr(trainer.Trainer, "train_steps", count)
    for batches in ("training_dataset", "evaluation_dataset"):
        monkeypatch.setattr(input_pipeline, batches, lambda *_, **__: tf.data.Dataset.from_tensors(0))
    scores = {training_csv.VALIDATION_IOU: 0.5, training_csv.VALIDATION_THRESHOLD: 0.5}
    monkeypatch.setattr(validation.Validation, "__call__", lambda _: scores)
    monkeypatch.setattr(records, "load", lambda data_dir, dataset: FakeRecords([make_example(1, size_px=33)]))
    gin.parse_config(BINDINGS)
    settings = {"name": "t", "datasets": ["sen1floods11/hand"], "batch_size": 1, "crop_size_px": 33, "strategy": "cpu"}
    yield lambda model_dir="M", **more: experiment.train("D", str(tmp_path / model_dir), **settings, **more)
    gin.clear_config()


def test_every_use_of_the_run_agrees_with_the_reference(train, reference, checkpoint, tmp_path):
    train(num_steps=1, pretrained_checkpoint=checkpoint)
    described = json.loads((tmp_path / "M/model.json").read_text())
    assert described["network"]["input_range"] == [-1, 1]
    assert described["pretrained"].startswith("some_archive")
    # What evaluation, prediction and export load: VV, VH in dB with no data at the left, which becomes 0.5, so 0.
    model, info = model_files.load_best(str(tmp_path / "M"))
    s1 = np.random.default_rng(0).uniform((-20, -30), 0, (1, 33, 33, 2)).astype(np.float32)
    s1[:, :, :5] = np.nan
    seen = 2 * normalization.network_input(contract.INPUT_S1, tf.constant(s1)).numpy() - 1
    np.testing.assert_array_equal(seen[:, :, :5], 0)
    expected = tf.nn.softmax(reference(seen)["logits"])[..., contract.WATER].numpy()
    expected[:, :, :5] = np.nan
    assert np.nanstd(expected) > 0.05
    evaluated = probability.water_probability(model, info, tf.constant(s1), None)
    exported = export_model.FloodModel(model, info).predict(backscatter_db=tf.constant(s1))
    np.testing.assert_allclose(evaluated, expected, atol=1e-4)
    np.testing.assert_allclose(exported[contract.WATER_PROBABILITY], expected, atol=1e-4)


def test_own_checkpoint_comes_before_the_pretrained_one(train, checkpoint, capsys):
    train(num_steps=1, pretrained_checkpoint=checkpoint)
    assert "pretrained weights of" in capsys.readouterr().out
    train(num_steps=2, pretrained_checkpoint=checkpoint)
    resumed = capsys.readouterr().out
    assert "resumed from" in resumed
    assert "pretrained weights of" not in resumed
    # Without the checkpoint the weights would be the same and their input another.
    with pytest.raises(UserError, match=r"input_range was \[-1.0, 1.0\] and is \[0.0, 1.0\]"):
        train(num_steps=3)


def test_run_that_starts_from_such_a_run_looks_at_the_same_range(train, checkpoint, tmp_path):
    train(num_steps=1, pretrained_checkpoint=checkpoint)
    train("M2", num_steps=1, initial_weights=str(tmp_path / "M"))
    first, second = (model_files.load_best(str(tmp_path / name)) for name in ("M", "M2"))
    assert second[1].network["input_range"] == [-1, 1]
    image = random_image(33, 33)
    np.testing.assert_array_equal(second[0](image), first[0](image))


def test_network_that_is_not_the_checkpoint_s_stops_the_run(train, checkpoint, tmp_path):
    gin.parse_config("network.num_middle_units = 2")
    with pytest.raises(UserError, match=r"unit_2.*not in the checkpoint"):
        train(num_steps=1, pretrained_checkpoint=checkpoint)
    assert not (tmp_path / "M/model.json").exists()


def test_input_range_is_no_gin_value(train):
    with pytest.raises(ValueError, match="input_range"):
        gin.parse_config("network.input_range = (0.0, 255.0)")
