"""Appendix A's arithmetic, validity and fill."""

import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract, normalization

NAN = float("nan")


def test_limits_become_zero_and_one_and_the_rest_is_linear():
    s1 = tf.constant([[-20.0, -30.0], [0.0, 0.0], [-10.0, -7.5], [-25.0, -31.0], [3.0, 1.0]])
    got = normalization.normalize(s1, tf.fill([5], True), contract.S1_BANDS)
    # VV: (v + 20) / 20, VH: (v + 30) / 30, clipped
    np.testing.assert_allclose(got, [[0, 0], [1, 1], [0.5, 0.75], [0, 0], [1, 1]], atol=1e-7)


def test_reflectance_is_a_share_of_3000():
    s2 = tf.constant([[0, 300, 3000, 5000]], tf.int16)
    got = normalization.normalize(s2, normalization.s2_valid(s2), contract.S2_BANDS)
    np.testing.assert_allclose(got, [[0, 0.1, 1, 1]], atol=1e-7)
    assert got.dtype == tf.float32


def test_invalid_pixels_get_the_fill_value_whatever_they_hold():
    s1 = tf.constant([[NAN, NAN], [NAN, -10.0], [float("-inf"), -10.0], [-10.0, -15.0]])
    valid = normalization.s1_valid(s1)
    assert valid.numpy().tolist() == [False, False, False, True]
    got = normalization.normalize(s1, valid, contract.S1_BANDS)
    np.testing.assert_array_equal(got, [[0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    assert contract.FILL_VALUE == 0.5


def test_channels_first_gives_the_same_bits():
    s1 = np.random.default_rng(0).normal(-15, 8, (5, 6, 2)).astype(np.float32)
    s1[2, 3] = NAN
    last = normalization.normalize(s1, normalization.s1_valid(s1), contract.S1_BANDS)
    planes = s1.transpose(2, 0, 1)
    first = normalization.normalize(planes, normalization.s1_valid(s1), contract.S1_BANDS, channels_first=True)
    np.testing.assert_array_equal(first, last.numpy().transpose(2, 0, 1))


@pytest.mark.parametrize("dtype", [tf.int16, tf.float32])
def test_s2_is_valid_where_any_band_is_not_zero(dtype):
    s2 = tf.constant([[0, 0, 0, 0], [0, 0, 0, 1], [5, 5, 5, 5]], dtype)
    assert normalization.s2_valid(s2).numpy().tolist() == [False, True, True]


def test_nan_reflectance_is_not_valid():
    s2 = tf.constant([[NAN, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    assert normalization.s2_valid(s2).numpy().tolist() == [False, True]


def test_each_modality_of_the_stack_is_filled_by_its_own_validity():
    s1 = tf.constant([[0.0, 0.0], [NAN, NAN], [0.0, 0.0]])
    s2 = tf.constant([[3000] * 4, [3000] * 4, [0] * 4], tf.int16)
    image = normalization.network_input("s1+s2", s1, s2)
    fill = contract.FILL_VALUE
    np.testing.assert_array_equal(image, [[1, 1, 1, 1, 1, 1], [fill, fill, 1, 1, 1, 1], [1, 1, fill, fill, fill, fill]])
    np.testing.assert_array_equal(normalization.network_input("s1", s1), image[:, :2])
    np.testing.assert_array_equal(normalization.network_input("s2", s1, s2), image[:, 2:])
