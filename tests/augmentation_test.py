"""Crop, distortion, flips and jitter: exact where they should be, and no-data never bleeds."""

import numpy as np
import pytest
import tensorflow as tf

from flood_distill import augmentation, contract
from flood_distill.augmentation import Window
from flood_distill.errors import UserError

NAN = np.float32("nan")
OFF = {
    "zoom_range": (1, 1),
    "aspect_range": (1, 1),
    "flip_horizontal": False,
    "flip_vertical": False,
    "s1_brightness": 0.0,
    "s1_contrast": 0.0,
    "s2_brightness": 0.0,
    "s2_contrast": 0.0,
}


def seed(number):
    return tf.constant([1, number], tf.int64)


def whole(size):
    positions = tf.range(size, dtype=tf.float32)
    return Window(positions, positions)


def resample(image, valid, drawn):
    """Channels last, for comparison with images."""
    planes, valid = augmentation.resample(image, valid, drawn)
    return planes.numpy().transpose(1, 2, 0), valid.numpy()


def jitter(image, *arguments):
    planes = tf.constant(image.transpose(2, 0, 1))
    return augmentation.jitter(planes, *arguments).numpy().transpose(1, 2, 0)


def window(rows, columns):
    return Window(tf.constant(rows, tf.float32), tf.constant(columns, tf.float32))


def noise(size=12, channels=2, number=0):
    return np.random.default_rng(number).normal(size=(size, size, channels)).astype(np.float32)


def test_identity_window_copies_bit_for_bit():
    image = noise()
    got, valid = resample(image, tf.fill([12, 12], True), whole(12))
    np.testing.assert_array_equal(got, image)
    assert valid.all()


def test_without_distortion_a_random_window_copies_a_crop():
    image = noise(20)
    for number in range(20):
        drawn = augmentation.random_window(augmentation.augmentation(**OFF), seed(number), [20, 20], 7)
        top, left = int(drawn.rows[0]), int(drawn.columns[0])
        got, _ = resample(image, tf.fill([20, 20], True), drawn)
        np.testing.assert_array_equal(got, image[top : top + 7, left : left + 7])


def test_windows_reach_every_corner_position():
    tops = {
        int(augmentation.random_window(augmentation.augmentation(**OFF), seed(number), [10, 10], 7).rows[0])
        for number in range(60)
    }
    assert tops == {0, 1, 2, 3}  # 10 - 7 + 1 positions


@pytest.mark.parametrize(
    ("flips", "expected"),
    [
        ({"flip_horizontal": True}, lambda image: image[:, ::-1]),
        ({"flip_vertical": True}, lambda image: image[::-1]),
    ],
)
def test_flips_are_exact_and_happen_in_half_of_the_examples(flips, expected):
    image = noise(9)
    ranges = augmentation.augmentation(**{**OFF, **flips})
    flipped = 0
    for number in range(60):
        drawn = augmentation.random_window(ranges, seed(number), [9, 9], 9)
        got = resample(image, tf.fill([9, 9], True), drawn)[0]
        is_flipped = not np.array_equal(got, image)
        np.testing.assert_array_equal(got, expected(image) if is_flipped else image)
        flipped += is_flipped
    assert 15 < flipped < 45  # binomial(60, 1/2): beyond 3.8 standard deviations otherwise


def test_bilinear_arithmetic():
    image = tf.constant([[[0.0], [4.0]], [[8.0], [12.0]]])
    got, _ = resample(image, tf.fill([2, 2], True), window([0.25], [0.5]))
    # rows 3/4 and 1/4, columns 1/2 and 1/2: 0.75 * (0 + 4) / 2 + 0.25 * (8 + 12) / 2
    assert got.item() == 4.0


def test_a_linear_ramp_stays_linear_under_distortion():
    row, column = np.mgrid[0:30, 0:30].astype(np.float32)
    ranges = augmentation.augmentation(zoom_range=(0.7, 1.6), aspect_range=(0.7, 1.4))
    for number in range(10):
        drawn = augmentation.random_window(ranges, seed(number), [30, 30], 16)
        got, _ = resample(np.stack([row, column], -1), tf.fill([30, 30], True), drawn)
        np.testing.assert_allclose(got[:, 0, 0], np.clip(drawn.rows, 0, 29), atol=1e-4)
        np.testing.assert_allclose(got[0, :, 1], np.clip(drawn.columns, 0, 29), atol=1e-4)


