"""From stored values to network input (appendix A), and which pixels are valid.

Training, evaluation, prediction and export all go through these functions. They take float32 tensors of any leading
shape with the bands last; NaN never reaches the output.
"""

from collections.abc import Sequence

import tensorflow as tf

from flood_distill import contract


def s1_valid(s1: tf.Tensor) -> tf.Tensor:
    """Returns bool [...]: both bands of `s1`, float [..., bands] in dB, are finite."""
    return tf.reduce_all(tf.math.is_finite(s1), axis=-1)


def s2_valid(s2: tf.Tensor) -> tf.Tensor:
    """Returns bool [...]: some band of `s2`, int16 or float [..., bands], is not 0 (and, if float, all are finite)."""
    s2 = tf.convert_to_tensor(s2)
    observed = tf.reduce_any(s2 != contract.S2_NODATA, axis=-1)
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
    """
    shape = [-1] + [1] * valid.shape.rank if channels_first else [-1]
    low = tf.reshape([float(band.low) for band in bands], shape)
    high = tf.reshape([float(band.high) for band in bands], shape)
    scaled = (tf.clip_by_value(tf.cast(values, tf.float32), low, high) - low) / (high - low)
    return tf.where(valid if channels_first else valid[..., tf.newaxis], scaled, contract.FILL_VALUE)


def network_input(inputs: str, s1: tf.Tensor, s2: tf.Tensor | None = None) -> tf.Tensor:
    """Returns what the network looks at; each modality's own validity decides where it is filled.

    Args:
        inputs: ``s1`` or ``s1+s2``.
        s1: float32 [..., 2], dB, NaN = no data.
        s2: int16 or float32 [..., 4], reflectance x 10000, 0 in all bands = no data; read for ``s1+s2`` only.

    Returns:
        float32 [..., 2 or 6] in [0, 1].
    """
    channels = [normalize(s1, s1_valid(s1), contract.S1_BANDS)]
    if inputs == contract.INPUT_S1_S2:
        channels.append(normalize(s2, s2_valid(s2), contract.S2_BANDS))
    return tf.concat(channels, axis=-1)


def input_valid(inputs: str, s1: tf.Tensor, s2: tf.Tensor | None = None) -> tf.Tensor:
    """Returns bool [...]: where every modality of `inputs` is valid (arguments as `network_input`)."""
    valid = s1_valid(s1)
    return valid & s2_valid(s2) if inputs == contract.INPUT_S1_S2 else valid
