"""Overlapping windows over a scene of any size, and the weights that blend them without a seam.

Pure numpy: what is predicted in a window, and from what, is the caller's affair.
"""

import dataclasses
from collections.abc import Iterable, Iterator

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

    @property
    def counted(self) -> slice:
        """The pixels of the window whose weight is not 0."""
        (pixels,) = np.nonzero(self.weights)
        return slice(int(pixels[0]), int(pixels[-1]) + 1)


def spans(length_px: int, window_px: int, overlap_px: int, multiple_px: int = 1) -> tuple[Span, ...]:
    """Returns evenly spread windows that cover an axis; neighbours share at least `overlap_px` pixels.

    Neighbours are blended linearly over the middle of what they share, so that the rim of a window, where the network
    sees least around a pixel, counts for nothing except at the rim of the scene.

    Args:
        length_px: pixels to cover, at least 1.
        window_px: pixels of a window, at least 1. An axis shorter than that gets one window that reaches past its end.
        overlap_px: pixels in [0, window_px).
        multiple_px: windows begin at multiples of this many pixels, in [1, window_px - overlap_px]; the last one may
            reach past the end for it.

    Raises:
        ValueError: for sizes outside these ranges.
    """
    if (
        length_px < 1
        or window_px < 1
        or not 0 <= overlap_px < window_px
        or not 1 <= multiple_px <= window_px - overlap_px
    ):
        raise ValueError(
            f"length_px={length_px}, window_px={window_px}, overlap_px={overlap_px}, multiple_px={multiple_px}: sizes "
            f"must be positive, the overlap smaller than the window and multiple_px at most the difference"
        )
    starts = _starts(length_px, window_px, overlap_px, multiple_px)
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


def _starts(length_px: int, window_px: int, overlap_px: int, multiple_px: int) -> list[int]:
    """Returns the first pixels of the fewest evenly spread windows."""
    room = -(-max(length_px - window_px, 0) // multiple_px)  # in multiples, as is the longest step
    num_steps = -(-room // ((window_px - overlap_px) // multiple_px))
    return [multiple_px * round(step * room / num_steps) for step in range(num_steps + 1)] if num_steps else [0]


def _rise(pixels: np.ndarray, start: int, next_start: int, window_px: int, overlap_px: int) -> np.ndarray:
    """Returns, float32 in [0, 1], how far the blend has moved from the window at `start` to that at `next_start`.

    The ramp lies in the middle of the shared pixels and is no longer than the step between the windows: so ramps never
    meet, a pixel never mixes more than two windows, and w + (1 - w) is 1 without any rounding left to divide away.
    """
    shared_px = start + window_px - next_start
    ramp_px = min(max(overlap_px, 1), shared_px + 1, next_start - start)
    middle = next_start + (shared_px - 1) / 2
    return np.clip((pixels - middle) / ramp_px + 0.5, 0, 1).astype(np.float32)


def num_windows(height_px: int, width_px: int, window_px: int, overlap_px: int, multiple_px: int = 1) -> int:
    """Returns how many windows cover a scene."""
    sizes = (window_px, overlap_px, multiple_px)
    return len(_starts(height_px, *sizes)) * len(_starts(width_px, *sizes))


def origins(
    height_px: int, width_px: int, window_px: int, overlap_px: int, multiple_px: int = 1
) -> Iterator[tuple[int, int]]:
    """Yields the first row and column of each window, row by row from the top."""
    sizes = (window_px, overlap_px, multiple_px)
    columns = _starts(width_px, *sizes)
    for row in _starts(height_px, *sizes):
        for column in columns:
            yield row, column


def blended_strips(
    height_px: int,
    width_px: int,
    window_px: int,
    overlap_px: int,
    multiple_px: int,
    planes: int,
    predictions: Iterable[np.ndarray | None],
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields a scene's blended prediction from top to bottom, strip by strip.

    No more than one row of windows is held, whatever the scene's height.

    Args:
        height_px, width_px: size of the scene.
        window_px, overlap_px, multiple_px: as in `spans`, for both axes.
        planes: values of a pixel.
        predictions: float32 [window_px, window_px, planes] of each window in the order of `origins`. NaN marks no data
            and must mark the same pixels in every window; None stands for a window without any data.

    Yields:
        (first row, float32 [rows, width_px, planes]): consecutive strips that cover every row once.
    """
    row_spans = spans(height_px, window_px, overlap_px, multiple_px)
    column_spans = spans(width_px, window_px, overlap_px, multiple_px)
    ends = [span.start for span in row_spans[1:]] + [height_px]
    remaining = iter(predictions)
    pending = np.zeros((window_px, width_px, planes), np.float32)
    for row_span, end in zip(row_spans, ends, strict=True):
        for column_span in column_spans:
            _add(pending, next(remaining), row_span, column_span)
        num_rows = min(end, height_px) - row_span.start
        yield row_span.start, pending[:num_rows].copy()
        # Rows from the next window's start on are not finished: they move to the top and wait for it.
        pending[: window_px - num_rows] = pending[num_rows:]
        pending[window_px - num_rows :] = 0


def _add(pending: np.ndarray, prediction: np.ndarray | None, row_span: Span, column_span: Span) -> None:
    """Adds one window to its row, float32 [window_px, width_px, planes]."""
    width_px = pending.shape[1] - column_span.start
    # Where a weight is 0 nothing is added: 0 x NaN would be NaN.
    rows, columns = row_span.counted, slice(column_span.counted.start, min(column_span.counted.stop, width_px))
    weights = np.outer(row_span.weights[rows], column_span.weights[columns])[..., np.newaxis]
    target = pending[rows, column_span.start :][:, columns]
    target += weights * (np.float32(np.nan) if prediction is None else prediction[rows, columns])
