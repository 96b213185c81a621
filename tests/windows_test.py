"""Windows cover every pixel, weights sum to exactly 1, blending gives back what the windows agree on."""

import numpy as np
import pytest

from flood_distill.geo import windows

SIZES = [
    (1, 8, 2),
    (8, 8, 2),
    (9, 8, 2),
    (10, 8, 6),
    (15, 8, 4),
    (100, 8, 0),
    (101, 33, 8),
    (1000, 321, 64),
    (643, 321, 160),
    (40, 8, 7),
]


@pytest.mark.parametrize(("length", "window", "overlap"), SIZES)
def test_weights_of_every_pixel_sum_to_exactly_one(length, window, overlap):
    total = np.zeros(max(length, window), np.float32)
    for span in windows.spans(length, window, overlap):
        total[span.start : span.start + window] += span.weights
    assert np.all(total[:length] == 1.0)


@pytest.mark.parametrize(("length", "window", "overlap"), SIZES)
def test_neighbours_share_the_overlap_and_stay_inside(length, window, overlap):
    starts = [span.start for span in windows.spans(length, window, overlap)]
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    assert all(0 < step <= window - overlap for step in np.diff(starts))


@pytest.mark.parametrize(
    ("length", "window", "overlap", "multiple"), [(14, 8, 2, 4), (100, 40, 7, 32), (643, 321, 64, 32)]
)
def test_windows_begin_at_multiples_and_still_cover_everything_once(length, window, overlap, multiple):
    spans = windows.spans(length, window, overlap, multiple)
    starts = [span.start for span in spans]
    assert starts == [row for row, column in windows.origins(length, 1, window, overlap, multiple)]
    assert all(start % multiple == 0 for start in starts)
    assert all(0 < step <= window - overlap for step in np.diff(starts))
    assert length <= starts[-1] + window < length + multiple
    total = np.zeros(starts[-1] + window, np.float32)
    for span in spans:
        total[span.start : span.start + window] += span.weights
    assert np.all(total == 1.0)


def test_rim_of_a_window_counts_for_nothing_inside_the_scene():
    first, second = windows.spans(14, 8, 2)  # [0, 8) and [6, 14) share 6 and 7
    assert first.weights.tolist() == [1, 1, 1, 1, 1, 1, 0.75, 0.25]
    assert second.weights.tolist() == [0.25, 0.75, 1, 1, 1, 1, 1, 1]
    first, second = windows.spans(10, 8, 2)  # share 2..7, blended over the middle 4 and 5 only
    assert first.weights.tolist() == [1, 1, 1, 1, 0.75, 0.25, 0, 0]
    assert second.weights.tolist() == [0, 0, 0.25, 0.75, 1, 1, 1, 1]


@pytest.mark.parametrize(("height", "width"), [(5, 7), (8, 8), (29, 50), (64, 9)])
def test_windows_that_agree_give_the_scene_back(height, width):
    scene = np.random.default_rng(0).random((height, width, 2), np.float32)
    scene[1:3, 2:5] = np.nan
    padded = np.pad(scene, ((0, 8), (0, 8), (0, 0)), constant_values=np.nan)
    origins = list(windows.origins(height, width, 8, 3))
    assert len(origins) == windows.num_windows(height, width, 8, 3)
    predictions = (padded[row : row + 8, column : column + 8] for row, column in origins)
    rows, strips = zip(*windows.blended_strips(height, width, 8, 3, 1, 2, predictions), strict=True)
    assert list(rows) == np.cumsum([0] + [len(strip) for strip in strips[:-1]]).tolist()
    np.testing.assert_allclose(np.concatenate(strips), scene, atol=1e-6)
    assert next(predictions, None) is None


def test_blend_runs_from_one_window_to_the_next():
    predictions = [np.full((8, 8, 1), value, np.float32) for value in (0.0, 1.0)]  # at columns 0 and 6
    ((_, strip),) = windows.blended_strips(8, 14, 8, 2, 1, 1, predictions)
    assert strip[0, :, 0].tolist() == [0, 0, 0, 0, 0, 0, 0.25, 0.75, 1, 1, 1, 1, 1, 1]


def test_a_window_without_data_leaves_no_data():
    ((_, strip),) = windows.blended_strips(8, 16, 8, 0, 1, 1, [np.ones((8, 8, 1), np.float32), None])
    np.testing.assert_array_equal(strip[:, :, 0], [[1] * 8 + [np.nan] * 8] * 8)


@pytest.mark.parametrize(("length", "window", "overlap"), [(0, 8, 2), (8, 0, 0), (8, 8, 8), (8, 8, -1)])
def test_impossible_sizes_are_refused(length, window, overlap):
    with pytest.raises(ValueError, match="overlap"):
        windows.spans(length, window, overlap)


def test_windows_cannot_begin_further_apart_than_they_may_step():
    with pytest.raises(ValueError, match="multiple_px=7"):
        windows.spans(100, 8, 2, 7)  # 6 at most
