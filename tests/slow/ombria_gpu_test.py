"""What benchmarks/ombria_gpu.py does in JAX is what the package does in TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import chip_blocks
from flood_distill import augmentation, contract

jax_augmentation = pytest.importorskip("benchmarks.jax_augmentation", reason="needs jax (extra backends)")
SIZE = 16


@pytest.fixture(scope="module")
def tile():
    rng = np.random.default_rng(0)
    valid = rng.random((SIZE, SIZE)) > 0.2
    return rng.random((SIZE, SIZE, 2)).astype(np.float32), valid


@pytest.mark.parametrize("rows", [np.arange(16.0), np.linspace(11.3, 2.1, 9), np.linspace(-3, 19.5, 12)])
def test_tiles_are_read_alike(tile, rows):
    values, valid = tile
    columns = np.linspace(1.25, 13.5, 10)
    window = [tf.constant(places, tf.float32) for places in (rows, columns)]
    expected, expected_valid = augmentation.resample(values, valid, augmentation.Window(*window))
    places = jax_augmentation.Window(*(place.numpy() for place in window))
    ours, ours_valid = jax_augmentation.resample(values, valid, places)
    np.testing.assert_array_equal(ours_valid, expected_valid)
    np.testing.assert_allclose(np.moveaxis(np.asarray(ours), -1, 0), expected, atol=1e-6)
    labels = np.where(valid, 1, 0).astype(np.int8)
    nearest = augmentation.nearest(labels, augmentation.Window(*window), contract.IGNORE_LABEL)
    np.testing.assert_array_equal(jax_augmentation.nearest(labels, places, contract.IGNORE_LABEL), nearest)


def test_windows_stay_on_the_canvas_and_are_of_the_ranges():
    import jax

    ranges = {"zoom_range": (0.8, 1.25), "aspect_range": (0.9, 1.1), "flip_horizontal": True, "flip_vertical": False}
    windows = [jax_augmentation.random_window(ranges, jax.random.key(number), 65, 33) for number in range(50)]
    steps = np.array([[places[1] - places[0] for places in window] for window in windows])
    assert np.all(steps[:, 0] > 0)  # never upside down
    assert {-1.0, 1.0} == set(np.sign(steps[:, 1]))
    assert np.all(np.abs(steps) > 1 / 1.25 / 1.1**0.5 - 1e-4)
    assert np.all(np.abs(steps) < 1 / 0.8 * 1.1**0.5 + 1e-4)
    assert np.ptp(np.abs(steps[:, 0] / steps[:, 1])) > 0.1
    for window in windows:
        assert min(places.min() for places in window) >= -0.5
        assert max(places.max() for places in window) <= 64.5


def test_jitter_leaves_no_data_alone(tile):
    import jax

    values, valid = tile
    ours = np.asarray(jax_augmentation.jitter(values, valid, 0.05, 0.1, jax.random.key(0)))
    np.testing.assert_array_equal(ours[~valid], values[~valid])
    changed = ours[valid] - 0.5 - (values[valid] - 0.5)
    assert 0 < np.abs(changed).max() <= 0.05 + 0.1 * 0.5 + 1e-6
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_blocks_become_pixels():
    s1 = np.array([[10, 20, 7, np.nan], [30, 41, np.nan, np.nan]], np.float32)[..., None]
    s2 = np.array([[1, 1, 0, 0], [1, 1, 3, 3]], np.int16)[..., None].repeat(3, -1)
    label = np.array([[1, 0, -1, -1], [1, 0, -1, -1]], np.int8)
    example = {contract.S1: s1, contract.S2: s2, contract.LABEL: label, contract.CHIP_ID: b"ombria_0001"}
    arrays = chip_blocks.packed([example], 2)
    np.testing.assert_array_equal(arrays["s1"][0, 0, :, 0], [25, 7])  # 101 / 4; the only valid one
    np.testing.assert_array_equal(arrays["s1_valid"][0, 0], [True, False])  # 4 of 4, 1 of 4
    np.testing.assert_array_equal(arrays["s2_valid"][0, 0], [True, True])  # 2 of 4 are half
    np.testing.assert_array_equal(arrays["label"][0, 0], [1, -1])
    assert arrays["chip_id"].tolist() == ["ombria_0001"]


def test_a_date_without_data_makes_the_pixel_invalid():
    s2 = np.ones((1, 2, 6), np.int16)
    s2[0, 1, 3:] = 0  # the image from before the flood
    example = {contract.S1: np.ones((1, 2, 2)), contract.S2: s2, contract.LABEL: np.zeros((1, 2)), "chip_id": b"a"}
    np.testing.assert_array_equal(chip_blocks.packed([example], 1)["s2_valid"][0, 0], [True, False])
