"""DeepLab v3+ on Xception-65 (tensorflow/models, research/deeplab/model.py), the network of teacher and student."""

import functools

import keras

from flood_distill import contract
from flood_distill.models import layers
from flood_distill.models.xception import NUM_MIDDLE_UNITS, xception65

HEAD_EPSILON = 1e-5  # model.py: batch norm of ASPP and decoder
HEAD_CHANNELS = 256  # ASPP and decoder depth
SKIP_CHANNELS = 48  # model.py refine_by_decoder: projection of the decoder's skip features
# Rates are 6, 12, 18 at output stride 16 and scale with the resolution: 96 / output_stride * (1, 2, 3).
ASPP_REACH_PX = 96


def deeplab_v3_plus(
    num_channels: int,
    num_classes: int = contract.NUM_CLASSES,
    output_stride: int = 16,
    decoder_strides: tuple[int, ...] = (4, 2),
    atrous_rates: tuple[int, int, int] | None = None,
    image_pooling_size: int | None = None,
    width_multiplier: float = 1.0,
    num_middle_units: int = NUM_MIDDLE_UNITS,
    batch_norm_momentum: float = 0.9997,
    dropout_rate: float = 0.1,
    synchronized_batch_norm: bool = False,
    batch_norm_layer: type[keras.layers.BatchNormalization] = keras.layers.BatchNormalization,
    input_stride: int = 1,
    input_size: int | tuple[int, int] | None = None,
    input_range: tuple[float, float] = contract.IMAGE_RANGE,
    seed: int | None = None,
    name: str = "deeplab_v3_plus",
) -> keras.Model:
    """Returns DeepLab v3+ as a functional model from image to logits.

    Section 3.1 of the paper: Xception-65 backbone, decoder skips at stride 4 and 2.

    Args:
        num_channels: of the image; 2 for S1, 6 for S1 and S2.
        num_classes: channels of the logits.
        output_stride: 8, 16 or 32, size of the image over size of the encoder's features.
        decoder_strides: strides of the decoder's skips, descending; empty for no decoder.
        atrous_rates: of the three atrous branches, in pixels of the encoder's features; None for the reference's, 6,
            12, 18 at output stride 16. A crop whose features are no larger than a rate never trains that branch's
            outer taps, and a larger image then meets them untrained: take rates below crop / output stride.
        image_pooling_size: side of the window that the image-pooling branch averages over around each pixel, in pixels
            of the encoder's features; None for the whole image, as the reference. The mean over a whole image varies
            less the larger the image is: a network trained on small crops then meets a branch of another spread.
        width_multiplier: factor on every channel count (rounded to multiples of 8).
        num_middle_units: 16 in the paper.
        batch_norm_momentum: of the moving statistics.
        dropout_rate: before the decoder.
        synchronized_batch_norm: statistics over all replicas of a tf.distribute strategy.
        batch_norm_layer: class of the batch norms, for a faster one of the same arithmetic.
        input_stride: every this many pixels of each direction, a mean over the 2 input_stride - 1 pixels around takes
            the image's place, and the logits are resized back: 4 times fewer operations at 2, less speckle, less
            detail. All other strides and sizes are counted on the smaller image. Ours; 1 is the reference.
        input_size: side or (height, width) in pixels; None for sizes known only at run time.
        input_range: what the weights expect of an image whose values lie in [0, 1], which the network itself scales to
            this range: (-1, 1) for the reference's checkpoints (core/feature_extractor.py,
            `_preprocess_zero_mean_unit_range`).
        seed: of initial weights and dropout; None draws from Keras's global generator.
        name: of the model.

    Returns:
        Model: float32 [batch, height, width, num_channels] -> float32 logits [batch, height, width, num_classes].

    Raises:
        ValueError: for an unknown output stride, an input stride below 1, decoder strides that are not descending, or
            too small an input size.
    """
    _check_decoder_strides(decoder_strides, output_stride)
    if input_stride < 1:
        raise ValueError(f"input_stride={input_stride} must be at least 1")
    height, width = input_size if isinstance(input_size, tuple | list) else (input_size, input_size)
    image = keras.Input((height, width, num_channels), name=contract.IMAGE)
    backbone = xception65(
        _rescaled(_strided(image, input_stride), input_range),
        output_stride=output_stride,
        width_multiplier=width_multiplier,
        num_middle_units=num_middle_units,
        batch_norm_momentum=batch_norm_momentum,
        synchronized_batch_norm=synchronized_batch_norm,
        batch_norm_layer=batch_norm_layer,
        seed=seed,
    )
    norm = functools.partial(
        layers.batch_norm,
        layer=batch_norm_layer,
        momentum=batch_norm_momentum,
        epsilon=HEAD_EPSILON,
        synchronized=synchronized_batch_norm,
    )
    conv, separable = _head_shortcuts(norm, seed)
    scaled = functools.partial(layers.scaled_channels, width_multiplier=width_multiplier)
    rates = atrous_rates or tuple(ASPP_REACH_PX // output_stride * number for number in (1, 2, 3))
    hidden = _aspp(backbone.features, scaled(HEAD_CHANNELS), rates, image_pooling_size, conv=conv, separable=separable)
    hidden = keras.layers.Dropout(dropout_rate, seed=layers.scope_seed(seed, "dropout"), name="dropout")(hidden)
    for stage, stride in enumerate(decoder_strides):
        channels = (scaled(HEAD_CHANNELS), scaled(SKIP_CHANNELS))
        hidden = _decoder_stage(hidden, backbone.taps[stride], channels, stage, conv=conv, separable=separable)
    return keras.Model(image, _logits(hidden, image, num_classes, seed), name=name)


def dropout_layers(model: keras.Model) -> list[keras.layers.Dropout]:
    """Returns the dropout layers that draw random numbers: those with a `seed_generator`."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]


def _check_decoder_strides(decoder_strides: tuple[int, ...], output_stride: int) -> None:
    descending = sorted(set(decoder_strides), reverse=True)
    if list(decoder_strides) != descending or not set(descending) <= {
        stride for stride in (2, 4, 8, 16) if stride <= output_stride
    }:
        raise ValueError(
            f"decoder_strides={tuple(decoder_strides)} must be descending, of 2, 4, 8, 16, "
            f"and at most output_stride={output_stride}"
        )


def _strided(image: keras.KerasTensor, stride: int) -> keras.KerasTensor:
    """Means centred on every `stride`-th pixel from the first on, where the aligned resize of the logits puts them."""
    if stride == 1:
        return image
    return keras.layers.AveragePooling2D(2 * stride - 1, stride, padding="same", name="input_stride")(image)


def _rescaled(image: keras.KerasTensor, input_range: tuple[float, float]) -> keras.KerasTensor:
    """Maps [0, 1] to `input_range`, in float32 under mixed precision too."""
    low, high = input_range
    if (low, high) == contract.IMAGE_RANGE:
        return image
    return keras.layers.Rescaling(high - low, low, dtype="float32", name="input_range")(image)


def _head_shortcuts(norm, seed: int | None):
    """Returns the 1x1 convolution and the separable convolution of ASPP and decoder."""
    conv = functools.partial(layers.conv, norm=norm, seed=seed, activate=True)
    separable = functools.partial(
        layers.separable_conv,
        depthwise=functools.partial(
            layers.depthwise_conv,
            norm=norm,
            seed=seed,
            initializer=layers.truncated_normal(layers.HEAD_DEPTHWISE_STDDEV),
        ),
        pointwise=functools.partial(conv, initializer=layers.truncated_normal(layers.HEAD_POINTWISE_STDDEV)),
        activate=True,
    )
    return functools.partial(conv, initializer=keras.initializers.GlorotUniform), separable


def _aspp(
    features: keras.KerasTensor,
    channels: int,
    rates: tuple[int, int, int],
    image_pooling_size: int | None,
    *,
    conv,
    separable,
) -> keras.KerasTensor:
    """Atrous spatial pyramid pooling: image pooling, 1x1 and three atrous branches, then one 1x1 projection."""
    if image_pooling_size is None:
        pooling = keras.layers.GlobalAveragePooling2D(keepdims=True, name="image_pooling-mean")
    else:
        pooling = keras.layers.AveragePooling2D(image_pooling_size, 1, padding="same", name="image_pooling-mean")
    pooled = pooling(features)
    pooled = conv(pooled, channels, "image_pooling")
    branches = [layers.AlignedResize(name="image_pooling-resize")(pooled, features)]
    branches.append(conv(features, channels, "aspp0"))
    for number, rate in enumerate(rates, start=1):
        branches.append(separable(features, channels, f"aspp{number}", rate=rate))
    return conv(keras.layers.Concatenate(name="aspp-concat")(branches), channels, "concat_projection")


def _decoder_stage(
    hidden: keras.KerasTensor, tap: keras.KerasTensor, channels: tuple[int, int], stage: int, *, conv, separable
) -> keras.KerasTensor:
    """Resizes the features to the tap, concatenates [features, projected tap] and refines them."""
    head_channels, skip_channels = channels
    suffix = f"_{stage}" if stage else ""
    skip = conv(tap, skip_channels, f"decoder/feature_projection0{suffix}")
    hidden = layers.AlignedResize(name=f"decoder-resize{suffix}")(hidden, skip)
    hidden = keras.layers.Concatenate(name=f"decoder-concat{suffix}")([hidden, skip])
    for number in (0, 1):
        hidden = separable(hidden, head_channels, f"decoder/decoder_conv{number}{suffix}")
    return hidden


def _logits(
    hidden: keras.KerasTensor, image: keras.KerasTensor, num_classes: int, seed: int | None
) -> keras.KerasTensor:
    """1x1 convolution with bias, resized to the image; float32 under mixed precision too."""
    scope = "logits/semantic"
    initializer = layers.truncated_normal(layers.LOGITS_STDDEV)(seed=layers.scope_seed(seed, scope))
    logits = keras.layers.Conv2D(
        num_classes, 1, kernel_initializer=initializer, dtype="float32", name=layers.layer_name(scope)
    )(hidden)
    return layers.AlignedResize(dtype="float32", name="logits-resize")(logits, image)
