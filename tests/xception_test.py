"""Xception-65: counts, sizes, rates, padding, taps, initial weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill.models import layers, xception

SMALL = {"width_multiplier": 0.125, "num_middle_units": 2, "seed": 3}
MODULE = "xception_65-{}-xception_module-separable_conv{}_{}"


def _backbone(size=None, channels=2, **settings) -> keras.Model:
    height, width = size if isinstance(size, tuple) else (size, size)
    image = keras.Input((height, width, channels))
    endpoints = xception.xception65(image, **{**SMALL, **settings})
    return keras.Model(image, {"features": endpoints.features, **{f"tap{k}": v for k, v in endpoints.taps.items()}})


def _randomised(model: keras.Model, seed: int = 0) -> list[np.ndarray]:
    """Gives every batch norm statistics and offsets of its own; returns the weights."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if variable.name in ("beta", "moving_mean"):
            variable.assign(rng.normal(0.0, 0.3, variable.shape))
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        if variable.name == "kernel":
            fan_in = np.prod(variable.shape[:2]) * (variable.shape[2] if variable.shape[3] > 1 else 1)
            variable.assign(rng.normal(0.0, 1.4 / np.sqrt(fan_in), variable.shape))
    return model.get_weights()


def _image(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random(shape, dtype=np.float32)


def _count(variables) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


@pytest.mark.parametrize(("channels", "trainable", "total"), [(3, 37_867_312, 38_052_512), (2, 37_867_024, 38_052_224)])
def test_parameter_counts_of_the_published_network(channels, trainable, total):
    model = _backbone(channels=channels, width_multiplier=1.0, num_middle_units=16)
    assert _count(model.trainable_variables) == trainable
    assert _count(model.weights) == total
    # An input channel costs one 3x3 filter for each of the 32 channels of conv1_1.
    assert trainable == 37_867_312 + (channels - 3) * 3 * 3 * 32


@pytest.mark.parametrize(
    ("size", "output_stride", "taps", "features"),
    [
        (513, 16, {2: 257, 4: 129, 8: 65, 16: 33}, 33),
        (513, 8, {2: 257, 4: 129, 8: 65}, 65),
        (513, 32, {2: 257, 4: 129, 8: 65, 16: 33}, 17),
        (321, 16, {2: 161, 4: 81, 8: 41, 16: 21}, 21),
        (100, 16, {2: 50, 4: 25, 8: 13, 16: 7}, 7),
        (33, 32, {2: 17, 4: 9, 8: 5, 16: 3}, 2),
    ],
)
def test_every_size_is_the_image_size_over_the_stride_rounded_up(size, output_stride, taps, features):
    outputs = _backbone(size, output_stride=output_stride).output
    assert {key: value.shape[1] for key, value in outputs.items() if key != "features"} == {
        f"tap{stride}": side for stride, side in taps.items()
    }
    assert all(side == -(-size // stride) for stride, side in taps.items())
    assert outputs["features"].shape[1:3] == (features, features)


@pytest.mark.parametrize(
    ("output_stride", "block3", "middle", "exit1", "exit2"),
    [(32, (2, 1), 1, (2, 1), 1), (16, (2, 1), 1, (1, 1), 2), (8, (1, 1), 2, (1, 2), 4)],
)
def test_stride_and_rate_of_every_block(output_stride, block3, middle, exit1, exit2):
    model = _backbone(output_stride=output_stride)

    def placed(unit, number):
        layer = model.get_layer(MODULE.format(unit, number, "depthwise"))
        return layer.strides[0], layer.dilation_rate[0]

    assert [placed("entry_flow-block1-unit_1", number) for number in (1, 2, 3)] == [(1, 1), (1, 1), (2, 1)]
    assert placed("entry_flow-block3-unit_1", 3) == block3
    assert placed("middle_flow-block1-unit_2", 3) == (1, middle)
    assert placed("exit_flow-block1-unit_1", 3) == exit1
    assert [placed("exit_flow-block2-unit_1", number) for number in (1, 2, 3)] == [(1, exit2)] * 3


def test_multi_grid_scales_the_rates_of_the_last_block_only():
    model = _backbone(multi_grid=(1, 2, 4))
    rates = [
        model.get_layer(MODULE.format("exit_flow-block2-unit_1", n, "depthwise")).dilation_rate[0] for n in (1, 2, 3)
    ]
    assert rates == [2 * 1, 2 * 2, 2 * 4]
    assert model.get_layer(MODULE.format("exit_flow-block1-unit_1", 3, "depthwise")).dilation_rate[0] == 1


# --- Properties of the features; that they equal the reference's is tested in reference_test.py -----------------------


@pytest.mark.parametrize("size", [(97, 65), (64, 100)])
def test_dense_features_subsampled_equal_the_features_at_the_nominal_stride(size):
    models = {stride: _backbone(size, output_stride=stride) for stride in (8, 16, 32)}
    weights = _randomised(models[32])
    image = _image(1, *size, 2)
    features = {}
    for stride, model in models.items():
        model.set_weights(weights)
        features[stride] = model(image)["features"].numpy()
    scale = features[32].max()
    assert features[32].std() > 0.1 * scale
    np.testing.assert_allclose(features[8][:, ::2, ::2] / scale, features[16] / scale, atol=1e-5)
    np.testing.assert_allclose(features[8][:, ::4, ::4] / scale, features[32] / scale, atol=1e-5)


def test_taps_are_batch_norm_outputs_before_relu_and_features_come_after_it():
    model = _backbone(65)
    _randomised(model)
    outputs = {name: value.numpy() for name, value in model(_image(2, 65, 65, 2)).items()}
    for stride in (2, 4, 8, 16):
        assert (outputs[f"tap{stride}"] < 0).mean() > 0.1, f"stride {stride} was rectified"
        assert (outputs[f"tap{stride}"] > 0).mean() > 0.1
    assert outputs["features"].min() == 0.0
    source = model.output["tap4"]._keras_history.operation.name
    assert source == "xception_65-entry_flow-block2-unit_1-xception_module-separable_conv2_pointwise-BatchNorm"


def test_rectifying_the_taps_in_place_does_not_reach_the_network():
    """The shortcut takes the raw input of its module, not the rectified one."""
    model = _backbone(65)
    shortcut = model.get_layer("xception_65-entry_flow-block2-unit_1-xception_module-shortcut")
    assert shortcut.input._keras_history.operation.name == "xception_65-entry_flow-block1-unit_1-xception_module-add"


# --- Padding and atrous taps -----------------------------------------------------------------------------------------


def _plain(x, scope):
    return x


def _one_layer(make, shape, channels, static):
    height, width = shape if static else (None, None)
    image = keras.Input((height, width, channels))
    settings = {"norm": _plain, "initializer": layers.truncated_normal(0.3), "seed": 5}
    return keras.Model(image, make(image, settings))


@pytest.mark.parametrize("shape", [(9, 9), (8, 8), (9, 8), (10, 7)])
@pytest.mark.parametrize("static", [True, False])
def test_stride_two_pads_one_pixel_on_every_side(shape, static):
    image = _image(2, *shape, 3)
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)])
    conv = _one_layer(
        lambda x, settings: layers.conv(x, 4, "conv", kernel_size=3, strides=2, **settings), shape, 3, static
    )
    expected = tf.nn.conv2d(padded, conv.get_layer("conv").kernel.value, 2, "VALID")
    np.testing.assert_allclose(conv(image), expected, atol=1e-6)
    depthwise = _one_layer(
        lambda x, settings: layers.depthwise_conv(x, "conv", strides=2, **settings), shape, 3, static
    )
    kernel = depthwise.get_layer("conv").kernel.value
    expected = tf.nn.depthwise_conv2d(padded, kernel, [1, 2, 2, 1], "VALID")
    np.testing.assert_allclose(depthwise(image), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [1, 2, 4, 6, 7, 12, 18])
