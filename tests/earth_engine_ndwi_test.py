"""From served pixels to layers: the arithmetic of NDWI, no-data and cloud."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.earth_engine_curation import ndwi
from flood_distill import contract

ROOT = Path(__file__).resolve().parent.parent


def _served(*pixels, clear=None):
    """One row of pixels, each VV, VH, B2, B3, B4, B8, S1_VALID, S2_VALID."""
    bands = np.array(pixels, np.float32).T[:, None, :]
    return bands if clear is None else np.concatenate([bands, np.array(clear, np.float32)[None, None]])


DRY = (-8, -14, 900, 300, 800, 900, 1, 1)
WATER = (-18, -25, 900, 900, 800, 300, 1, 1)


@pytest.mark.parametrize(
    ("green", "near_infrared", "expected"),
    [(900, 300, 600 / 1200), (300, 900, -600 / 1200), (500, 500, 0.0), (500, 0, 1.0), (0, 500, -1.0)],
)
def test_ndwi_is_the_normalised_difference(green, near_infrared, expected):
    assert ndwi.ndwi(np.array(green), np.array(near_infrared)) == pytest.approx(expected)


def test_ndwi_of_nothing_is_not_known():
    assert np.isnan(ndwi.ndwi(np.array([0]), np.array([0]))).all()


def test_ndwi_has_no_overflow_in_integers():
    assert ndwi.ndwi(np.array([30000], np.int16), np.array([30000], np.int16)) == 0


def test_water_lies_strictly_above_the_threshold():
    s2 = np.zeros((1, 3, 4), np.int16)
    s2[0, :, 1], s2[0, :, 3] = (600, 500, 400), (400, 500, 600)  # NDWI 0.2, 0, -0.2
    valid = np.ones((1, 3), bool)
    assert ndwi.weak_label(s2, valid, 0.0).tolist() == [[1, 0, 0]]
    assert ndwi.weak_label(s2, valid, -0.1).tolist() == [[1, 1, 0]]
    assert ndwi.weak_label(s2, valid, 0.2001).tolist() == [[0, 0, 0]]


def test_layers_have_the_types_and_order_of_the_dataset():
    layers = ndwi.layers(_served(DRY, WATER), 0.0)
    assert (layers.s1.dtype, layers.s2.dtype, layers.label.dtype) == (np.float32, np.int16, np.int16)
    assert layers.s1[0].tolist() == [[-8, -14], [-18, -25]]
    assert layers.s2[0].tolist() == [[900, 300, 800, 900], [900, 900, 800, 300]]
    assert layers.label.tolist() == [[0, 1]]
    assert (layers.valid_share, layers.water_share) == (1.0, 0.5)
    assert np.isnan(layers.cloud_percent)


def test_each_sensor_has_its_own_no_data():
    no_s1, no_s2 = (*DRY[:6], 0, 1), (*WATER[:6], 1, 0)
    layers = ndwi.layers(_served(DRY, no_s1, no_s2), 0.0)
    assert np.isnan(layers.s1[0]).all(axis=-1).tolist() == [False, True, False]
    assert (layers.s2[0] == 0).all(axis=-1).tolist() == [False, False, True]
    assert layers.label.tolist() == [[0, 0, -1]]  # never water where nothing was seen
    assert layers.valid_share == pytest.approx(1 / 3)
    assert layers.water_share == 0.0


@pytest.mark.parametrize("value", [np.nan, -np.inf, ndwi.SERVED_NODATA])
@pytest.mark.parametrize("band", [0, 5])
def test_a_value_that_is_none_counts_as_no_data_whatever_the_mask_says(value, band):
    pixel = list(WATER)
    pixel[band] = value
    layers = ndwi.layers(_served(pixel), 0.0)
    assert np.isnan(layers.s1).all() == (band == 0)
    assert (layers.label == contract.IGNORE_LABEL).all() == (band == 5)
    assert layers.valid_share == 0.0


@pytest.mark.parametrize("mask", [0.5, 0.999, 2.0])
def test_a_mask_that_is_not_one_is_no_data(mask):
    assert ndwi.layers(_served((*WATER[:7], mask)), 0.0).label.tolist() == [[-1]]


def test_reflectance_is_rounded_and_bounded():
    layers = ndwi.layers(_served((-8, -14, -3, 10.6, 40000, 10.4, 1, 1)), 0.0)
    assert layers.s2[0].tolist() == [[0, 11, 32767, 10]]
    assert layers.label.tolist() == [[1]]  # NDWI 1 / 21


def test_black_in_all_bands_is_no_data_whatever_the_mask_says():
    black, black_after_rounding = (-8, -14, 0, 0, 0, 0, 1, 1), (-8, -14, 0.4, 0, 0, -5, 1, 1)
    layers = ndwi.layers(_served(black, black_after_rounding, DRY), 0.0)
    assert layers.label.tolist() == [[-1, -1, 0]]
    assert layers.valid_share == pytest.approx(1 / 3)


@pytest.mark.parametrize("module", ["ndwi", "planning", "tiling"])
def test_pure_functions_need_neither_earth_engine_nor_tensorflow(module):
    if module != "ndwi":
        pytest.importorskip("shapely")
    heavy = "('ee', 'google', 'tensorflow', 'keras', 'tensorflow_datasets')"
    code = f"import sys, data_prep.earth_engine_curation.{module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cloud_is_measured_on_what_sentinel_2_saw():
    blind = (*DRY[:7], 0)
    layers = ndwi.layers(_served(DRY, DRY, DRY, DRY, blind, clear=[1, 1, 1, 0, 0]), 0.0)
    assert layers.cloud_percent == 25.0
    assert np.isnan(ndwi.layers(_served(blind, clear=[0]), 0.0).cloud_percent)
