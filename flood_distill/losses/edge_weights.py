"""Weights that make the pixels on either side of the water's edge count more."""

import keras
from keras import ops

from flood_distill import contract


def edge_weights(
    labels: keras.KerasTensor,
    inner_width_px: int,
    outer_width_px: int,
    inner_weight: float,
    outer_weight: float,
) -> keras.KerasTensor:
    """Returns a weight a pixel from the distance to the other class (section 3.1 of the paper, edge-weighted loss).

    The inner edge is water within `inner_width_px` of dry land, the outer edge dry land within `outer_width_px` of
    water. Distance is the number of steps to the nearest pixel of the other class over the eight neighbours, through
    labelled pixels only: no edge reaches across no-data, and no-data makes none.

    Args:
        labels: int [batch, height, width], 1 water, 0 dry, `contract.IGNORE_LABEL` where nothing is known.
        inner_width_px: width of the inner edge in pixels, 0 for none.
        outer_width_px: width of the outer edge in pixels, 0 for none.
        inner_weight: of inner edge pixels.
        outer_weight: of outer edge pixels.

    Returns:
        float32 [batch, height, width]: the edges' weights, 1 elsewhere, 0 on ignored pixels.

    Raises:
        ValueError: for a negative width.
    """
    if min(inner_width_px, outer_width_px) < 0:
        raise ValueError(f"edge widths must not be negative: {inner_width_px=}, {outer_width_px=}")
    valid = ops.not_equal(labels, contract.IGNORE_LABEL)
    water = ops.equal(labels, contract.WATER)
    dry = ops.logical_and(valid, ops.logical_not(water))
    inner = ops.logical_and(water, _grown(dry, valid, inner_width_px))
    outer = ops.logical_and(dry, _grown(water, valid, outer_width_px))
    weights = ops.where(inner, float(inner_weight), ops.where(outer, float(outer_weight), 1.0))
    return ops.where(valid, weights, 0.0)


def _grown(region: keras.KerasTensor, valid: keras.KerasTensor, num_steps: int) -> keras.KerasTensor:
    """Returns `region` grown by `num_steps` pixels inside `valid`; bool [batch, height, width]."""
    if num_steps == 0:
        return region
    grown, mask = (_batch_last(ops.cast(value, "float32")) for value in (region, valid))
    for _ in range(num_steps):
        grown = ops.max_pool(grown, 3, strides=1, padding="same") * mask
    return ops.transpose(grown[0], (2, 0, 1)) > 0


def _batch_last(images: keras.KerasTensor) -> keras.KerasTensor:
    """Returns [batch, height, width] as one image of `batch` channels: pooling single channels takes thrice as long."""
    return ops.transpose(images, (1, 2, 0))[None]
