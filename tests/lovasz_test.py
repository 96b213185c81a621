"""The Lovasz loss of water: arithmetic by hand, 1 - IoU at the corners, masks, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from flood_distill.losses.lovasz import lovasz_water


def _logits(probabilities):
    """Logits [batch, height, width, 2] of the given probabilities of water."""
    probabilities = np.asarray(probabilities, np.float32)
    return np.stack([np.log1p(-probabilities), np.log(probabilities)], axis=-1)


def _random(seed, shape=(3, 6, 7)):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.02, 0.98, shape).astype(np.float32), rng.integers(-1, 2, shape)


def _gradient(logits, labels):
    value = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(value)
        total = tf.reduce_sum(lovasz_water(value, labels)[0])
    return tape.gradient(total, value).numpy()


def test_by_hand():
    # Errors: water 0.25, dry 0.5, water 0.75; two water pixels. From the largest error on, the wrong ones are
    # the third: I = 1, U = 2, J = 1/2; and the second: I = 1, U = 3, J = 2/3; and the first: I = 0, U = 3, J = 1.
    loss, weight = lovasz_water(_logits([[[0.75, 0.5, 0.25]]]), np.array([[[1, 0, 1]]]))
    assert loss.shape == weight.shape == (1,)
    np.testing.assert_allclose(loss, [0.75 * 1 / 2 + 0.5 * (2 / 3 - 1 / 2) + 0.25 * (1 - 2 / 3)], rtol=1e-6)
    np.testing.assert_array_equal(weight, [1])


def test_a_certain_answer_costs_one_less_its_iou():
    rng = np.random.default_rng(0)
    answer, labels = rng.integers(0, 2, (8, 9, 5)), rng.integers(-1, 2, (8, 9, 5))
    loss, _ = lovasz_water(np.stack([-100.0 * answer, 100.0 * answer - 50], -1).astype(np.float32), labels)
    hits = ((answer == 1) & (labels == 1)).sum((1, 2))
    union = (((answer == 1) & (labels == 0)) | (labels == 1)).sum((1, 2))
    assert len(set(hits / union)) == 8
    np.testing.assert_allclose(loss, 1 - hits / union, rtol=1e-5)


def _berman(probability, labels):
    """Algorithm 1 of Berman et al. for one image: pixels one by one, J from its definition."""
    kept = labels >= 0
    probability, water = probability[kept].astype(float), labels[kept] == 1
    errors = np.where(water, 1 - probability, probability)
    order = np.argsort(-errors)
    total, before = 0.0, 0.0
    for number, pixel in enumerate(order, start=1):
        wrong = np.isin(np.arange(len(order)), order[:number])
        after = 1 - (water & ~wrong).sum() / (water | wrong).sum()
        total, before = total + errors[pixel] * (after - before), after
    return total


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_the_papers_algorithm_image_by_image(seed):
    probability, labels = _random(seed)
    loss, _ = lovasz_water(_logits(probability), labels)
    np.testing.assert_allclose(loss, [_berman(*image) for image in zip(probability, labels, strict=True)], rtol=1e-5)


def test_keeps_its_digits_in_large_images():
    # 1 water pixel and 40000 dry ones, all with error 1/2: the loss is 1/2 whatever their order.
    labels = np.zeros((1, 200, 200), int)
    labels[0, 50, 50] = 1
    loss, _ = lovasz_water(np.zeros((1, 200, 200, 2), np.float32), labels)
    np.testing.assert_allclose(loss, [0.5], rtol=1e-5)


def test_an_image_without_water_has_no_iou_to_raise():
    labels = np.array([[[0, 0]], [[-1, -1]], [[1, 0]]])
    logits = _logits([[[0.9, 0.6]]] * 3)
    loss, weight = lovasz_water(logits, labels)
    np.testing.assert_array_equal(weight, [0, 0, 1])
    np.testing.assert_array_equal(np.asarray(loss[:2]), [0, 0])
    # Errors: dry 0.6 (J = 1 - 1/2), water 0.1 (J = 1).
    np.testing.assert_allclose(loss[2], 0.6 * 0.5 + 0.1 * 0.5, rtol=1e-6)
    assert not _gradient(logits, labels)[:2].any()


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_nothing_of_an_ignored_pixel_counts(poison):
    probability, labels = _random(4)
    logits = _logits(probability)
    expected, expected_gradient = lovasz_water(logits, labels)[0], _gradient(logits, labels)
    logits[labels < 0] = poison
    np.testing.assert_array_equal(lovasz_water(logits, labels)[0], expected)
    gradient = _gradient(logits, labels)
    assert not gradient[labels < 0].any()
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert (gradient[labels == 1] != 0).all()


def test_order_of_pixels_and_images_does_not_matter():
    probability, labels = _random(5)
    loss = lovasz_water(_logits(probability), labels)[0].numpy()
    turned = lovasz_water(_logits(probability[::-1, :, ::-1]), labels[::-1, :, ::-1])[0]
    np.testing.assert_allclose(turned, loss[::-1], rtol=1e-5)
    alone = [lovasz_water(_logits(probability[i : i + 1]), labels[i : i + 1])[0][0] for i in range(3)]
    np.testing.assert_allclose(alone, loss, rtol=1e-6)


def test_gradient_is_that_of_finite_differences():
    probability, labels = _random(6, (1, 2, 3))
    logits = _logits(probability).astype(np.float32)
    gradient, step = _gradient(logits, labels), 1e-2
    for place in np.ndindex(logits.shape):
        moved = [logits.copy() for _ in range(2)]
        moved[0][place] -= step
        moved[1][place] += step
        low, high = (float(lovasz_water(value, labels)[0][0]) for value in moved)
        assert gradient[place] == pytest.approx((high - low) / (2 * step), abs=1e-3)
    assert np.abs(gradient).max() > 0.01


def test_compiles_with_unknown_batch_and_size():
    signature = [tf.TensorSpec((None, None, None, 2)), tf.TensorSpec((None, None, None), tf.int32)]
    compiled = tf.function(lovasz_water, input_signature=signature)
    probability, labels = _random(7)
    for given, expected in zip(
        compiled(_logits(probability), labels.astype(np.int32)), lovasz_water(_logits(probability), labels), strict=True
    ):
        np.testing.assert_allclose(given, expected, rtol=1e-6)
