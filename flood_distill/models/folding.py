"""Networks for inference: every batch norm folded into the convolution before it, dropout gone."""

import keras
import numpy as np

from flood_distill import contract
from flood_distill.models import layers

_TRAINING_ONLY = (keras.layers.BatchNormalization, keras.layers.Dropout)
# Layers that deeplab makes float32 under every policy.
_FLOAT32_LAYERS = ("input_range", layers.layer_name("logits/semantic"), "logits-resize")


def fold_batch_norms(
    model: keras.Model, precision: str = contract.FLOAT32, add_layer: type[keras.layers.Add] = keras.layers.Add
) -> keras.Model:
    """Returns the same function of the image without batch norms and dropout: convolutions with a bias instead.

    With s = gamma / sqrt(moving_variance + epsilon), a convolution and its batch norm are the convolution by s * kernel
    plus the bias beta - s * moving_mean; s and bias are computed in float64.

    Args:
        model: a network of this package; stays as it is.
        precision: ``float32``, or ``bfloat16`` for weights and arithmetic of that type up to the logits. Image and
            logits are float32 with both.
        add_layer: class of the residual sums, for one that a backend handles better.

    Returns:
        Model: float32 [batch, height, width, channels] -> float32 logits [batch, height, width, classes], the input
        sizes of `model`. Its convolutions have the names of the convolutions in `model`; it is for inference only.

    Raises:
        ValueError: for another precision, or if a batch norm follows anything else than its own convolution.
    """
    if precision not in contract.PRECISIONS:
        raise ValueError(f"precision={precision} is not one of {contract.PRECISIONS}")
    norms = _norms_by_conv(model)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        kept = contract.FLOAT32 if layer.name in _FLOAT32_LAYERS else precision
        config = layer.get_config() | {"dtype": kept}
        if layer.name in norms:
            config["use_bias"] = True
        kind = add_layer if isinstance(layer, keras.layers.Add) else type(layer)
        return kind.from_config(config)

    def call(layer: keras.layers.Layer, *inputs, **arguments):
        return inputs[0] if isinstance(layer, _TRAINING_ONLY) else layer(*inputs, **arguments)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in folded.layers:
        original = model.get_layer(layer.name)
        norm = norms.get(layer.name)
        layer.set_weights(original.get_weights() if norm is None else _folded_weights(original, norm))
    folded.trainable = False
    return folded


def _norms_by_conv(model: keras.Model) -> dict[str, keras.layers.BatchNormalization]:
    """Returns the batch norms by the name of the convolution that each follows."""
    norms = {}
    for norm in model.layers:
        if isinstance(norm, keras.layers.BatchNormalization):
            scope = norm.name.removesuffix(layers.layer_name("/BatchNorm"))
            conv = next((layer for layer in model.layers if layer.name == scope), None)
            if conv is None or norm.input is not conv.output or conv.use_bias:
                raise ValueError(f"{norm.name} does not follow a convolution {scope} without bias; cannot fold it")
            norms[conv.name] = norm
    return norms


def _folded_weights(conv: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    """Returns kernel and bias, float32, of the convolution that does the work of both layers."""
    gamma, beta, mean, variance = (
        keras.ops.convert_to_numpy(value).astype(np.float64)
        for value in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    (kernel,) = conv.get_weights()
    # A kernel is [height, width, in, out], but a depthwise one [height, width, channels, 1].
    per_output = scale[:, np.newaxis] if isinstance(conv, keras.layers.DepthwiseConv2D) else scale
    return [(kernel * per_output).astype(np.float32), (beta - scale * mean).astype(np.float32)]
