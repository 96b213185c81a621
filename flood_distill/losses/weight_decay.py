"""L2 penalty on the kernels that the reference decays."""

from collections.abc import Iterator

import keras
from keras import ops


def weight_decay(model: keras.Model, rate: float) -> keras.KerasTensor:
    """Returns rate * sum(w^2) / 2 over the decayed kernels, the L2 regulariser of TF1 (Keras's own lacks the half).

    Args:
        model: a network of this package.
        rate: weight decay of the paper's appendix B.

    Returns:
        Scalar float32.
    """
    kernels = [ops.sum(ops.square(ops.cast(kernel, "float32"))) for kernel in decayed_kernels(model)]
    return 0.5 * rate * sum(kernels, ops.zeros((), "float32"))


def decayed_kernels(model: keras.Model) -> list[keras.Variable]:
    """Returns the kernels of convolutions: entry, pointwise, shortcut and logits.

    Depthwise kernels, batch norms and biases are not decayed (research/deeplab/core/xception.py, train.py).
    """
    return list(_kernels(model))


def _kernels(layer: keras.Layer) -> Iterator[keras.Variable]:
    if isinstance(layer, keras.layers.Conv2D):
        yield layer.kernel
    for inner in getattr(layer, "layers", ()):
        yield from _kernels(inner)