def test_zoom_and_aspect_stay_in_range_and_inside_the_canvas():
    ranges = augmentation.augmentation(zoom_range=(0.5, 2.0), aspect_range=(0.5, 2.0))
    steps = []
    for number in range(200):
        drawn = augmentation.random_window(ranges, seed(number), [100, 100], 40)
        for positions in drawn:
            low, high = float(tf.reduce_min(positions)), float(tf.reduce_max(positions))
            assert low >= -0.5
            assert high <= 99.5
        row_step, column_step = (abs(float(positions[1] - positions[0])) for positions in drawn)
        steps.append((row_step * column_step, row_step / column_step))
    areas, aspects = np.array(steps).T
    assert areas.min() >= 0.5**2 - 1e-3  # step = 1 / zoom in both directions
    assert areas.max() <= 2.0**2 + 1e-3
    assert aspects.min() >= 0.5 - 1e-3
    assert aspects.max() <= 2.0 + 1e-3
    assert areas.max() / areas.min() > 8
    assert aspects.max() / aspects.min() > 3


def test_a_crop_as_large_as_the_canvas_only_zooms_in():
    ranges = augmentation.augmentation(zoom_range=(0.5, 2.0), aspect_range=(0.5, 2.0))
    for number in range(50):
        for positions in augmentation.random_window(ranges, seed(number), [21, 21], 21):
            assert abs(float(positions[1] - positions[0])) <= 1 + 1e-6


def test_outside_the_tile_is_invalid():
    image = noise(4)
    got, valid = resample(image, tf.fill([4, 4], True), window(range(5), range(5)))
    np.testing.assert_array_equal(got[:4, :4], image)
    assert valid[:4, :4].all()
    assert not valid[4].any()
    assert not valid[:, 4].any()
    assert (got[4] == 0).all()
    label = augmentation.nearest(tf.ones([4, 4], tf.int8), window([-0.6, -0.4, 3.4, 3.6], [0]), -1)
    assert label.numpy()[:, 0].tolist() == [-1, 1, 1, -1]


def test_invalid_pixels_never_bleed():
    """What the invalid pixels hold cannot matter, and next to them the valid neighbours alone decide."""
    image, rng = noise(24), np.random.default_rng(5)
    valid = rng.random((24, 24)) < 0.7
    ranges = augmentation.augmentation(zoom_range=(0.7, 1.5))
    for number in range(8):
        drawn = augmentation.random_window(ranges, seed(number), [25, 25], 20)
        results = []
        for content in (NAN, np.float32(1e30), np.float32(0)):
            spoiled = np.where(valid[..., None], image, content)
            results.append(resample(spoiled, valid, drawn))
        for got, got_valid in results:
            assert np.isfinite(got).all()
            np.testing.assert_array_equal(got, results[0][0])
            np.testing.assert_array_equal(got_valid, results[0][1])
        expected = reference(image, valid, drawn)
        np.testing.assert_allclose(results[0][0], expected, atol=1e-5)


def reference(image, valid, drawn):
    """Pixel by pixel: mean of the valid ones of four neighbours by bilinear weight, if the nearest is valid."""
    size = valid.shape[0]
    result = np.zeros((len(drawn.rows), len(drawn.columns), image.shape[-1]))
    for i, y in enumerate(drawn.rows.numpy()):
        for j, x in enumerate(drawn.columns.numpy()):
            near = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
            if max(near) >= size or not valid[near]:
                continue
            total = weight = 0.0
            for r in (int(np.floor(y)), int(np.floor(y)) + 1):
                for c in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= r < size and 0 <= c < size and valid[r, c]:
                        w = (1 - abs(y - r)) * (1 - abs(x - c))
                        total, weight = total + w * image[r, c], weight + w
            result[i, j] = total / weight
    return result


