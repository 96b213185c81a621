"""The one graph behind evaluation, prediction, export and training pictures: images -> probability of water, mask."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from flood_distill import contract, model_info, normalization, sizes

MIN_SIZE_PX = 33  # smallest image that every output stride (8, 16, 32) divides into more than one feature


def water_mask(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Returns uint8 [...]: 1 where the probability is at least `threshold`, 0 where it is less, 255 where it is NaN."""
    water = (probability >= threshold).astype(np.uint8)
    return np.where(np.isnan(probability), np.uint8(contract.MASK_NODATA), water)


def water_probability(
    logits_fn: Callable[[tf.Tensor], tf.Tensor], info: model_info.ModelInfo, s1: tf.Tensor, s2: tf.Tensor | None
) -> tf.Tensor:
    """Returns the probability of water: the same for every use of a network.

    Invalid pixels get the fill value, the image is padded with invalid pixels to k * output_stride + 1 (at least 33),
    and what was padded is cut off again.

    Args:
        logits_fn: a network for inference: image -> logits [batch, height, width, 2].
        info: its description: bands, output stride.
        s1: float32 [batch, height, width, bands], for Sentinel VV and VH in dB, NaN = no data.
        s2: float32 [batch, height, width, bands], for Sentinel reflectance x 10000, 0 in all bands of a date or NaN in
            any = no data; not read by a student.

    Returns:
        float32 [batch, height, width] in [0, 1], NaN where any band of `s1` has no data.
    """
    height, width = tf.unstack(tf.shape(s1)[1:3])
    padded_s1 = _pad(s1, info.output_stride, contract.S1_NODATA)
    padded_s2 = None if s2 is None else _pad(s2, info.output_stride, contract.S2_NODATA)
    image = normalization.network_input(info.inputs, padded_s1, padded_s2, info.imagery)
    logits = tf.cast(logits_fn(image), tf.float32)
    probability = tf.nn.softmax(logits / info.temperature)[:, :height, :width, contract.WATER]
    return tf.where(normalization.s1_valid(s1), probability, tf.constant(np.nan, tf.float32))


def _pad(values: tf.Tensor, output_stride: int, nodata: float) -> tf.Tensor:
    """Pads [batch, height, width, channels] at the bottom and the right with invalid pixels."""
    rows, columns = (
        [0, tf.maximum(sizes.padded_size_px(size_px, output_stride), MIN_SIZE_PX) - size_px]
        for size_px in tf.unstack(tf.shape(values)[1:3])
    )
    return tf.pad(values, [[0, 0], rows, columns, [0, 0]], constant_values=float(nodata))
