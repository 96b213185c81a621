"""The objectives as gin sets them: the paper's by default, every knob by its arithmetic."""

import gin
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.losses.confidence import confidence_weights
from flood_distill.losses.cross_entropy import cross_entropy
from flood_distill.losses.distillation import distillation
from flood_distill.losses.edge_weights import edge_weights
from flood_distill.losses.lovasz import lovasz_water
from flood_distill.training import objectives

SHAPE = (3, 8, 9)
RNG = np.random.default_rng(0)
STUDENT, TEACHER = (RNG.normal(0, 3, (*SHAPE, 2)).astype(np.float32) for _ in range(2))
LABELS = RNG.integers(-1, 2, SHAPE).astype(np.int32)
BATCH = {contract.TEACHER_IMAGE: TEACHER, contract.VALID: RNG.random(SHAPE) < 0.8}
HARD = np.where(BATCH[contract.VALID], TEACHER[..., 1] >= TEACHER[..., 0], -1)
LABELED = BATCH | {contract.LABEL: LABELS, contract.LABEL_WEIGHT: np.array([0.5, 0.0, 2.0], np.float32)}


@pytest.fixture(autouse=True)
def _plain_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def _teacher(image, training):
    """What it says is in its image."""
    assert not training
    return image


def _distil(batch=BATCH, **settings):
    total, weight = objectives.distillation_objective(_teacher, **settings)(STUDENT, batch)
    return total.numpy(), weight.numpy()


def test_the_defaults_are_the_papers_losses_bit_for_bit():
    total, weight = _distil()
    expected, number = distillation(STUDENT, TEACHER, BATCH[contract.VALID], 1.0)
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(weight, number)
    total, weight = objectives.supervised_objective(STUDENT, {contract.LABEL: LABELS})
    expected, number = cross_entropy(STUDENT, LABELS, edge_weights(LABELS, 2, 2, 2.0, 2.0))
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(weight, number)


def test_hard_labels_make_it_cross_entropy():
    expected, number = cross_entropy(STUDENT, HARD)
    total, weight = _distil(teacher_labels="hard")
    np.testing.assert_array_equal(total, expected)
    np.testing.assert_array_equal(weight, number)


@pytest.mark.parametrize("teacher_labels", ["soft", "hard"])
@pytest.mark.parametrize("measure", ["entropy", "max_probability"])
def test_confidence_weighs_the_sum_and_the_divisor(teacher_labels, measure):
    settings = {"teacher_labels": teacher_labels, "confidence": measure}
    weights = confidence_weights(TEACHER, BATCH[contract.VALID], measure, 2.0)
    total, weight = _distil(**settings, confidence_power=2.0)
    np.testing.assert_allclose(weight, np.sum(weights, axis=(1, 2)), rtol=1e-6)
    assert (weight < BATCH[contract.VALID].sum((1, 2))).all()
    if teacher_labels == "hard":
        np.testing.assert_allclose(total, cross_entropy(STUDENT, HARD, weights)[0], rtol=1e-6)
    plain = _distil(teacher_labels=teacher_labels)
    for ours, uniform in zip(_distil(**settings, confidence_power=0.0), plain, strict=True):
        np.testing.assert_allclose(ours, uniform, rtol=1e-6)


def test_where_the_teacher_is_blind_the_student_learns_nothing():
    blind = TEACHER.copy()
    blind[:, 2:5] = 0.0  # as likely water as dry
    student = tf.constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch(student)
        objective = objectives.distillation_objective(_teacher, confidence="max_probability")
        total = tf.reduce_sum(objective(student, BATCH | {contract.TEACHER_IMAGE: blind})[0])
    gradient = tape.gradient(total, student).numpy()
    seen = BATCH[contract.VALID].copy()
    seen[:, 2:5] = False
    assert (gradient[seen] != 0).any(axis=-1).all()
    assert not gradient[~seen].any()


