"""Counts of right and wrong pixels, from which every score is made."""

import keras
from keras import ops

from flood_distill import contract


def confusion_counts(water: keras.KerasTensor, labels: keras.KerasTensor) -> keras.KerasTensor:
    """Counts true and false water and dry pixels of each example where the label is known.

    Args:
        water: bool [batch, height, width], what was predicted.
        labels: int [batch, height, width], 1 water, 0 dry, `contract.IGNORE_LABEL` where a pixel is not scored.

    Returns:
        int64 [batch, 4]: true positives, false positives, false negatives, true negatives.
    """
    water = ops.cast(water, "bool")
    wet = ops.equal(labels, contract.WATER)
    dry = ops.equal(labels, contract.DRY)
    kinds = [(water, wet), (water, dry), (ops.logical_not(water), wet), (ops.logical_not(water), dry)]
    counts = [ops.sum(ops.cast(ops.logical_and(*kind), "int64"), axis=(1, 2)) for kind in kinds]
    return ops.stack(counts, axis=-1)
