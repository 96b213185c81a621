"""Lovasz-Softmax: a surrogate of the intersection over union of water that can be minimised by gradients."""

import keras
from keras import ops

from flood_distill import contract
from flood_distill.losses.log_probabilities import log_probabilities


def lovasz_water(logits: keras.KerasTensor, labels: keras.KerasTensor) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the Lovasz-Softmax loss of the class water, image by image, and which images have it.

    Berman, Triki and Blaschko, *The Lovasz-Softmax loss*, CVPR 2018, section 3.1. With m the error of a pixel (1 - p of
    a water pixel, p of a dry one, p the probability of water) and pixels in descending order of m, the loss is
    sum_i m_i * (J_i - J_(i-1)), where J_i = 1 - IoU of the image if the first i pixels were wrong and the others right.
    Where every m is 0 or 1 it is 1 - IoU. An image without water has no IoU of water to raise and counts 0, as in their
    code with ``classes='present'``.

    Args:
        logits: float32 [batch, height, width, classes].
        labels: int [batch, height, width], class numbers, `contract.IGNORE_LABEL` where nothing is known; nothing of
            such a pixel counts, be it NaN.

    Returns:
        Loss float32 [batch] in [0, 1]; weight float32 [batch], 1 for an image with water, else 0.
    """
    shape = (ops.shape(labels)[0], -1)
    valid = ops.not_equal(labels, contract.IGNORE_LABEL)
    water = ops.cast(ops.equal(labels, contract.WATER), "float32")
    probability = ops.exp(log_probabilities(logits, valid)[contract.WATER])
    errors = ops.reshape(ops.where(valid, ops.abs(water - probability), -1.0), shape)  # ignored pixels come last
    order = ops.argsort(-ops.stop_gradient(errors), axis=1)
    steps = _jaccard_steps(*(_sorted(ops.reshape(mask, shape), order) for mask in (water, ops.cast(valid, "float32"))))
    losses = ops.sum(ops.take_along_axis(errors, order, axis=1) * ops.stop_gradient(steps), axis=1)
    has_water = ops.cast(ops.any(ops.equal(labels, contract.WATER), axis=(1, 2)), "float32")
    return losses * has_water, has_water


def _sorted(values: keras.KerasTensor, order: keras.KerasTensor) -> keras.KerasTensor:
    return ops.take_along_axis(values, order, axis=1)


def _jaccard_steps(water: keras.KerasTensor, valid: keras.KerasTensor) -> keras.KerasTensor:
    """Returns J_i - J_(i-1), float32 [batch, pixels], 0 on ignored pixels.

    In closed form, because the difference of two neighbours near 1 would keep few digits: with I_i the water pixels
    that are left and U_i the union, a water pixel takes 1 from I, which makes 1 / U_i; a dry one adds 1 to U, which
    makes I_i / (U_i - 1) - I_i / U_i = I_i / (U_i (U_i - 1)).

    Args:
        water: float32 [batch, pixels], 1 for water, in descending order of the errors.
        valid: float32 [batch, pixels], 1 for pixels that count, which come first.
    """
    left = ops.sum(water, axis=1, keepdims=True) - ops.cumsum(water, axis=1)
    union = ops.maximum(left + ops.cumsum(valid, axis=1), 1.0)
    # A dry pixel beside no water at all: see has_water.
    of_dry = left / union / ops.maximum(union - 1.0, 1.0)
    return valid * ops.where(water > 0, 1.0 / union, of_dry)