@pytest.mark.parametrize("shape", [(7, 7), (5, 13)])
def test_atrous_taps_outside_the_image_are_dropped_without_a_trace(shape, rate):
    image = tf.constant(_image(2, *shape, 4))
    model = _one_layer(lambda x, settings: layers.depthwise_conv(x, "atrous", rate=rate, **settings), shape, 4, True)
    kernel = tf.constant(model.get_layer("atrous").kernel.numpy())
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([image, kernel])
        ours = model(image)
        plain = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "SAME", dilations=[rate, rate])
        ours_sum, plain_sum = tf.reduce_sum(ours**2), tf.reduce_sum(plain**2)
    np.testing.assert_allclose(ours, plain, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(ours_sum, image), tape.gradient(plain_sum, image), atol=1e-5)
    our_gradient = tape.gradient(ours_sum, model.get_layer("atrous").kernel.value)
    np.testing.assert_allclose(our_gradient, tape.gradient(plain_sum, kernel), atol=1e-4)


# --- Refusals, widths, initial weights -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [32, (32, 64), (64, 17), (None, 20)])
def test_an_input_that_is_too_small_is_refused_by_size(size):
    small = [side for side in (size if isinstance(size, tuple) else (size,)) if side is not None and side < 33]
    with pytest.raises(ValueError, match=f"{small[0]}.* too small.* 33"):
        _backbone(size)


def test_an_unknown_output_stride_is_refused():
    with pytest.raises(ValueError, match="output_stride=12"):
        _backbone(output_stride=12)


@pytest.mark.parametrize(("width", "expected"), [(1.0, 728), (0.5, 368), (0.25, 184), (0.125, 88), (0.001, 8)])
def test_width_multiplier_rounds_to_multiples_of_eight(width, expected):
    assert layers.scaled_channels(728, width) == expected


def test_initial_kernels_have_the_reference_spread():
    model = _backbone(width_multiplier=0.5)
    for kind in ("depthwise", "pointwise"):
        kernel = model.get_layer(MODULE.format("middle_flow-block1-unit_1", 2, kind)).kernel.numpy()
        # A normal distribution cut at two standard deviations keeps 0.88 of its spread.
        assert kernel.std() == pytest.approx(0.88 * 0.09, rel=0.03)
        assert abs(kernel).max() <= 2 * 0.09
