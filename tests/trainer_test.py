"""The training step: the loss falls, dropout comes from seed and step, NaN stops the run."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract
from flood_distill.training import fused_batch_norm, objectives, optimization, strategies, trainer

SIZE = 33


def _network(dropout_rate):
    """Four layers: the step is the same for any network, and this one is traced in no time."""
    image = keras.Input((SIZE, SIZE, 2))
    features = keras.layers.Conv2D(16, 3, padding="same", use_bias=False)(image)
    normed = fused_batch_norm.FusedBatchNormalization(momentum=0.9)(features)
    dropped = keras.layers.Dropout(dropout_rate, seed=3)(keras.layers.ReLU()(normed))
    return keras.Model(image, keras.layers.Conv2D(2, 1)(dropped))


def _batches(num, batch_size=4):
    """Images whose first band is high where the label is water; a few labels are -1."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (num, batch_size, 3, 3)).repeat(SIZE // 3, 2).repeat(SIZE // 3, 3).astype(np.int32)
    images = np.stack([0.2 + 0.6 * (labels == 1), rng.random(labels.shape)], axis=-1).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices({contract.IMAGE: images, contract.LABEL: labels}).repeat()


def _trainer(dropout_rate=0.0, objective=None):
    distribution = strategies.make_strategy("cpu")
    keras.utils.set_random_seed(1)
    with distribution.scope():
        model = _network(dropout_rate)
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    regularizer = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    return trainer.Trainer(
        distribution, model, optimizer, objective or objectives.supervised_objective, regularizer, seed=7
    )


def _run(one, num_steps, skip=0):
    iterator = iter(one.strategy.experimental_distribute_dataset(_batches(6).skip(skip)))
    return one.train_steps(iterator, tf.constant(num_steps, tf.int64))


def _weights(one):
    return np.concatenate([np.ravel(variable.numpy()) for variable in one.model.trainable_variables])


def test_loss_falls_on_separable_data_until_it_is_asked_to_stop():
    one = _trainer()
    first, _ = _run(one, 2)
    _run(one, 36)
    last, _ = _run(one, 2)
    assert float(last["loss"]) < 0.7 * float(first["loss"])
    assert int(one.step) == 40
    assert not one.stopped
    one.ask_to_stop()
    metrics, bad_step = _run(one, 1000)
    assert int(one.step) == 41  # the step that it was in
    assert one.stopped
    assert not bad_step
    assert float(metrics["loss"]) == pytest.approx(float(last["loss"]), rel=0.5)  # of one step, not a thousandth


def test_nan_stops_and_names_the_step():
    def objective(logits, batch):
        weighted, weight = objectives.supervised_objective(logits, batch)
        return weighted * tf.where(poisoned.step == 2, np.nan, 1.0), weight

    poisoned = _trainer(objective=objective)
    _, bad_step = _run(poisoned, 6)
    assert int(bad_step) == 3  # step counter 2 is the third step
    assert int(poisoned.step) == 3  # and no step came after it


def test_counts_by_threshold():
    one = _trainer()
    one.thresholds = (0.3, 0.5, 0.9)
    batch = next(iter(_batches(1)))
    logits = one.model(batch[contract.IMAGE], training=False).numpy()
    water, label = keras.ops.softmax(logits)[..., contract.WATER].numpy(), batch[contract.LABEL].numpy()
    counts = one.evaluate_step(batch).numpy()
    for (tp, fp, fn, tn), threshold in zip(counts, one.thresholds, strict=True):
        assert tp == np.sum((water >= threshold) & (label == 1))
        assert fp == np.sum((water >= threshold) & (label == 0))
        assert tp + fp + fn + tn == np.sum(label >= 0)
    assert counts[0, 0] > counts[2, 0]  # fewer pixels are as sure


def test_dropout_depends_on_seed_and_step_only():
    one = _trainer(dropout_rate=0.5)
    start = [variable.numpy() for variable in (*one.model.variables, *one.optimizer.variables)]

    def weights_after(step):
        for variable, value in zip((*one.model.variables, *one.optimizer.variables), start, strict=True):
            variable.assign(value)
        one.step.assign(step)
        _run(one, 1)
        return _weights(one)

    np.testing.assert_allclose(weights_after(3), weights_after(3), atol=1e-6)
    assert np.abs(weights_after(3) - weights_after(4)).max() > 1e-4


def test_poly_schedule_is_the_formula():
    schedule = optimization.poly_schedule(100, base_learning_rate=0.1)
    assert float(schedule(0)) == pytest.approx(0.1)
    assert float(schedule(50)) == pytest.approx(0.1 * 0.5**0.9)
    assert float(schedule(100)) == 0.0
