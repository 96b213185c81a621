"""What a step does beside one plain gradient: micro-batches, clipping, dropout by replica, and what it reports."""

import functools

import keras
import numpy as np
import pytest
import strategy_run
import tensorflow as tf

from flood_distill import contract
from flood_distill.training import objectives, strategies, trainer


def _plain_network(synchronized=False):
    """Without batch norms: a micro-batch has statistics of its own."""
    del synchronized
    image = keras.Input((None, None, 2))
    features = keras.layers.Conv2D(8, 3, padding="same", activation="tanh")(image)
    return keras.Model(image, keras.layers.Conv2D(2, 1)(features))


def _batch(num_images=8):
    """Images with very different numbers of labelled pixels: a mean of means is not the mean."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (num_images, 9, 9)).astype(np.int32)
    for image in range(num_images):
        labels[image, image + 1 :] = contract.IGNORE_LABEL
    return {contract.IMAGE: rng.random((num_images, 9, 9, 2)).astype(np.float32), contract.LABEL: labels}


def _steps(strategy_name, num_steps, batch, **settings):
    """Returns weights before and after, and what the steps reported."""
    settings = {"model": _plain_network} | settings
    one, start, metrics = strategy_run.steps_on(batch, strategy_name, num_steps, **settings)
    return start, strategy_run.flat(one.model.trainable_variables), metrics, metrics["bad_step"]


@pytest.mark.parametrize(("strategy", "parts"), [("cpu", 4), ("mirrored", 2)])
def test_micro_batches_are_the_whole_batch(strategy, parts):
    start, whole, metrics, _ = _steps("cpu", 5, _batch())
    _, in_parts, metrics_in_parts, _ = _steps(strategy, 5, _batch(), accumulation_steps=parts)
    moved = np.linalg.norm(whole - start)
    assert moved > 0.1 * np.linalg.norm(start)
    assert np.linalg.norm(in_parts - whole) < 1e-4 * moved
    assert metrics_in_parts["loss"] == pytest.approx(metrics["loss"], rel=1e-5)
    assert metrics_in_parts["l2"] == pytest.approx(metrics["l2"], rel=1e-5)


def test_clipping_takes_the_norm_over_all_replicas():
    """With a learning rate of 1 the first step is as long as the gradient."""
    start, free, *_ = _steps("cpu", 1, _batch())
    longest = np.linalg.norm(free - start) / 2
    for strategy in ("cpu", "mirrored"):
        _, clipped, *_ = _steps(strategy, 1, _batch(), max_gradient_norm=longest)
        np.testing.assert_allclose(clipped - start, (free - start) / 2, atol=1e-5 * longest)
    _, unclipped, *_ = _steps("cpu", 1, _batch(), max_gradient_norm=5 * longest)
    np.testing.assert_allclose(unclipped, free, atol=1e-6)


def test_gradients_that_are_not_finite_stop_the_run_where_the_loss_is():
    def objective(logits, batch):
        weighted, weight = objectives.supervised_objective(logits, batch)
        # sqrt(0) is 0 and has an infinite slope, which 0 makes NaN.
        return weighted + tf.sqrt(tf.reduce_sum(logits, axis=(1, 2, 3)) * 0), weight

    *_, metrics, bad_step = _steps("cpu", 3, _batch(), objective=objective)
    assert np.isfinite(metrics["loss"])
    assert bad_step == 1
    assert metrics["learning_rate"] == 1.0


def test_scaled_gradients_may_overflow_but_not_without_a_scale():
    """float16 training: Keras halves the scale and leaves out the step; below a scale of 1 that is no way out."""
    for scale, stops_at in ((2.0**120, 0), (0.5, 1)):
        one = strategy_run.make_trainer(strategies.make_strategy("cpu"), model=_plain_network)
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=scale)
        factor = 1e30 if stops_at == 0 else np.inf
        objective = _times_a_slope_of(factor)
        one = trainer.Trainer(one.strategy, one.model, scaled, objective, lambda model: tf.zeros([]), seed=7)
        before = strategy_run.flat(one.model.trainable_variables)
        _, bad_step = one.train_steps(iter(tf.data.Dataset.from_tensors(_batch())), tf.constant(1, tf.int64))
        assert int(bad_step) == stops_at
        np.testing.assert_array_equal(strategy_run.flat(one.model.trainable_variables), before)
        assert float(scaled.dynamic_scale.numpy()) == scale / 2


def _times_a_slope_of(factor):
    @tf.custom_gradient
    def steep(loss):
        return loss, lambda upstream: upstream * factor

    def objective(logits, batch):
        weighted, weight = objectives.supervised_objective(logits, batch)
        return steep(weighted), weight

    return objective


def test_steps_without_a_valid_pixel_are_told():
    batch = _batch()
    start, same, metrics, bad_step = _steps("cpu", 2, batch | {contract.LABEL: np.full_like(batch[contract.LABEL], -1)})
    assert metrics["empty"] == 1
    assert metrics["loss"] == 0
    assert bad_step == 0
    assert np.linalg.norm(same - start) < 1e-2 * np.linalg.norm(start)  # weight decay alone
    *_, metrics, _ = _steps("cpu", 2, batch)
    assert metrics["empty"] == 0


@pytest.mark.parametrize(("strategy", "settings"), [("mirrored", {}), ("cpu", {"accumulation_steps": 2})])
def test_replicas_and_micro_batches_drop_other_features(strategy, settings):
    """Two equal images, one counted positive and one negative: the loss is 0 where both lose the same features."""

    def network(rate):
        image = keras.Input((None, None, 2))
        return keras.Model(image, keras.layers.Conv2D(2, 1)(keras.layers.Dropout(rate)(image)))

    def objective(logits, batch):
        sign = tf.cast(batch[contract.LABEL][:, 0, 0], tf.float32)
        return sign * tf.reduce_sum(logits, axis=(1, 2, 3)), tf.ones_like(sign)

    batch = {
        contract.IMAGE: np.ones((2, 9, 9, 2), np.float32),
        contract.LABEL: np.array([1, -1], np.int32).reshape(2, 1, 1),
    }
    losses = []
    for rate in (0.0, 0.5):
        model = functools.partial(lambda rate, synchronized: network(rate), rate)
        *_, metrics, _ = _steps(strategy, 1, batch, model=model, objective=objective, **settings)
        losses.append(abs(metrics["loss"]))
    assert losses[0] < 1e-4
    assert losses[1] > 0.1
