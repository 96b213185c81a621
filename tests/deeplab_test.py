"""DeepLab v3+: counts, names, sizes, the align-corners resize, precision, dropout, export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill.models import deeplab, layers, xception

SMALL = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "seed": 7}


def _image(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def _lively(model: keras.Model) -> keras.Model:
    """Sets the batch norms' statistics from noise and louder logits, so that the output answers to the input."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(_image(4, 65, 65, model.input_shape[-1]), training=True)
    kernel = model.get_layer("logits-semantic").kernel
    kernel.assign(kernel * 100)
    return model


@pytest.fixture(scope="module")
def small():
    return _lively(deeplab.deeplab_v3_plus(**SMALL))


@pytest.fixture(scope="module")
def full():
    """The published network with one decoder stage at 513 px."""
    return deeplab.deeplab_v3_plus(3, 21, decoder_strides=(4,), input_size=513)


@pytest.fixture(scope="module")
def student():
    return deeplab.deeplab_v3_plus(2)


def _count(variables) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _num_batch_norms(model: keras.Model) -> int:
    return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


# --- Numbers of the published network --------------------------------------------------------------------------------


def test_published_network_with_one_decoder_stage(full):
    assert _count(full.trainable_variables) == 41_055_413
    assert _count(layers.checkpoint_names(full).values()) == 41_258_213
    assert _num_batch_norms(full) == 146
    assert len(full.trainable_variables) == 440
    moving = [variable for variable in full.weights if variable.name.startswith("moving_")]
    assert len(moving) == 2 * 146 == 292


def test_student_and_teacher(student):
    teacher = deeplab.deeplab_v3_plus(6)
    for model, trainable, total in ((student, 41_207_026, 41_412_066), (teacher, 41_208_178, 41_413_218)):
        assert _count(model.trainable_variables) == trainable
        assert _count(model.weights) == total
    # Four more bands, each one 3x3 filter for the 32 channels of conv1_1; every other variable is alike.
    assert 41_413_218 - 41_412_066 == 4 * 3 * 3 * 32
    # Against 3 channels and 21 classes (41,417,237): one channel and 19 times 256 weights and a bias less.
    assert 41_412_066 == 41_417_237 - 1 * 288 - 19 * 257
    # The stage at stride 2 adds projection, two separable convolutions and five batch norms (4 values a channel).
    stage = 128 * 48 + 9 * (256 + 48) + (256 + 48) * 256 + 9 * 256 + 256 * 256 + 4 * (48 + 304 + 3 * 256)
    assert 41_258_213 + stage == 41_417_237


def _multiply_adds(model: keras.Model) -> int:
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            total += int(np.prod(layer.kernel.shape)) * height * width
    return total


def test_multiply_adds_are_the_published_ones(full):
    assert _multiply_adds(full) == pytest.approx(54.035e9, abs=0.0005e9)
    assert _multiply_adds(full) == pytest.approx(54.17e9, rel=0.003)  # g3doc/model_zoo.md


def test_multiply_adds_of_other_sizes():
    crop = deeplab.deeplab_v3_plus(3, 21, decoder_strides=(4,), input_size=321)
    assert _multiply_adds(crop) == pytest.approx(21.768e9, abs=0.0005e9)
    dense = deeplab.deeplab_v3_plus(3, 21, output_stride=8, decoder_strides=(4,), input_size=513)
    assert _multiply_adds(dense) == pytest.approx(176.852e9, abs=0.0005e9)


@pytest.mark.parametrize(("output_stride", "rates"), [(8, [12, 24, 36]), (16, [6, 12, 18]), (32, [3, 6, 9])])
def test_aspp_rates_follow_the_output_stride(output_stride, rates):
    model = deeplab.deeplab_v3_plus(**SMALL, output_stride=output_stride)
    assert [model.get_layer(f"aspp{n}_depthwise").dilation_rate[0] for n in (1, 2, 3)] == rates
    inputs = [tensor._keras_history.operation.name for tensor in model.get_layer("aspp-concat").input]
    assert [name.split("_pointwise")[0].split("-")[0] for name in inputs] == [
        "image_pooling",
        "aspp0",
        "aspp1",
        "aspp2",
        "aspp3",
    ]


def test_batch_norm_epsilon_of_backbone_and_head(small):
    norms = [layer for layer in small.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.epsilon for layer in norms if layer.name.startswith("xception_65")} == {1e-3}
    assert {layer.epsilon for layer in norms if not layer.name.startswith("xception_65")} == {1e-5}


# --- Names -----------------------------------------------------------------------------------------------------------


