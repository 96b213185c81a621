"""The whole network on one replica and on two: its synchronised batch norms and its losses are scaled once."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract
from flood_distill.training import network, objectives, strategies, trainer

SIZE_PX = 33
TINY = {
    "num_channels": 2,
    "output_stride": 16,
    "decoder_strides": [4, 2],
    "width_multiplier": 0.125,
    "num_middle_units": 1,
    "batch_norm_momentum": 0.9,
    "dropout_rate": 0.0,
}


def _batches():
    """Images whose first band is high where the label is water; a few labels are -1."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(-1, 2, (1, 4, 3, 3))
    labels = coarse.repeat(SIZE_PX // 3, 2).repeat(SIZE_PX // 3, 3).astype(np.int32)
    images = np.stack([0.2 + 0.6 * (labels == 1), rng.random(labels.shape)], axis=-1).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices({contract.IMAGE: images, contract.LABEL: labels}).repeat()


def _trainer(strategy):
    distribution = strategies.make_strategy(strategy)
    keras.utils.set_random_seed(1)
    with distribution.scope():
        model = network.build(TINY, synchronized_batch_norm=distribution.num_replicas_in_sync > 1)
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    return trainer.Trainer(distribution, model, optimizer, objectives.supervised_objective, decay, seed=7)


def _step(one):
    iterator = iter(one.strategy.experimental_distribute_dataset(_batches()))
    return one.train_steps(iterator, tf.constant(1, tf.int64))[0]


def _weights(one):
    return np.concatenate([np.ravel(variable.numpy()) for variable in one.model.trainable_variables])


def test_two_replicas_step_as_one():
    one, two = _trainer("cpu"), _trainer("mirrored")
    assert two.strategy.num_replicas_in_sync == 2
    start = _weights(one)
    np.testing.assert_array_equal(start, _weights(two))
    metrics_one, metrics_two = _step(one), _step(two)
    moved_one, moved_two = _weights(one) - start, _weights(two) - start
    # A loss or gradient scaled by the number of replicas would show as a ratio of 2 or 1/2.
    assert np.linalg.norm(moved_two) / np.linalg.norm(moved_one) == pytest.approx(1, abs=0.01)
    assert moved_one @ moved_two / (np.linalg.norm(moved_one) * np.linalg.norm(moved_two)) > 0.999
    assert float(metrics_one["loss"]) == pytest.approx(float(metrics_two["loss"]), rel=1e-5)
    assert float(metrics_one["l2"]) == pytest.approx(float(metrics_two["l2"]), rel=1e-5)
    batch = next(iter(_batches()))
    scored = int((batch[contract.LABEL].numpy() >= 0).sum())
    assert int(tf.reduce_sum(one.evaluate_step(batch))) == scored
    distributed = next(iter(two.strategy.experimental_distribute_dataset(_batches())))
    assert int(tf.reduce_sum(two.evaluate_step(distributed))) == scored
