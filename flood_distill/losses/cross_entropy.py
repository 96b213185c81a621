"""Pixel cross-entropy with labels that may be missing."""

import keras
from keras import ops

from flood_distill import contract
from flood_distill.losses.log_probabilities import log_probabilities


def cross_entropy(
    logits: keras.KerasTensor, labels: keras.KerasTensor, weights: keras.KerasTensor | None = None
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the weighted sum of -log p(label) and the sum of the weights, each per example.

    The step divides the one by the other over the whole global batch (research/deeplab/utils/train_utils.py divides by
    the number of pixels that are not ignored). Nothing of an ignored pixel counts, be it NaN.

    Args:
        logits: float32 [batch, height, width, classes].
        labels: int [batch, height, width], class numbers, `contract.IGNORE_LABEL` where nothing is known.
        weights: float32 [batch, height, width]; None for 1.

    Returns:
        Weighted sum float32 [batch], weight float32 [batch].
    """
    valid = ops.not_equal(labels, contract.IGNORE_LABEL)
    weights = ops.cast(valid, "float32") if weights is None else ops.where(valid, weights, 0.0)
    total = 0.0
    for class_number, log_probability in enumerate(log_probabilities(logits, valid)):
        total = total - ops.sum(ops.where(ops.equal(labels, class_number), weights * log_probability, 0.0), axis=(1, 2))
    return total, ops.sum(weights, axis=(1, 2))