def _expected_names(num_middle_units: int) -> set[str]:
    """The variables of a TF1 checkpoint with decoder strides 4 and 2."""
    convs = [f"xception_65/entry_flow/conv1_{n}" for n in (1, 2)]
    depthwises = []
    units = [f"entry_flow/block{n}/unit_1" for n in (1, 2, 3)] + [f"exit_flow/block{n}/unit_1" for n in (1, 2)]
    shortcuts = units[:-1]
    units += [f"middle_flow/block1/unit_{n}" for n in range(1, num_middle_units + 1)]
    for unit in units:
        scope = f"xception_65/{unit}/xception_module"
        depthwises += [f"{scope}/separable_conv{n}_depthwise" for n in (1, 2, 3)]
        convs += [f"{scope}/separable_conv{n}_pointwise" for n in (1, 2, 3)]
        convs += [f"{scope}/shortcut"] if unit in shortcuts else []
    convs += ["image_pooling", "aspp0", "concat_projection"]
    depthwises += [f"aspp{n}_depthwise" for n in (1, 2, 3)]
    convs += [f"aspp{n}_pointwise" for n in (1, 2, 3)]
    for suffix in ("", "_1"):
        convs += [f"decoder/feature_projection0{suffix}"]
        depthwises += [f"decoder/decoder_conv{n}{suffix}_depthwise" for n in (0, 1)]
        convs += [f"decoder/decoder_conv{n}{suffix}_pointwise" for n in (0, 1)]
    norms = [
        f"{scope}/BatchNorm/{name}"
        for scope in convs + depthwises
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    ]
    kernels = [f"{scope}/weights" for scope in convs] + [f"{scope}/depthwise_weights" for scope in depthwises]
    return {*norms, *kernels, "logits/semantic/weights", "logits/semantic/biases"}


def test_variables_carry_the_names_and_layouts_of_tf1_checkpoints(student):
    variables = layers.checkpoint_names(student)
    assert set(variables) == _expected_names(16)
    assert len(variables) == 440 + 292 + 5 * 5  # five convolutions with batch norm at the second decoder stage
    block = "xception_65/entry_flow/block2/unit_1/xception_module"
    assert variables[f"{block}/separable_conv1_depthwise/depthwise_weights"].shape == (3, 3, 128, 1)
    assert variables[f"{block}/separable_conv1_pointwise/weights"].shape == (1, 1, 128, 256)
    assert variables["decoder/decoder_conv0_depthwise/depthwise_weights"].shape == (3, 3, 256 + 48, 1)
    assert variables["logits/semantic/weights"].shape == (1, 1, 256, 2)


def test_layer_names_depend_on_nothing_but_the_arguments(small):
    again = deeplab.deeplab_v3_plus(**SMALL)
    fixed = deeplab.deeplab_v3_plus(**SMALL, input_size=64)
    assert [layer.name for layer in again.layers] == [layer.name for layer in small.layers]
    assert [layer.name for layer in fixed.layers] == [layer.name for layer in small.layers]
    assert all("/" not in layer.name and "." not in layer.name for layer in small.layers)


def test_seed_decides_the_initial_weights():
    first, same, other = (deeplab.deeplab_v3_plus(**{**SMALL, "seed": seed}) for seed in (1, 1, 2))
    kernels = [model.get_layer("aspp0").kernel.numpy() for model in (first, same, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    # Layers of the same shape do not share their numbers.
    assert not np.array_equal(first.get_layer("aspp1_pointwise").kernel, first.get_layer("aspp2_pointwise").kernel)


# --- Resize ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [((21, 21), (81, 81)), ((81, 41), (321, 81)), ((7, 10), (25, 40)), ((33, 20), (9, 7)), ((1, 1), (6, 5)),
     ((5, 5), (1, 1)), ((2, 3), (512, 3)), ((161, 161), (320, 321))],
)  # fmt: skip
@pytest.mark.parametrize("static", [True, False])
def test_resize_is_the_reference_with_aligned_corners(old, new, static):
    image = tf.constant(_image(2, *old, 3))
    height, width = old if static else (None, None)
    like_height, like_width = new if static else (None, None)
    inputs = [keras.Input((height, width, 3)), keras.Input((like_height, like_width, 1))]
    model = keras.Model(inputs, layers.AlignedResize()(*inputs))
    expected = tf.compat.v1.image.resize(image, new, method="bilinear", align_corners=True)
    like = tf.zeros((2, *new, 1))
    np.testing.assert_allclose(model([image, like]), expected, atol=1e-6)
    compiled = tf.function(model, reduce_retracing=True)
    np.testing.assert_allclose(compiled([image, like]), expected, atol=1e-6)


def test_resize_to_the_same_size_is_the_identity():
    image = keras.ops.convert_to_tensor(_image(1, 9, 12, 2))
    assert layers.AlignedResize()(image, image[..., :1]) is image


