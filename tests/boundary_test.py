"""Boundary IoU on masks that can be counted by hand."""

import numpy as np
from scipy import ndimage

from flood_distill import boundary, statistics
from flood_distill.statistics import Counts

EVERYWHERE = np.ones((12, 12), bool)


def columns(start, stop, size=12):
    mask = np.zeros((size, size), bool)
    mask[:, start:stop] = True
    return mask


def test_band_lies_inside_the_water_along_dry_land():
    assert np.flatnonzero(boundary.band(columns(0, 6), EVERYWHERE, 2)[5]).tolist() == [4, 5]
    assert np.flatnonzero(boundary.band(columns(3, 10), EVERYWHERE, 1)[5]).tolist() == [3, 9]
    assert not boundary.band(EVERYWHERE, EVERYWHERE, 2).any()  # the border of the image is no shore


def test_band_is_what_erosion_removes_inside_an_image():
    blob = ndimage.binary_dilation(np.random.default_rng(0).random((40, 40)) > 0.98, iterations=3)
    blob[:8], blob[-8:], blob[:, :8], blob[:, -8:] = False, False, False, False
    for width_px in (1, 2, 3):
        eroded = ndimage.binary_erosion(blob, np.ones((3, 3)), iterations=width_px)
        np.testing.assert_array_equal(boundary.band(blob, np.ones_like(blob), width_px), blob & ~eroded)


def test_no_data_is_no_shore_and_lets_nothing_through():
    water, scored = columns(0, 6), ~columns(6, 7)  # a column of no-data between water and land
    assert not boundary.band(water, scored, 3).any()
    scored[5, 6] = True  # a gap of one dry pixel: the shore is what 3 steps from it reach
    reached = boundary.band(water, scored, 3)
    expected = np.zeros((12, 12), bool)
    expected[2:9, 3:6] = True
    np.testing.assert_array_equal(reached, expected)


def test_counts():
    label = columns(0, 6).astype(np.int8)
    label[0] = -1
    scored = label >= 0
    counts = boundary.count(columns(0, 7), label, scored, 2)  # bands: columns 5, 6 predicted; 4, 5 true; 11 rows
    assert counts == Counts(tp=11, fp=11, fn=11, tn=11 * 9)
    assert statistics.iou(counts) == 1 / 3
    plain = statistics.count(columns(0, 7), label, scored)
    assert statistics.iou(plain) == 6 / 7
