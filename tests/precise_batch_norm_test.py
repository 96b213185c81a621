"""Batch norms take the statistics of the batches that they are shown."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract
from flood_distill.training import fused_batch_norm
from flood_distill.training.precise_batch_norm import PreciseBatchNorm


@pytest.fixture(params=[keras.layers.BatchNormalization, fused_batch_norm.FusedBatchNormalization])
def model(request):
    image = keras.Input((None, None, 2))
    return keras.Model(image, request.param(momentum=0.9, epsilon=1e-5, name="norm")(image))


def _images(num):
    rng = np.random.default_rng(0)
    return rng.normal([3.0, -1.0], [2.0, 0.5], (num, 2, 8, 8, 2)).astype(np.float32)


def _measure(model, images):
    batches = tf.data.Dataset.from_tensor_slices({contract.IMAGE: images})
    strategy = tf.distribute.get_strategy()
    PreciseBatchNorm(strategy, model, strategy.experimental_distribute_dataset(batches)).measure()


def test_statistics_are_those_of_all_pixels(model):
    images = _images(3)
    _measure(model, images)
    norm = model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean.numpy(), images.mean((0, 1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), images.var((0, 1, 2, 3)), rtol=1e-4)


def test_inference_on_the_one_batch_measured_equals_the_training_pass(model):
    images = _images(1)
    _measure(model, images)
    np.testing.assert_allclose(model(images[0], training=False), model(images[0], training=True), atol=1e-4)


def test_earlier_averages_leave_no_trace(model):
    norm = model.get_layer("norm")
    norm.moving_mean.assign([100.0, 100.0])
    _measure(model, _images(2))
    first = norm.moving_mean.numpy()
    norm.moving_mean.assign([-7.0, 3.0])
    _measure(model, _images(2))
    np.testing.assert_array_equal(norm.moving_mean.numpy(), first)