def test_resize_gradient_is_the_transposed_product():
    image, like = tf.constant(_image(1, 4, 5, 2)), tf.zeros((1, 13, 9, 1))
    upstream = tf.constant(_image(1, 13, 9, 2, seed=2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        ours = tf.reduce_sum(layers.AlignedResize()(image, like) * upstream)
        theirs = tf.reduce_sum(tf.compat.v1.image.resize(image, (13, 9), align_corners=True) * upstream)
    np.testing.assert_allclose(tape.gradient(ours, image), tape.gradient(theirs, image), atol=1e-5)
    rows, columns = layers.interpolation_matrix(4, 13), layers.interpolation_matrix(5, 9)
    expected = np.einsum("ih,bijc,jw->bhwc", rows, upstream, columns)
    np.testing.assert_allclose(tape.gradient(ours, image), expected, atol=1e-5)


def test_interpolation_matrix_by_hand():
    # Three pixels to five: every other output falls between two inputs.
    expected = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    np.testing.assert_array_equal(layers.interpolation_matrix(3, 5), expected)
    np.testing.assert_allclose(layers.interpolation_matrix(81, 321).sum(axis=1), 1.0, atol=1e-6)


# --- Sizes, precision, dropout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(33, 33), (34, 50), (97, 64)])
def test_one_network_takes_every_size(small, size):
    fixed = deeplab.deeplab_v3_plus(**SMALL, input_size=size)
    fixed.set_weights(small.get_weights())
    image = _image(2, *size, 2)
    logits = fixed(image).numpy()
    assert logits.shape == (2, *size, 2)
    assert logits.std() > 1e-3
    np.testing.assert_allclose(small(image), logits, atol=1e-5 * np.abs(logits).max())
    compiled = tf.function(small, input_signature=[tf.TensorSpec((None, None, None, 2))])
    np.testing.assert_allclose(compiled(image), logits, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize(("output_stride", "decoder_strides"), [(8, (4, 2)), (8, (8, 4, 2)), (32, (16, 4)), (16, ())])
def test_other_strides_give_logits_at_image_size(output_stride, decoder_strides):
    model = deeplab.deeplab_v3_plus(**SMALL, output_stride=output_stride, decoder_strides=decoder_strides)
    assert model(_image(1, 40, 49, 2)).shape == (1, 40, 49, 2)
    last = decoder_strides[-1] if decoder_strides else output_stride
    fixed = deeplab.deeplab_v3_plus(
        **SMALL, output_stride=output_stride, decoder_strides=decoder_strides, input_size=65
    )
    assert fixed.get_layer("logits-semantic").output.shape[1:3] == (64 // last + 1, 64 // last + 1)


@pytest.mark.parametrize("strides", [(2, 4), (4, 4), (3,), (32,), (16, 4)])
def test_decoder_strides_that_make_no_sense_are_refused(strides):
    with pytest.raises(ValueError, match="decoder_strides"):
        deeplab.deeplab_v3_plus(**SMALL, output_stride=8, decoder_strides=strides)


def test_an_image_that_is_too_small_is_refused():
    assert xception.MIN_SIZE_PX == 33
    with pytest.raises(ValueError, match="32x32 px is too small"):
        deeplab.deeplab_v3_plus(**SMALL, input_size=32)


def test_logits_are_float32_under_mixed_precision(small):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = deeplab.deeplab_v3_plus(**SMALL)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(small.get_weights())
    assert mixed.get_layer("aspp0").compute_dtype == "bfloat16"
    logits = mixed(_image(2, 65, 65, 2))
    assert logits.dtype == tf.float32
    # Not merely cast at the end: most values lie between the 8-bit mantissas of bfloat16.
    assert np.mean(tf.cast(tf.cast(logits, tf.bfloat16), tf.float32) != logits) > 0.9
    assert np.corrcoef(np.ravel(logits), np.ravel(small(_image(2, 65, 65, 2))))[0, 1] > 0.5


def test_dropout_draws_from_a_state_that_can_be_set(small):
    (dropout,) = deeplab.dropout_layers(small)
    assert dropout.name == "dropout"
    state = dropout.seed_generator.state
    features = tf.ones((1, 4, 4, 16))

    def drawn(*value):
        state.assign(value)
        return dropout(features, training=True).numpy()

    np.testing.assert_array_equal(drawn(3, 5), drawn(3, 5))
    assert not np.array_equal(drawn(3, 5), drawn(3, 6))
    assert not np.array_equal(drawn(3, 5), drawn(4, 5))
    assert deeplab.dropout_layers(deeplab.deeplab_v3_plus(**SMALL, dropout_rate=0.0)) == []


def test_training_reaches_every_trainable_variable(small):
    image = _image(2, 65, 65, 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(small(image, training=True) ** 2)
    gradients = tape.gradient(loss, small.trainable_variables)
    missing = [v.path for v, g in zip(small.trainable_variables, gradients, strict=True) if g is None]
    assert missing == []
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_the_network_can_be_rebuilt_from_its_json_arguments(small):
    arguments = json.loads(json.dumps({**SMALL, "decoder_strides": (4, 2)}))
    again = deeplab.deeplab_v3_plus(**arguments)
    again.set_weights(small.get_weights())
    image = _image(1, 40, 40, 2)
    np.testing.assert_array_equal(again(image), small(image))


def test_saved_model_takes_every_size(small, tmp_path):
    signature = [tf.TensorSpec((None, None, None, 2), tf.float32)]
    module = tf.Module()
    module.weights = [variable.value for variable in small.variables]
    module.serve = tf.function(lambda image: small(image, training=False), input_signature=signature)
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for size in ((33, 48), (65, 64)):
        image = tf.constant(_image(1, *size, 2))
        logits = small(image).numpy()
        np.testing.assert_allclose(loaded.serve(image), logits, atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize(
    ("arguments", "rates"),
    [
        ({"output_stride": 16}, [6, 12, 18]),
        ({"output_stride": 8}, [12, 24, 36]),
        ({"output_stride": 32}, [3, 6, 9]),
        ({"output_stride": 16, "atrous_rates": (2, 4, 6)}, [2, 4, 6]),
    ],
)
def test_atrous_rates_are_the_references_unless_given(monkeypatch, arguments, rates):
    seen = {}
    depthwise_conv = layers.depthwise_conv

    def recording(inputs, name, *args, rate=1, **kwargs):
        seen[name] = rate
        return depthwise_conv(inputs, name, *args, rate=rate, **kwargs)

    monkeypatch.setattr(layers, "depthwise_conv", recording)
    deeplab.deeplab_v3_plus(**SMALL, **arguments)
    assert [rate for name, rate in sorted(seen.items()) if name.startswith("aspp")] == rates


def test_image_pooling_window_makes_the_branch_local():
    """A window of 3 averages over a pixel and its neighbours on the map; without one, over the whole map."""

    def pooled(size):
        model = deeplab.deeplab_v3_plus(**SMALL, image_pooling_size=size)
        features = keras.Input((None, None, 8))
        return keras.Model(features, model.get_layer("image_pooling-mean")(features))

    features = _image(1, 11, 11, 8)
    moved = features.copy()
    moved[:, 7:, 7:] += 1.0
    local, local_moved = (np.asarray(pooled(3)(one)) for one in (features, moved))
    assert local.shape == (1, 11, 11, 8)
    np.testing.assert_allclose(local[0, 5, 5], features[0, 4:7, 4:7].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(local[0, 0, 0], features[0, :2, :2].mean((0, 1)), rtol=1e-5)  # padding counts nothing
    np.testing.assert_array_equal(local[0, :6, :6], local_moved[0, :6, :6])
    everywhere, everywhere_moved = (np.asarray(pooled(None)(one)) for one in (features, moved))
    assert everywhere.shape == (1, 1, 1, 8)
    assert np.all(everywhere_moved > everywhere)


def test_input_stride_2_costs_what_half_the_size_costs():
    plain, strided = (
        deeplab.deeplab_v3_plus(**SMALL, input_stride=stride, input_size=size) for stride, size in ((1, 33), (2, 65))
    )
    assert strided.output_shape == (None, 65, 65, 2)
    assert _multiply_adds(strided) == _multiply_adds(plain)  # 65 = 2 x 32 + 1
    assert strided.count_params() == plain.count_params()
    with pytest.raises(ValueError, match="input_stride=0"):
        deeplab.deeplab_v3_plus(**SMALL, input_stride=0)


def test_input_stride_2_sees_means_of_3_pixels_around_every_second_one():
    model = _lively(deeplab.deeplab_v3_plus(**SMALL, input_stride=2))
    image = _image(1, 65, 65, SMALL["num_channels"])
    # Odd columns change, and the even ones between them by as much in the other direction: means of 3 stay.
    odd = np.zeros(65, np.float32)
    odd[21:40:2] = np.linspace(0.1, 0.5, 10)
    unseen = odd - np.roll(odd, 1) - np.roll(odd, -1)
    assert np.abs(np.convolve(unseen, np.ones(3), "same")[::2]).max() < 1e-6
    assert np.abs(np.convolve(unseen, np.ones(3), "same")[1::2]).max() > 0.1
    logits, same, other = (np.asarray(model(image + row[:, np.newaxis])) for row in (0 * odd, unseen, np.abs(unseen)))
    assert np.abs(logits - other).max() > 100 * np.abs(logits - same).max()
