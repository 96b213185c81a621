"""A step that computes blocks again is the step that keeps them."""

import keras
import numpy as np
import pytest
import strategy_run
import tensorflow as tf

from flood_distill import contract
from flood_distill.models import deeplab
from flood_distill.training import network, recompute, strategies

SIZE = 33
_ARGUMENTS = network.network(2, width_multiplier=0.1, num_middle_units=1, batch_norm_momentum=0.9, dropout_rate=0.5)


def _model(synchronized=False):
    keras.utils.set_random_seed(1)
    return network.build(_ARGUMENTS, synchronized)


def _batch():
    rng = np.random.default_rng(0)
    images = rng.random((4, SIZE, SIZE, 2)).astype(np.float32)
    return {contract.IMAGE: images, contract.LABEL: (images[..., 0] > 0.5).astype(np.int32)}


def _step(strategy, **settings):
    """Returns the trained weights before and after a step of learning rate 1 (so minus the gradient) and all others."""
    one = strategy_run.make_trainer(strategies.make_strategy(strategy), model=_model, learning_rate=1.0, **settings)
    start = strategy_run.flat(one.model.trainable_variables)
    batches = tf.data.Dataset.from_tensors(_batch()).repeat()
    metrics, _ = one.train_steps(iter(one.strategy.experimental_distribute_dataset(batches)), tf.constant(1, tf.int64))
    after = strategy_run.flat(one.model.trainable_variables)
    return start, after, strategy_run.flat(one.model.non_trainable_variables), float(metrics["loss"])


@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_gradients_averages_and_dropout_are_those_of_the_plain_step(strategy):
    start, plain, averages, loss = _step(strategy)
    _, again, averages_again, loss_again = _step(strategy, recompute=True)
    moved, moved_again = plain - start, again - start
    assert loss_again == pytest.approx(loss, rel=1e-5)
    assert np.linalg.norm(moved) > 0
    assert moved @ moved_again > 0.9999 * np.linalg.norm(moved) * np.linalg.norm(moved_again)
    np.testing.assert_allclose(averages_again, averages, rtol=1e-4, atol=1e-5)


def test_batch_norms_of_keras_are_refused():
    plain = deeplab.deeplab_v3_plus(**_ARGUMENTS)
    with pytest.raises(ValueError, match="BatchNorm: only batch norms of FusedBatchNormalization"):
        recompute.recomputing(plain)
