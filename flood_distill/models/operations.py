"""Counts a network's operations."""

import keras
import numpy as np

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def multiply_adds(model: keras.Model) -> dict[str, int]:
    """Returns the multiply-adds of one image in each convolution, by layer name; nothing else is counted.

    Args:
        model: built with `input_size`, so that every height and width is known.
    """
    return {
        layer.name: int(np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape))
        for layer in model.layers
        if isinstance(layer, _CONVOLUTIONS)
    }
