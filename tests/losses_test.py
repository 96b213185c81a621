"""Cross-entropy and distillation: arithmetic by hand, masks, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill.losses.cross_entropy import cross_entropy
from flood_distill.losses.distillation import distillation, hard_labels

LOG2, LOG4 = np.log(2.0), np.log(4.0)


def _odds(*water_odds: float) -> np.ndarray:
    """Logits [1, 1, pixels, 2] whose water to dry odds are the given ones."""
    return np.stack([np.zeros(len(water_odds)), np.log(water_odds)], axis=-1).astype(np.float32)[None, None]


def _random(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(0.0, 3.0, shape).astype(np.float32))


def _gradient(function, value):
    with tf.GradientTape() as tape:
        tape.watch(value)
        total, _ = function(value)
        total = tf.reduce_sum(total)
    return tape.gradient(total, value).numpy()


def test_cross_entropy_by_hand():
    # Water probabilities 1/2, 3/4, 3/4 and 1/4; the last pixel is unknown.
    logits = _odds(1, 3, 3, 1 / 3)
    total, weight = cross_entropy(logits, np.array([[[1, 1, 0, -1]]]))
    assert total.shape == weight.shape == (1,)
    np.testing.assert_allclose(total, [LOG2 + (LOG4 - np.log(3)) + LOG4], rtol=1e-6)
    np.testing.assert_array_equal(weight, [3])


def test_cross_entropy_weighs_the_sum_and_the_divisor():
    logits = _odds(1, 1, 3, 3)
    weights = np.array([[[1, 2, 5, 100]]], np.float32)
    total, weight = cross_entropy(logits, np.array([[[0, 1, 0, -1]]]), weights)
    np.testing.assert_allclose(total, [1 * LOG2 + 2 * LOG2 + 5 * LOG4], rtol=1e-6)
    np.testing.assert_array_equal(weight, [1 + 2 + 5])


def test_cross_entropy_agrees_with_tensorflow_for_more_classes():
    logits = _random(3, 5, 4, 6)
    labels = np.random.default_rng(1).integers(0, 6, (3, 5, 4))
    total, weight = cross_entropy(logits, labels)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    np.testing.assert_allclose(total, tf.reduce_sum(expected, (1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(weight, [20, 20, 20])


def test_cross_entropy_gradient_is_probability_minus_label():
    logits, labels = _random(2, 4, 3, 2), np.random.default_rng(2).integers(0, 2, (2, 4, 3))
    gradient = _gradient(lambda value: cross_entropy(value, labels), logits)
    expected = tf.nn.softmax(logits) - tf.one_hot(labels, 2)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_each_example_has_its_own_sum():
    logits, labels = _random(3, 2, 2, 2), np.array([[[0, 1], [1, -1]], [[-1, -1], [-1, -1]], [[1, 1], [1, 1]]])
    totals, weights = cross_entropy(logits, labels)
    for index in range(3):
        total, weight = cross_entropy(logits[index : index + 1], labels[index : index + 1])
        np.testing.assert_allclose(totals[index], total[0], rtol=1e-6)
        np.testing.assert_allclose(weights[index], weight[0])
    np.testing.assert_array_equal(weights, [3, 0, 4])
    assert totals[1] == 0.0


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_nothing_of_an_ignored_pixel_counts(poison):
    labels = np.array([[[1, -1, 0]]])
    clean = _random(1, 1, 3, 2).numpy()
    dirty = clean.copy()
    dirty[0, 0, 1] = poison
    weights = np.array([[[1, poison, 1]]], np.float32)
    total, weight = cross_entropy(dirty, labels, weights)
    expected, expected_weight = cross_entropy(clean, labels)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(weight, expected_weight)
    gradient = _gradient(lambda value: cross_entropy(value, labels, weights), tf.constant(dirty))
    np.testing.assert_array_equal(gradient[0, 0, 1], [0, 0])
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, 0, 0]).min() > 0


def test_large_logits_neither_overflow_nor_lose_the_loss():
    total, _ = cross_entropy(np.array([[[[0.0, 500.0], [500.0, 0.0]]]], np.float32), np.array([[[1, 1]]]))
    np.testing.assert_allclose(total, [0 + 500])


def test_cross_entropy_takes_labels_of_any_integer_type():
    logits = _random(1, 2, 2, 2)
    labels = np.array([[[1, 0], [-1, 1]]])
    expected = cross_entropy(logits, labels)[0]
    for dtype in (np.int8, np.int32, np.int64):
        np.testing.assert_array_equal(cross_entropy(logits, labels.astype(dtype))[0], expected)


def test_distillation_by_hand():
    # Teacher gives water 3/4, student 1/2 and 1/4; the third pixel does not count.
    teacher, student = _odds(3, 3, 9), _odds(1, 1 / 3, 1)
    total, weight = distillation(student, teacher, np.array([[[True, True, False]]]))
    second = 3 / 4 * LOG4 + 1 / 4 * (LOG4 - np.log(3))
    np.testing.assert_allclose(total, [LOG2 + second], rtol=1e-6)
    np.testing.assert_array_equal(weight, [2])


def test_distillation_from_a_certain_teacher_is_cross_entropy():
    student, labels = _random(2, 3, 3, 2), np.random.default_rng(3).integers(0, 2, (2, 3, 3))
    teacher = 200.0 * tf.one_hot(labels, 2)
    total, weight = distillation(student, teacher, np.ones((2, 3, 3), bool))
    expected, expected_weight = cross_entropy(student, labels)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_array_equal(weight, expected_weight)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_distillation_gradient_is_that_of_the_kl_divergence(temperature):
    student, teacher = _random(2, 3, 4, 2), _random(2, 3, 4, 2, seed=1)
    valid = np.ones((2, 3, 4), bool)

    def kl_divergence(value):
        p, q = tf.nn.softmax(teacher / temperature), tf.nn.softmax(value / temperature)
        return temperature**2 * tf.reduce_sum(p * tf.math.log(p / q), axis=-1), None

    ours = _gradient(lambda value: distillation(value, teacher, valid, temperature), student)
    np.testing.assert_allclose(ours, _gradient(kl_divergence, student), atol=1e-5)
    by_hand = temperature * (tf.nn.softmax(student / temperature) - tf.nn.softmax(teacher / temperature))
    np.testing.assert_allclose(ours, by_hand, atol=1e-5)
    # The two losses differ by the teacher's entropy, so the gradient vanishes where the two agree.
    same = _gradient(lambda value: distillation(value, teacher, valid, temperature), teacher)
    np.testing.assert_allclose(same, np.zeros_like(same), atol=1e-6)


def test_temperature_keeps_the_size_of_the_gradient():
    # For small logits softmax(z / T) is linear in z / T: T^2 times 1/T (outer) times 1/T (inner) leaves it as it is.
    student, teacher = 0.01 * _random(1, 2, 2, 2), 0.01 * _random(1, 2, 2, 2, seed=1)
    valid = np.ones((1, 2, 2), bool)
    cold, hot = (_gradient(lambda v, t=t: distillation(v, teacher, valid, t), student) for t in (1.0, 8.0))
    np.testing.assert_allclose(hot, cold, rtol=0.01, atol=1e-5)


def test_no_gradient_reaches_the_teacher():
    student, teacher = _random(1, 2, 2, 2), _random(1, 2, 2, 2, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(teacher)
        total, _ = distillation(student, teacher, np.ones((1, 2, 2), bool))
    assert tape.gradient(total, teacher) is None


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_nothing_of_an_invalid_pixel_is_distilled(whose):
    valid = np.array([[[True, False, True]]])
    logits = {"student": _random(1, 1, 3, 2).numpy(), "teacher": _random(1, 1, 3, 2, seed=1).numpy()}
    expected, _ = distillation(logits["student"], logits["teacher"], valid)
    logits[whose][0, 0, 1] = np.nan
    total, weight = distillation(logits["student"], logits["teacher"], valid)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(weight, [2])
    gradient = _gradient(lambda v: distillation(v, logits["teacher"], valid), tf.constant(logits["student"]))
    np.testing.assert_array_equal(gradient[0, 0, 1], [0, 0])
    assert np.isfinite(gradient).all()


def test_distillation_weighs_the_sum_and_the_divisor():
    # The student gives 1/2 and 1/4, the teacher is certain of water; the third pixel does not count.
    student, teacher = _odds(1, 1 / 3, 1), _odds(1e9, 1e9, 1e9)
    weights = np.array([[[0.5, 0.25, np.nan]]], np.float32)
    total, weight = distillation(student, teacher, np.array([[[True, True, False]]]), weights=weights)
    np.testing.assert_allclose(total, [0.5 * LOG2 + 0.25 * LOG4], rtol=1e-6)
    np.testing.assert_array_equal(weight, [0.5 + 0.25])


def test_equal_weights_change_the_sums_and_not_their_ratio():
    student, teacher, valid = _random(2, 3, 3, 2), _random(2, 3, 3, 2, seed=1), np.ones((2, 3, 3), bool)
    total, weight = distillation(student, teacher, valid, weights=np.full((2, 3, 3), 0.25, np.float32))
    expected, number = distillation(student, teacher, valid)
    np.testing.assert_allclose(total, 0.25 * expected, rtol=1e-6)
    np.testing.assert_array_equal(weight, 0.25 * number)


def test_hard_labels_are_the_likelier_class():
    # Odds of water 1/9, 1 (as likely as dry), 9, and what does not count.
    labels = hard_labels(_odds(1 / 9, 1, 9, 9), np.array([[[True, True, True, False]]]))
    np.testing.assert_array_equal(labels, [[[0, 1, 1, -1]]])
    assert keras.backend.standardize_dtype(labels.dtype) == "int32"


def test_hard_labels_of_no_data_are_ignored():
    teacher = np.full((1, 1, 2, 2), np.nan, np.float32)
    np.testing.assert_array_equal(hard_labels(teacher, np.zeros((1, 1, 2), bool)), [[[-1, -1]]])


def test_hard_labels_are_soft_ones_of_a_teacher_without_doubt():
    soft, hard = _random(1, 3, 3, 2), _random(1, 3, 3, 2, seed=1)
    labels = hard_labels(hard, np.ones((1, 3, 3), bool))
    expected, _ = distillation(soft, 1000.0 * hard, np.ones((1, 3, 3), bool))
    np.testing.assert_allclose(cross_entropy(soft, labels)[0], expected, rtol=1e-5)


def test_a_batch_without_a_valid_pixel_has_loss_zero():
    total, weight = distillation(_random(2, 2, 2, 2), _random(2, 2, 2, 2), np.zeros((2, 2, 2), bool))
    np.testing.assert_array_equal(total, [0, 0])
    np.testing.assert_array_equal(weight, [0, 0])


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        distillation(_random(1, 1, 1, 2), _random(1, 1, 1, 2), np.ones((1, 1, 1), bool), temperature)


def test_losses_compile_with_unknown_batch_and_size():
    logits = tf.TensorSpec((None, None, None, 2))
    compiled = tf.function(
        lambda s, t, y: (cross_entropy(s, y), distillation(s, t, y >= 0)),
        input_signature=[logits, logits, tf.TensorSpec((None, None, None), tf.int32)],
    )
    student, teacher = _random(2, 4, 3, 2), _random(2, 4, 3, 2, seed=1)
    labels = tf.constant(np.random.default_rng(4).integers(-1, 2, (2, 4, 3)), tf.int32)
    supervised, distilled = compiled(student, teacher, labels)
    np.testing.assert_allclose(supervised[0], cross_entropy(student, labels)[0], rtol=1e-6)
    np.testing.assert_allclose(distilled[0], distillation(student, teacher, labels >= 0)[0], rtol=1e-6)
    assert keras.backend.standardize_dtype(supervised[0].dtype) == "float32"
