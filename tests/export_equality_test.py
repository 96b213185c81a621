"""The comparison of exported forms: hand arithmetic."""

import numpy as np
import pytest

from benchmarks import export_equality


def test_differences_are_those_of_valid_pixels():
    expected = np.array([[[0.2, 0.49, np.nan], [0.5, 0.9, 1.0]]], np.float32)
    other = np.array([[[0.2, 0.51, np.nan], [0.5, 0.8, 1.0]]], np.float32)
    row = export_equality.differences(expected, other, threshold=0.5)
    assert row["largest difference"] == pytest.approx(0.1)  # 0.9 - 0.8
    assert row["mean difference"] == pytest.approx((0.02 + 0.1) / 5)
    assert row["mask agrees, %"] == pytest.approx(100 * 4 / 5)  # 0.49 and 0.51 lie on both sides


def test_other_pixels_without_data_are_an_error():
    expected = np.array([[[0.2, np.nan]]], np.float32)
    with pytest.raises(ValueError, match="has data where another has none"):
        export_equality.differences(expected, np.zeros_like(expected), threshold=0.5)
