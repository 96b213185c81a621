"""Otsu's baseline against scikit-image itself, and where Otsu's method has nothing to say."""

import numpy as np
import pytest
from skimage import filters

from flood_distill import contract, otsu


def chip(seed, nan_share=0.0):
    """A tile with a dark and a bright class, float32 [60, 50, 2]."""
    generator = np.random.default_rng(seed)
    water = generator.random((60, 50)) < 0.3
    vh = np.where(water, -26.0, -15.0) + generator.normal(0, 1.5, water.shape)
    s1 = np.stack([vh + 7, vh], axis=-1).astype(np.float32)
    s1[generator.random(water.shape) < nan_share] = np.nan
    return s1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("nan_share", [0.0, 0.4])
def test_mask_equals_scikit_image_exactly(seed, nan_share):
    s1 = chip(seed, nan_share)
    vh = s1[..., 1]
    finite = np.isfinite(vh)
    threshold = filters.threshold_otsu(vh[finite], nbins=256)
    expected = np.full(vh.shape, 255, np.uint8)
    expected[finite] = vh[finite] <= threshold
    assert otsu.threshold(vh) == threshold
    mask = otsu.water_mask(s1)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, expected)
    assert 0.2 < np.mean(mask[finite]) < 0.4


def test_threshold_itself_is_water(monkeypatch):
    monkeypatch.setattr(otsu, "threshold", lambda vh_db: -20.0)
    s1 = np.array([[[-9, -20.5], [-9, -20.0], [-9, -19.5]]], np.float32)
    assert otsu.water_mask(s1).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("vh", [[-30.0, -30.0], [np.nan, -30.0]])
def test_one_distinct_value_is_dry(vh):
    s1 = np.stack([np.full(2, -10.0), vh], axis=-1)[np.newaxis].astype(np.float32)
    assert otsu.threshold(s1[..., 1]) is None
    assert not (otsu.water_mask(s1) == contract.WATER).any()


def test_no_finite_value_is_no_data():
    s1 = np.full((4, 4, 2), np.nan, np.float32)
    assert otsu.threshold(s1[..., 1]) is None
    assert (otsu.water_mask(s1) == contract.MASK_NODATA).all()


def test_pixel_without_vv_is_no_data_though_vh_counts_for_the_threshold():
    s1 = chip(0)
    threshold = otsu.threshold(s1[..., 1])
    s1[:5, :, 0] = np.nan
    assert otsu.threshold(s1[..., 1]) == threshold
    assert (otsu.water_mask(s1)[:5] == contract.MASK_NODATA).all()
