"""Weights from a teacher's certainty: arithmetic by hand, limits, masks."""

import numpy as np
import pytest
import tensorflow as tf

from flood_distill.losses.confidence import ENTROPY, MAX_PROBABILITY, MEASURES, confidence_weights


def _logits(*probabilities):
    """Logits [1, 1, pixels, 2] of the given probabilities of water."""
    probabilities = np.array(probabilities, np.float32)
    return np.stack([np.log1p(-probabilities), np.log(probabilities)], axis=-1)[None, None]


def _weights(logits, measure, power=1.0, valid=None):
    valid = np.ones(logits.shape[:-1], bool) if valid is None else valid
    return np.asarray(confidence_weights(logits, valid, measure, power))


def test_by_hand():
    logits = _logits(0.5, 0.75, 0.1)
    # One less the entropy in bits: H(3/4) = 2 - 3/4 log2 3.
    bits = [1.0, 2 - 0.75 * np.log2(3), -0.1 * np.log2(0.1) - 0.9 * np.log2(0.9)]
    np.testing.assert_allclose(_weights(logits, ENTROPY)[0, 0], 1 - np.array(bits), atol=1e-6)
    np.testing.assert_allclose(_weights(logits, MAX_PROBABILITY)[0, 0], [0, 0.5, 0.8], atol=1e-6)
    np.testing.assert_allclose(_weights(logits, MAX_PROBABILITY, 2.0)[0, 0], [0, 0.25, 0.64], atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("num_classes", [2, 5])
def test_from_nothing_known_to_certainty(measure, num_classes):
    logits = np.zeros((1, 1, 2, num_classes), np.float32)
    logits[0, 0, 1, 1] = 300.0
    np.testing.assert_allclose(_weights(logits, measure)[0, 0], [0, 1], atol=1e-6)
    np.testing.assert_array_equal(_weights(logits, measure, 0.0), np.ones((1, 1, 2)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_weights_are_finite_shares_that_grow_with_certainty_and_know_no_class(measure, power):
    logits = np.zeros((1, 1, 400, 2), np.float32)
    logits[..., 1] = np.linspace(0, 60, 400)
    weights = _weights(logits, measure, power)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert (np.diff(weights) >= -1e-6).all()
    assert weights[0, 0, -1] - weights[0, 0, 0] > 0.9
    np.testing.assert_allclose(_weights(logits[..., ::-1], measure, power), weights, atol=1e-6)
    np.testing.assert_allclose(_weights(logits + 7, measure, power), weights, atol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_invalid_pixels_weigh_nothing_whatever_they_hold(measure):
    logits, valid = _logits(0.9, 0.9, 0.9), np.array([[[True, False, True]]])
    logits[0, 0, 1] = np.nan
    weights = _weights(logits, measure, valid=valid)
    assert weights[0, 0, 1] == 0
    assert (weights[0, 0, [0, 2]] > 0.5).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_no_gradient_reaches_the_teacher(measure):
    logits = tf.constant(_logits(0.6, 0.9))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(confidence_weights(logits, np.ones((1, 1, 2), bool), measure))
    assert tape.gradient(total, logits) is None


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="measure='margin' is not one of entropy, max_probability"):
        _weights(_logits(0.5), "margin")
    with pytest.raises(ValueError, match="power"):
        _weights(_logits(0.5), ENTROPY, -1.0)
