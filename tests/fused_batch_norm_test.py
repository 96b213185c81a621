"""The fused batch norm is Keras's batch norm, only faster."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill.models import deeplab
from flood_distill.training.fused_batch_norm import FusedBatchNormalization


def _values(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(1.5, 2.0, shape).astype(np.float32))


def _pair(channels: int, **settings) -> list[keras.layers.BatchNormalization]:
    pair = [kind(momentum=0.9, **settings) for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)]
    for layer in pair:
        layer.build((None, None, None, channels))
        layer.gamma.assign(_values(channels, seed=1))
        layer.beta.assign(_values(channels, seed=2))
    return pair


@pytest.mark.parametrize("shape", [(4, 7, 6, 5), (2, 1, 1, 8), (1, 33, 20, 3)])
@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
@pytest.mark.parametrize("synchronized", [False, True])
def test_training_outputs_gradients_and_statistics_equal_those_of_keras(shape, epsilon, synchronized):
    inputs, upstream = _values(*shape), _values(*shape, seed=3)
    results = []
    for layer in _pair(shape[-1], epsilon=epsilon, synchronized=synchronized):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
        watched = [inputs, layer.gamma.value, layer.beta.value]
        results.append([outputs, *tape.gradient(outputs, watched, upstream), *layer.non_trainable_variables])
    for plain, fused in zip(*results, strict=True):
        np.testing.assert_allclose(fused, plain, rtol=2e-4, atol=2e-4)


def test_moving_variance_is_the_one_normalised_with():
    (_, layer) = _pair(2)
    inputs = _values(2, 3, 3, 2)
    layer(inputs, training=True)
    # Starts at 1 with momentum 0.9; biased variance, as Keras has it, not the fused operation's 18 / 17 of it.
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * np.var(inputs, axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * np.mean(inputs, axis=(0, 1, 2)), rtol=1e-5)


def test_one_value_a_channel_gives_beta_and_no_nan():
    (_, layer) = _pair(4)
    outputs = layer(_values(1, 1, 1, 4), training=True)
    np.testing.assert_allclose(np.ravel(outputs), layer.beta, atol=1e-6)
    np.testing.assert_allclose(layer.moving_variance, np.full(4, 0.9), rtol=1e-6)


def test_inference_and_frozen_layers_use_the_moving_statistics():
    plain, fused = _pair(3)
    inputs = _values(2, 4, 4, 3)
    for layer in (plain, fused):
        layer.moving_mean.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(fused(inputs, training=False), plain(inputs, training=False), rtol=1e-6)
    fused.trainable = False
    np.testing.assert_allclose(fused(inputs, training=True), plain(inputs, training=False), rtol=1e-6)
    np.testing.assert_array_equal(fused.moving_mean, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("synchronized", [False, True])
def test_half_precision_inputs_keep_float32_statistics(synchronized):
    layer = FusedBatchNormalization(dtype="mixed_bfloat16", momentum=0.0, synchronized=synchronized)
    inputs = tf.cast(_values(8, 9, 9, 4), tf.bfloat16)
    outputs = layer(inputs, training=True)
    assert outputs.dtype == tf.bfloat16
    exact = tf.cast(inputs, tf.float32)
    np.testing.assert_allclose(layer.moving_mean, np.mean(exact, axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(np.mean(outputs), 0.0, atol=0.01)


def test_the_network_trains_alike_with_either():
    settings = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "dropout_rate": 0.0, "seed": 1}
    networks = [
        deeplab.deeplab_v3_plus(**settings, batch_norm_layer=kind)
        for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)
    ]
    image = tf.constant(np.random.default_rng(0).random((4, 65, 65, 2), dtype=np.float32))
    outputs = [network(image, training=True).numpy() for network in networks]
    scale = np.abs(outputs[0]).max()
    np.testing.assert_allclose(outputs[1] / scale, outputs[0] / scale, atol=1e-3)
    assert [v.path for v in networks[0].weights] == [v.path for v in networks[1].weights]
    for plain, fused in zip(*(network.non_trainable_variables for network in networks), strict=True):
        np.testing.assert_allclose(fused, plain, rtol=1e-3, atol=1e-3)
