"""Confusion counts: by hand, ignored pixels, order of the four."""

import numpy as np
import tensorflow as tf

from flood_distill.metrics.confusion import confusion_counts


def test_counts_by_hand():
    water = np.array([[[True, True, True], [False, False, False]]])
    labels = np.array([[[1, 1, 0], [1, 0, -1]]])
    # Two hits, one false alarm, one miss, one dry pixel found dry; the unknown pixel is not scored.
    np.testing.assert_array_equal(confusion_counts(water, labels), [[2, 1, 1, 1]])


def test_each_example_is_counted_alone_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    water, labels = rng.random((5, 31, 17)) > 0.4, rng.integers(-1, 2, (5, 31, 17)).astype(np.int8)
    counts = np.array(confusion_counts(water, labels))
    assert counts.shape == (5, 4)
    np.testing.assert_array_equal(counts.sum(axis=1), (labels >= 0).sum(axis=(1, 2)))
    np.testing.assert_array_equal(counts[:, 0] + counts[:, 1], (water & (labels >= 0)).sum(axis=(1, 2)))
    np.testing.assert_array_equal(counts[:, 0] + counts[:, 2], (labels == 1).sum(axis=(1, 2)))
    for index in range(5):
        one = confusion_counts(water[index : index + 1], labels[index : index + 1])
        np.testing.assert_array_equal(counts[index], np.array(one)[0])


def test_an_ignored_pixel_never_counts():
    labels = np.full((1, 2, 2), -1)
    for water in (np.ones((1, 2, 2), bool), np.zeros((1, 2, 2), bool)):
        np.testing.assert_array_equal(confusion_counts(water, labels), [[0, 0, 0, 0]])


def test_counts_are_whole_numbers_that_hold_a_scene():
    counts = confusion_counts(tf.ones((1, 4200, 4200), tf.bool), tf.ones((1, 4200, 4200), tf.int8))
    assert counts.dtype == tf.int64
    # Float32 would round 17,640,000 and its neighbours together beyond 2^24.
    assert int(counts[0, 0]) == 4200 * 4200 > 2**24
