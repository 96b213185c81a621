"""Building blocks of the network: named convolutions with batch norm, and the align-corners resize.

Layers carry the scope names of the TF1 reference (tensorflow/models, research/deeplab), so that its checkpoints can be
loaded by name. Keras forbids ``/`` in names and PyTorch dots, so every ``/`` becomes a ``-``: a one-to-one rule, since
no scope holds a dash. `checkpoint_names` undoes it.
"""

import functools
import zlib
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops

BACKBONE_STDDEV = 0.09  # core/xception.py, xception_arg_scope: truncated normal, every kernel
HEAD_DEPTHWISE_STDDEV = 0.33  # model.py, core/utils.py split_separable_conv2d
HEAD_POINTWISE_STDDEV = 0.06
LOGITS_STDDEV = 0.01  # core/utils.py / model.py get_branch_logits
CHANNEL_MULTIPLE = 8

Initializer = Callable[..., keras.initializers.Initializer]


def truncated_normal(stddev: float) -> Initializer:
    """Returns a maker of truncated normal initialisers that still takes a seed."""
    return functools.partial(keras.initializers.TruncatedNormal, mean=0.0, stddev=stddev)


def scaled_channels(channels: int, width_multiplier: float) -> int:
    """Returns `channels` times `width_multiplier`, rounded to the nearest multiple of 8 and at least 8."""
    if width_multiplier <= 0:
        raise ValueError(f"width_multiplier={width_multiplier} must be positive")
    if width_multiplier == 1.0:
        return channels
    return max(CHANNEL_MULTIPLE, int(channels * width_multiplier / CHANNEL_MULTIPLE + 0.5) * CHANNEL_MULTIPLE)


def layer_name(scope: str) -> str:
    """Returns the Keras layer name of a TF1 scope such as ``xception_65/entry_flow/conv1_1``."""
    return scope.replace("/", "-")


def scope_seed(seed: int | None, scope: str) -> int | None:
    """Returns the seed of one layer, from the network's seed and the layer's scope; None stays None (random)."""
    return None if seed is None else zlib.crc32(f"{seed}/{scope}".encode())


