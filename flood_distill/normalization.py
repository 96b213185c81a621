"""From stored values to network input (appendix A), and which pixels are valid.

Training, evaluation, prediction and export all go through these functions. They take float32 tensors of any leading
shape with the bands last; NaN never reaches the output.
"""

import functools
from collections.abc import Sequence

import tensorflow as tf

from flood_distill import contract


def s1_valid(s1: tf.Tensor) -> tf.Tensor:
    """Returns bool [...]: all bands of `s1`, float [..., bands], are finite."""
    return tf.reduce_all(tf.math.is_finite(s1), axis=-1)


def s2_valid(s2: tf.Tensor, imagery: contract.Imagery = contract.SENTINEL) -> tf.Tensor:
    """Returns bool [...]: at every date some band is not 0 (and, if float, all are finite).

    Args:
        s2: int16 or float [..., bands of all dates].
        imagery: what the bands are.

    Raises:
        ValueError: if `s2` has another number of bands.
    """
    s2 = tf.convert_to_tensor(s2)
    dates = tf.split(s2, len(imagery.dates[contract.S2]), axis=-1)
    observed = functools.reduce(tf.logical_and, [tf.reduce_any(date != contract.S2_NODATA, axis=-1) for date in dates])
    return observed & tf.reduce_all(tf.math.is_finite(s2), axis=-1) if s2.dtype.is_floating else observed


def normalize(
    values: tf.Tensor, valid: tf.Tensor, bands: Sequence[contract.Band], channels_first: bool = False
) -> tf.Tensor:
    """Clips each band to its limits and scales it linearly to [0, 1] (appendix A).

    Args:
        values: [..., len(bands)] in the unit of the bands; may be NaN where not valid.
        valid: bool [...].
        bands: the bands, in channel order.
        channels_first: `values` is [len(bands), ...] (several times faster on CPU).

    Returns:
        float32, shape of `values`, in [0, 1], `contract.FILL_VALUE` where not valid.

    Raises:
        ValueError: if `values` has another number of bands.
    """
    num_bands = values.shape[0 if channels_first else -1]
    if num_bands != len(bands):
        raise ValueError(f"{num_bands} bands, not {[band.name for band in bands]}")
    shape = [-1] + [1] * valid.shape.rank if channels_first else [-1]
    low = tf.reshape([float(band.low) for band in bands], shape)
    high = tf.reshape([float(band.high) for band in bands], shape)
    scaled = (tf.clip_by_value(tf.cast(values, tf.float32), low, high) - low) / (high - low)
    return tf.where(valid if channels_first else valid[..., tf.newaxis], scaled, contract.FILL_VALUE)


def network_input(
    inputs: str, s1: tf.Tensor, s2: tf.Tensor | None = None, imagery: contract.Imagery = contract.SENTINEL
) -> tf.Tensor:
    """Returns what the network looks at; each modality's own validity decides where it is filled.

    Args:
        inputs: ``s1``, ``s1+s2`` or ``s2``.
        s1: float32 [..., bands of all dates], NaN = no data; not read for ``s2``.
        s2: int16 or float32 [..., bands of all dates], 0 in all bands of a date = no data; not read for ``s1``.
        imagery: what the bands are.

    Returns:
        float32 [..., bands of the input] in [0, 1].
    """
    channels = []
    if inputs != contract.INPUT_S2:
        channels.append(normalize(s1, s1_valid(s1), imagery.s1_bands))
    if inputs != contract.INPUT_S1:
        channels.append(normalize(s2, s2_valid(s2, imagery), imagery.s2_bands))
    return tf.concat(channels, axis=-1)