def test_lovasz_counts_each_image_as_often_as_its_pixels():
    loss, _ = lovasz_water(STUDENT, HARD)
    total, weight = _distil(lovasz_weight=0.5)
    plain, number = _distil()
    np.testing.assert_array_equal(weight, number)
    np.testing.assert_allclose(total, plain + 0.5 * number * loss, rtol=1e-6)
    batch = {contract.LABEL: LABELS}
    plain, number = objectives.supervised_objective(STUDENT, batch)
    total, weight = objectives.supervised_objective(STUDENT, batch, lovasz_weight=0.5)
    np.testing.assert_array_equal(weight, number)
    np.testing.assert_allclose(total, plain + 0.5 * number * lovasz_water(STUDENT, LABELS)[0], rtol=1e-6)


def test_labels_add_the_baselines_loss_times_the_weight_of_their_dataset():
    total, weight = _distil(LABELED)
    plain, number = _distil()
    supervised, labelled = objectives.supervised_objective(STUDENT, LABELED)
    np.testing.assert_allclose(weight, number + np.array([0.5, 0.0, 2.0]) * labelled, rtol=1e-6)
    np.testing.assert_allclose(total, plain + np.array([0.5, 0.0, 2.0]) * supervised, rtol=1e-6)


def test_a_teacher_that_is_sure_of_nothing_leaves_the_labels_their_size():
    unsure = LABELED | {contract.TEACHER_IMAGE: 1e-4 * TEACHER}  # entropy weights of about 1e-9
    total, weight = _distil(unsure, confidence="entropy")
    supervised, labelled = objectives.supervised_objective(STUDENT, LABELED)
    of_labels = np.array([0.5, 0.0, 2.0])
    mean = np.sum(of_labels * supervised) / np.sum(of_labels * labelled)
    np.testing.assert_allclose(total.sum() / weight.sum(), mean, rtol=1e-4)


def test_unlabelled_pixels_add_nothing_be_they_nan():
    batch = LABELED | {contract.VALID: np.zeros(SHAPE, bool)}
    poisoned = np.where(LABELS[..., None] < 0, np.nan, STUDENT).astype(np.float32)
    student = tf.constant(poisoned)
    with tf.GradientTape() as tape:
        tape.watch(student)
        total = tf.reduce_sum(objectives.distillation_objective(_teacher)(student, batch)[0])
    gradient = tape.gradient(total, student).numpy()
    expected = objectives.distillation_objective(_teacher)(STUDENT, batch)[0]
    np.testing.assert_allclose(total, tf.reduce_sum(expected), rtol=1e-6)
    assert not gradient[LABELS < 0].any()
    assert (gradient[[0, 2]][LABELS[[0, 2]] >= 0] != 0).any(axis=-1).all()
    assert not gradient[1].any()  # its dataset weighs 0


def test_splitting_a_batch_changes_no_sum():
    settings = {"confidence": "entropy", "lovasz_weight": 1.0}
    whole = _distil(LABELED, **settings)
    parts = []
    for part in (slice(0, 1), slice(1, 3)):
        objective = objectives.distillation_objective(_teacher, **settings)
        parts.append(objective(STUDENT[part], {name: value[part] for name, value in LABELED.items()}))
    for together, apart in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(np.concatenate(apart), together, rtol=1e-5)


def test_labels_weigh_by_the_kind_of_their_dataset():
    datasets = [contract.HAND, contract.EXTERNAL, contract.WEAK, contract.OMBRIA_AFTER]
    assert objectives.label_weights(datasets) is None
    assert objectives.label_weights(datasets, hand=0.5) == [0.5, 0, 0, 0.5]
    assert objectives.label_weights(datasets, weak=2) == [0, 2, 2, 0]
    assert objectives.label_weights([contract.EXTERNAL], hand=1.0) is None  # no hand label to read


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_labels": "firm"}, "distillation_objective.teacher_labels='firm': not one of soft, hard"),
        ({"confidence": "margin"}, "confidence='margin': not one of uniform, entropy, max_probability"),
        ({"temperature": 0}, "distillation_objective.temperature=0: must be positive"),
        ({"teacher_labels": "hard", "temperature": 2.0}, "temperature: is for soft labels"),
        ({"confidence_power": -1}, "distillation_objective.confidence_power=-1: must not be negative"),
        ({"lovasz_weight": -1}, "distillation_objective.lovasz_weight=-1: must not be negative"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        objectives.distillation_objective(_teacher, **settings)


def test_negative_label_weights_are_named():
    with pytest.raises(UserError, match="label_weights.hand=-1"):
        objectives.label_weights([contract.HAND], hand=-1)