def checkpoint_names(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns every variable of the network by its TF1 checkpoint name.

    Args:
        model: a network of this package.

    Returns:
        Such as ``xception_65/entry_flow/conv1_1/weights`` -> variable. Layouts are those of the checkpoints.
    """
    return dict(_named_variables(model))


def _named_variables(model: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    for layer in model.layers:
        scope = layer.name.replace("-", "/")
        words = {"bias": "biases", "kernel": "weights"}
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            words["kernel"] = "depthwise_weights"
        for variable in layer.weights:
            yield f"{scope}/{words.get(variable.name, variable.name)}", variable


def batch_norm(
    inputs: keras.KerasTensor,
    scope: str,
    *,
    layer: type[keras.layers.BatchNormalization],
    momentum: float,
    epsilon: float,
    synchronized: bool,
) -> keras.KerasTensor:
    """Applies batch normalisation, named ``<scope>/BatchNorm`` as in slim."""
    norm = layer(momentum=momentum, epsilon=epsilon, synchronized=synchronized, name=layer_name(f"{scope}/BatchNorm"))
    return norm(inputs)


def relu(inputs: keras.KerasTensor, scope: str) -> keras.KerasTensor:
    """Applies ReLU, named ``<scope>/relu``."""
    return keras.layers.ReLU(name=layer_name(f"{scope}/relu"))(inputs)


def _padded(inputs: keras.KerasTensor, scope: str, kernel_size: int, strides: int) -> tuple[keras.KerasTensor, str]:
    """Returns the tensor to convolve and the padding: 'same' at stride 2 would shift even sizes by one pixel."""
    odd = all(size is not None and size % 2 for size in inputs.shape[1:3])
    if strides == 1 or kernel_size == 1 or odd:
        return inputs, "same"
    return keras.layers.ZeroPadding2D(kernel_size // 2, name=layer_name(f"{scope}/pad"))(inputs), "valid"


def conv(
    inputs: keras.KerasTensor,
    filters: int,
    scope: str,
    *,
    norm: Callable[..., keras.KerasTensor],
    initializer: Initializer,
    seed: int | None,
    kernel_size: int = 1,
    strides: int = 1,
    activate: bool = False,
) -> keras.KerasTensor:
    """Convolution without bias, batch norm and, if asked for, ReLU.

    Args:
        inputs: [batch, height, width, channels].
        filters: output channels.
        scope: TF1 scope of the convolution.
        norm: `batch_norm` with its numbers bound.
        initializer: maker of the kernel's initialiser, which takes `seed`.
        seed: of the network.
        kernel_size: 1 or 3.
        strides: 1 or 2; with 2 the input is padded by (1, 1) explicitly.
        activate: whether ReLU follows the batch norm.

    Returns:
        [batch, ceil(height / strides), ceil(width / strides), filters].
    """
    inputs, padding = _padded(inputs, scope, kernel_size, strides)
    outputs = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer=initializer(seed=scope_seed(seed, scope)),
        name=layer_name(scope),
    )(inputs)
    outputs = norm(outputs, scope)
    return relu(outputs, scope) if activate else outputs


def depthwise_conv(
    inputs: keras.KerasTensor,
    scope: str,
    *,
    norm: Callable[..., keras.KerasTensor],
    initializer: Initializer,
    seed: int | None,
    strides: int = 1,
    rate: int = 1,
    activate: bool = False,
) -> keras.KerasTensor:
    """Depthwise 3x3 convolution without bias, batch norm and, if asked for, ReLU; arguments as in `conv`.

    Args:
        rate: distance of the kernel's taps (atrous convolution); 1 where `strides` is 2.
    """
    inputs, padding = _padded(inputs, scope, 3, strides)
    outputs = AtrousDepthwiseConv2D(
        3,
        strides=strides,
        padding=padding,
        dilation_rate=rate,
        use_bias=False,
        depthwise_initializer=initializer(seed=scope_seed(seed, scope)),
        name=layer_name(scope),
    )(inputs)
    outputs = norm(outputs, scope)
    return relu(outputs, scope) if activate else outputs


def separable_conv(
    inputs: keras.KerasTensor,
    filters: int,
    scope: str,
    *,
    depthwise: Callable[..., keras.KerasTensor],
    pointwise: Callable[..., keras.KerasTensor],
    strides: int = 1,
    rate: int = 1,
    activate: bool = False,
) -> keras.KerasTensor:
    """Depthwise 3x3, batch norm, pointwise 1x1, batch norm; with `activate`, ReLU after both batch norms.

    Args:
        depthwise: `depthwise_conv` with norm, initializer and seed bound.
        pointwise: `conv` with norm, initializer and seed bound.
    """
    hidden = depthwise(inputs, f"{scope}_depthwise", strides=strides, rate=rate, activate=activate)
    return pointwise(hidden, filters, f"{scope}_pointwise", activate=activate)


class AtrousDepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution without the taps that can only meet padding; 'same' results, less work.

    TensorFlow runs rate r by cutting the padded image into r x r images: at rate 18 on 7x7 features (a 97 px crop) that
    is 38 times the pixels for eight taps that all fall outside.
    """

    def call(self, inputs):
        """Convolves [batch, height, width, channels]; height and width may be unknown."""
        reaches = [
            size is None or rate < size for size, rate in zip(inputs.shape[1:3], self.dilation_rate, strict=True)
        ]
        if all(reaches):
            return super().call(inputs)
        rows, columns = (slice(None) if reach else slice(1, 2) for reach in reaches)
        rates = tuple(rate if reach else 1 for rate, reach in zip(self.dilation_rate, reaches, strict=True))
        kernel = self.kernel[rows, columns]
        if any(reaches):
            outputs = ops.depthwise_conv(inputs, kernel, padding="same", dilation_rate=rates)
        else:
            outputs = inputs * kernel[0, 0, :, 0]
        return outputs + self.bias if self.use_bias else outputs


class AlignedResize(keras.layers.Layer):
    """Bilinear resize with align_corners=True to the height and width of a second tensor.

    Keras has no such option, so each axis is one product with a small interpolation matrix; the gradient is the
    transposed product, exact and cheap. Works for sizes that are unknown when the graph is built.
    """

    def call(self, inputs, like):
        """Resizes.

        Args:
            inputs: float [batch, height, width, channels].
            like: [batch, new_height, new_width, any].

        Returns:
            [batch, new_height, new_width, channels], dtype of `inputs`.
        """
        return _resize_axis(_resize_axis(inputs, like, axis=1), like, axis=2)

    def compute_output_shape(self, inputs_shape, like_shape):
        """Returns the shape of the result."""
        return (inputs_shape[0], like_shape[1], like_shape[2], inputs_shape[3])


def _resize_axis(inputs, like, axis: int):
    old, new = inputs.shape[axis], like.shape[axis]
    if old is not None and old == new:
        return inputs
    matrix = interpolation_matrix(
        ops.shape(inputs)[axis] if old is None else old, ops.shape(like)[axis] if new is None else new
    )
    matrix = ops.cast(matrix, inputs.dtype)
    if axis == 2:
        return ops.matmul(matrix, inputs)
    batch, _, width, channels = ops.shape(inputs)
    rows = ops.matmul(matrix, ops.reshape(inputs, (batch, -1, width * channels)))
    return ops.reshape(rows, (batch, -1, width, channels))


def interpolation_matrix(old_size, new_size):
    """Returns the matrix of one-dimensional linear interpolation with aligned corners.

    Output i lies at i * (old_size - 1) / (new_size - 1) in input pixels (tf.compat.v1.image.resize, align_corners=True,
    same float32 arithmetic). Differs from the plain formula at new_size 1 only, where pixel 0 is taken.

    Args:
        old_size: input pixels, an int or a scalar int tensor.
        new_size: output pixels, an int or a scalar int tensor.

    Returns:
        float32 [new_size, old_size], rows sum to 1; a numpy array if both sizes are ints.
    """
    backend = np if isinstance(old_size, int) and isinstance(new_size, int) else ops
    last = _float32(backend, old_size - 1)
    scale = last / backend.maximum(_float32(backend, new_size - 1), 1.0)
    positions = backend.minimum(_float32(backend, backend.arange(new_size)) * scale, last)
    columns = _float32(backend, backend.arange(old_size))
    return backend.maximum(1.0 - backend.abs(positions[:, None] - columns[None, :]), 0.0)


def _float32(backend, value):
    return np.float32(value) if backend is np else ops.cast(value, "float32")
