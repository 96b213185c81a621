"""Overlapping windows over a scene of any size, and the weights that blend them without a seam.

Pure numpy: what is predicted in a window, and from what, is the caller's affair.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Span:
    """Where one window lies along one axis.

    Attributes:
        start: first pixel of the window; a window may reach past the end of an axis that is shorter than it.
        weights: float32 [window_px] in [0, 1]. Over all spans of an axis the weights of a pixel sum to exactly 1.
    """

    start: int
    weights: np.ndarray


# Predicts windows: receives their (row, column) origins, returns float32 [len(origins), window_px, window_px].
PredictFn = Callable[[Sequence[tuple[int, int]]], np.ndarray]


def spans(length_px: int, window_px: int, overlap_px: int) -> tuple[Span, ...]:
    """Returns evenly spread windows that cover an axis; neighbours share at least `overlap_px` pixels.

    Neighbours are blended linearly over the middle of what they share, so that the rim of a window, where the network
    sees least around a pixel, counts for nothing except at the rim of the scene.

    Args:
        length_px: pixels to cover, at least 1.
        window_px: pixels of a window, at least 1. An axis shorter than that gets one window that reaches past its end.
        overlap_px: pixels in [0, window_px).

    Raises:
        ValueError: for sizes outside these ranges.
    """
    if length_px < 1 or window_px < 1 or not 0 <= overlap_px < window_px:
        raise ValueError(
            f"length_px={length_px}, window_px={window_px}, overlap_px={overlap_px}: sizes must be positive and the "
            f"overlap smaller than the window"
        )
    starts = _starts(length_px, window_px, overlap_px)
    pixels = np.arange(window_px)
    result = []
    for index, start in enumerate(starts):
        weights = np.ones(window_px, np.float32)
        if index > 0:
            weights *= _rise(pixels + start, starts[index - 1], start, window_px, overlap_px)
        if index + 1 < len(starts):
            weights *= np.float32(1) - _rise(pixels + start, start, starts[index + 1], window_px, overlap_px)
        result.append(Span(start, weights))
    return tuple(result)


def _starts(length_px: int, window_px: int, overlap_px: int) -> list[int]:
    """Returns the first pixels of the fewest evenly spread windows."""
    room = max(length_px - window_px, 0)
    num_steps = -(-room // (window_px - overlap_px))
    return [round(step * room / num_steps) for step in range(num_steps + 1)] if num_steps else [0]


def _rise(pixels: np.ndarray, start: int, next_start: int, window_px: int, overlap_px: int) -> np.ndarray:
    """Returns, float32 in [0, 1], how far the blend has moved from the window at `start` to that at `next_start`.

    The ramp lies in the middle of the shared pixels and is no longer than the step between the windows: so ramps never
    meet, a pixel never mixes more than two windows, and w + (1 - w) is 1 without any rounding left to divide away.
    """
    shared_px = start + window_px - next_start
    ramp_px = min(max(overlap_px, 1), shared_px + 1, next_start - start)
    middle = next_start + (shared_px - 1) / 2
    return np.clip((pixels - middle) / ramp_px + 0.5, 0, 1).astype(np.float32)


def num_windows(height_px: int, width_px: int, window_px: int, overlap_px: int) -> int:
    """Returns how many windows cover a scene."""
    return len(_starts(height_px, window_px, overlap_px)) * len(_starts(width_px, window_px, overlap_px))


def blended_strips(
    height_px: int, width_px: int, window_px: int, overlap_px: int, batch_size: int, predict_fn: PredictFn
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields a scene's blended prediction from top to bottom, strip by strip.

    No more than one row of windows is held: window_px x width_px floats and one batch, whatever the scene's height.

    Args:
        height_px, width_px: size of the scene.
        window_px, overlap_px: as in `spans`, for both axes.
        batch_size: windows of a row given to `predict_fn` at once.
        predict_fn: the prediction; NaN marks no data and must mark the same pixels in every window.

    Yields:
        (first row, float32 [rows, width_px]): consecutive strips that cover every row once.
    """
    row_spans = spans(height_px, window_px, overlap_px)
    column_spans = spans(width_px, window_px, overlap_px)
    ends = [span.start for span in row_spans[1:]] + [height_px]
    pending = np.zeros((window_px, width_px), np.float32)
    for row_span, end in zip(row_spans, ends, strict=True):
        row = _window_row(row_span.start, column_spans, width_px, window_px, batch_size, predict_fn)
        pending += _weighted(row, row_span.weights[:, np.newaxis])
        num_rows = min(end, height_px) - row_span.start
        yield row_span.start, pending[:num_rows].copy()
        # Rows from the next window's start on are not finished: they move to the top and wait for it.
        pending = np.concatenate([pending[num_rows:], np.zeros((num_rows, width_px), np.float32)])


def _window_row(
    row: int,
    column_spans: Sequence[Span],
    width_px: int,
    window_px: int,
    batch_size: int,
    predict_fn: PredictFn,
) -> np.ndarray:
    """Returns one row of windows blended along the columns, float32 [window_px, width_px]."""
    blended = np.zeros((window_px, width_px), np.float32)
    for first in range(0, len(column_spans), batch_size):
        batch = column_spans[first : first + batch_size]
        predictions = predict_fn([(row, span.start) for span in batch])
        for span, prediction in zip(batch, predictions, strict=True):
            inside_px = min(window_px, width_px - span.start)
            target = blended[:, span.start : span.start + inside_px]
            target += _weighted(prediction[:, :inside_px], span.weights[:inside_px])
    return blended


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns values x weights; a weight of 0 gives 0 even where the value is NaN."""
    return np.where(weights > 0, values * weights, np.float32(0))
