"""Reliability with the arithmetic in sight."""

import math

import numpy as np
import pytest

from flood_distill import calibration

PROBABILITY = np.array([0.01, 0.04, 0.30, 0.31, 0.34, 0.99, 1.0, np.nan], np.float32)
LABELS = np.array([0, 1, 0, 0, 1, 1, 1, -1])
SCORED = LABELS >= 0


def test_pixels_fall_into_bins_of_a_twentieth():
    one = calibration.reliability(PROBABILITY, LABELS, SCORED)
    assert (one.num_pixels[0], one.num_pixels[6], one.num_pixels[19], one.num_pixels.sum()) == (2, 3, 2, 7)
    assert (one.num_water[0], one.num_water[6], one.num_water[19], one.num_water.sum()) == (1, 1, 2, 4)
    assert one.mean_probability[6] == pytest.approx((0.30 + 0.31 + 0.34) / 3)
    assert one.share_water[6] == 1 / 3
    assert math.isnan(one.share_water[10])


def test_expected_calibration_error():
    one = calibration.reliability(PROBABILITY, LABELS, SCORED)
    gaps = 2 * abs(1 / 2 - 0.025) + 3 * abs(1 / 3 - 0.95 / 3) + 2 * abs(1 - 0.995)
    assert one.expected_calibration_error == pytest.approx(gaps / 7, abs=1e-6)
    assert math.isnan(calibration.empty().expected_calibration_error)


def test_chips_add_up_and_survive_json():
    whole = calibration.reliability(PROBABILITY, LABELS, SCORED)
    halves = [
        calibration.reliability(PROBABILITY[part], LABELS[part], SCORED[part]) for part in (slice(4), slice(4, 8))
    ]
    total = calibration.from_json((calibration.empty() + halves[0] + halves[1]).as_json())
    assert total.num_pixels.tolist() == whole.num_pixels.tolist()
    assert total.num_water.tolist() == whole.num_water.tolist()
    assert total.sum_probability == pytest.approx(whole.sum_probability, abs=1e-3)