def test_cutting_off_what_a_window_does_not_read_changes_no_bit():
    valid = np.random.default_rng(1).random((40, 40)) < 0.7
    tile = {"image": tf.constant(noise(40)), "valid": tf.constant(valid)}
    ranges = augmentation.augmentation()
    for number in range(10):
        drawn = augmentation.random_window(ranges, seed(number), [41, 41], 16)
        part, moved = augmentation.cut(tile, drawn)
        assert max(part["image"].shape[:2]) <= 16 / 0.8 * 1.25**0.5 + 2  # crop / zoom * sqrt(aspect), and its rim
        for got, expected in zip(
            resample(part["image"], part["valid"], moved), resample(tile["image"], valid, drawn), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


def test_a_pixel_is_valid_where_its_nearest_source_is():
    valid = np.random.default_rng(1).random((30, 30)) < 0.5
    ranges = augmentation.augmentation()
    for number in range(5):
        drawn = augmentation.random_window(ranges, seed(number), [30, 30], 16)
        _, got = resample(noise(30), valid, drawn)
        rows, columns = (np.clip(np.floor(p.numpy() + 0.5).astype(int), 0, 29) for p in drawn)
        np.testing.assert_array_equal(got, valid[np.ix_(rows, columns)])


def test_jitter_arithmetic():
    image = np.tile(np.float32([0.25, 0.5, 0.75])[:, None, None], (1, 1, 2))
    got = jitter(image, tf.fill([3, 1], True), 0.05, 0.2, seed(0))
    offset = got[1, 0] - 0.5  # the middle only moves by the offset
    gain = (got[2, 0] - got[0, 0]) / 0.5
    assert (abs(offset) <= 0.05).all()
    assert (abs(gain - 1) <= 0.2).all()
    assert offset[0] != offset[1]  # each band on its own
    assert gain[0] != gain[1]
    np.testing.assert_allclose(got[:, 0], (image[:, 0] - 0.5) * gain + 0.5 + offset, atol=1e-6)


def test_jitter_keeps_fill_and_range():
    rng = np.random.default_rng(0)
    valid = rng.random((16, 16)) < 0.6
    image = np.where(valid[..., None], rng.random((16, 16, 4)), contract.FILL_VALUE).astype(np.float32)
    changed = 0
    for number in range(20):
        got = jitter(image, valid, 0.4, 0.9, seed(number))
        assert (got[~valid] == contract.FILL_VALUE).all()
        assert got.min() >= 0
        assert got.max() <= 1
        changed += (got[valid] != image[valid]).mean() > 0.5
    assert changed == 20


def test_no_jitter_changes_no_bit():
    image = noise()
    np.testing.assert_array_equal(jitter(image, tf.fill([12, 12], True), 0.0, 0.0, seed(0)), image)


def test_equal_seeds_draw_equal_windows_and_others_do_not():
    ranges = augmentation.augmentation()
    first, again, other = (augmentation.random_window(ranges, seed(n), [321, 321], 97) for n in (3, 3, 4))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert (first.rows.numpy() != other.rows.numpy()).any()


def test_warping_a_teachers_output_reads_where_the_student_looks():
    row, column = np.mgrid[0:30, 0:30].astype(np.float32)
    maps = tf.constant(np.stack([np.stack([row, column], -1), np.stack([row, column], -1) + 100]))
    ranges = augmentation.augmentation()
    windows = [augmentation.random_window(ranges, seed(number), [30, 30], 16) for number in (0, 1)]
    rows, columns = (tf.stack(positions) for positions in zip(*windows, strict=True))
    got = augmentation.warp_logits(maps, rows, columns)
    for i, drawn in enumerate(windows):
        np.testing.assert_allclose(got[i, :, 3, 0] - 100 * i, np.clip(drawn.rows, 0, 29), atol=1e-4)
        np.testing.assert_allclose(got[i, 3, :, 1] - 100 * i, np.clip(drawn.columns, 0, 29), atol=1e-4)


def test_warping_a_map_equals_resampling_it():
    image = noise(30, 2)
    for number in range(3):
        drawn = augmentation.random_window(augmentation.augmentation(), seed(number), [30, 30], 16)
        expected, _ = resample(image, tf.fill([30, 30], True), drawn)
        got = augmentation.warp_logits(image[None], drawn.rows[None], drawn.columns[None])[0]
        np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("zoom_range", (0, 1)),
        ("zoom_range", (1.2, 0.8)),
        ("aspect_range", (1,)),
        ("s1_brightness", -0.1),
        ("s2_contrast", 1.0),
    ],
)
def test_bad_settings_are_named(setting, value):
    with pytest.raises(UserError, match=f"augmentation.{setting}="):
        augmentation.augmentation(**{setting: value})
