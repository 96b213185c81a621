"""Weight decay: which kernels, and the half of TF1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill.losses.weight_decay import decayed_kernels, weight_decay
from flood_distill.models import deeplab, layers


@pytest.fixture(scope="module")
def model():
    return deeplab.deeplab_v3_plus(2, width_multiplier=0.05, num_middle_units=1, seed=0)


def test_penalty_by_hand():
    image = keras.Input((4, 4, 2))
    hidden = keras.layers.DepthwiseConv2D(3, name="depthwise")(keras.layers.Conv2D(3, 1, name="conv")(image))
    network = keras.Model(image, keras.layers.BatchNormalization()(hidden))
    for variable in network.trainable_variables:
        variable.assign(np.full(variable.shape, 5.0))
    network.get_layer("conv").kernel.assign(np.full((1, 1, 2, 3), 2.0))
    # Six weights of 2: rate / 2 times 6 * 2^2; the fives of bias, depthwise kernel and batch norm do not count.
    assert float(weight_decay(network, 0.1)) == pytest.approx(0.1 / 2 * 6 * 4)
    assert float(weight_decay(network, 0.0)) == 0.0


def test_convolutions_pointwise_shortcuts_and_logits_are_decayed_and_nothing_else(model):
    names = {id(variable): name for name, variable in layers.checkpoint_names(model).items()}
    decayed = {names[id(kernel)] for kernel in decayed_kernels(model)}
    assert decayed == {name for name in names.values() if name.endswith("/weights")}
    assert "logits/semantic/weights" in decayed
    assert "xception_65/entry_flow/block1/unit_1/xception_module/shortcut/weights" in decayed
    assert not any("depthwise" in name or "BatchNorm" in name or "biases" in name for name in decayed)
    # 2 entry convolutions, 6 units of 3 pointwise, 4 shortcuts, 6 in ASPP, 2 x 3 in the decoder, logits.
    assert len(decayed) == 2 + 6 * 3 + 4 + 6 + 2 * 3 + 1


def test_gradient_is_rate_times_weight(model):
    kernels = [kernel.value for kernel in decayed_kernels(model)]
    with tf.GradientTape() as tape:
        penalty = weight_decay(model, 0.02)
    for kernel, gradient in zip(kernels, tape.gradient(penalty, kernels), strict=True):
        np.testing.assert_allclose(gradient, 0.02 * kernel.numpy(), rtol=1e-5, atol=1e-9)


def test_kernels_inside_a_nested_network_are_decayed_once(model):
    image = keras.Input((None, None, 2))
    outer = keras.Model(image, keras.layers.ReLU()(model(image)))
    assert float(weight_decay(outer, 1.0)) == pytest.approx(float(weight_decay(model, 1.0)))
