"""Resampling to a grid: imagery bilinear from valid pixels only, labels nearest.

Why not GDAL's warper: it widens its bilinear kernel by a scale taken from each chunk of work and approximates the
projection along each chunk, so a pixel's value depends on the window that was asked for. Here a pixel depends on its
own place alone: the projection is exact at lattice points that are fixed on the ground and interpolated in between, and
the kernel always is the four source pixels around. A tile is therefore, bit for bit, a window of its scene.

A target pixel is valid where the source pixel that holds its centre is; its value is the bilinear mean of those of the
four neighbours that are valid. So no-data neither spreads nor shrinks, and no value comes from outside the source.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from flood_distill import contract
from flood_distill.geo import grid as grid_lib
from flood_distill.geo.grid import Grid

# Target pixels between exactly projected points: 512 m at 16 m. The second derivative of a map projection is about
# tan(latitude) / earth radius, so linear interpolation errs by 512^2 / 8 / 6.4e6 = 0.005 m x tan(latitude).
_KNOT_SPACING_PX = 32
_SHARE_STEP_PX = 4
_POINTS_AT_ONCE = 1 << 13  # their arrays stay in the cache, and too small for fresh pages from the system


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Where the pixels of a target grid lie in a source; made by `sample`, shared by all layers of a source.

    Attributes:
        source: grid of the whole source raster.
        target: grid of the pixels that are wanted.
        rows: float64, fractional source row of each target pixel's centre (0 is the outer edge): [height, width], or
            [height, 1] between grids that are north up in one crs.
        cols: float64 [height, width] or [1, width], the same for columns.
        inside: bool [height, width], whether the centre lies in the source.
    """

    source: Grid
    target: Grid
    rows: np.ndarray
    cols: np.ndarray
    inside: np.ndarray

    @functools.cached_property
    def window(self) -> tuple[int, int, int, int]:
        """Row, column, height and width of the part of the source that resampling reads; 0, 0, 0, 0 if none."""
        if not self.inside.any():
            return 0, 0, 0, 0
        rows, cols = self._points
        row, last_row = _extent(rows, self.source.height)
        col, last_col = _extent(cols, self.source.width)
        return row, col, last_row - row + 1, last_col - col + 1

    @functools.cached_property
    def outside_share(self) -> float:
        """Share of target pixels outside the source."""
        return 1.0 - float(self.inside.mean())

    @functools.cached_property
    def holding(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column (int64 [points]) of the source pixels that hold the centres, of `inside` pixels only."""
        rows, cols = self._points
        return rows.astype(np.int64), cols.astype(np.int64)

    @functools.cached_property
    def _points(self) -> tuple[np.ndarray, np.ndarray]:
        """`rows` and `cols` (float64 [points]) of `inside` pixels only."""
        return _of_pixels(self.rows, self.inside), _of_pixels(self.cols, self.inside)


def sample(source: Grid, target: Grid) -> Sampling:
    """Returns where the centres of the target's pixels lie in the source.

    A pixel's position is the same to the last bit whatever window of its lattice `target` is; if `target` is turned
    against its crs, whatever window that begins a multiple of 32 pixels from it.
    """
    rows, cols = _source_positions(source, target)
    with np.errstate(invalid="ignore"):
        inside = (rows >= 0) & (rows < source.height) & (cols >= 0) & (cols < source.width)
    return Sampling(source, target, rows, cols, inside)


def outside_share(source: Grid, target: Grid) -> float:
    """Returns the share of the target's pixels outside the source, estimated from every fourth of each direction.

    With source and target exchanged: the share of the source that does not reach the target.
    """
    a, b, c, d, e, f = target.transform
    step = _SHARE_STEP_PX
    coarse = Grid(
        target.crs, (a * step, b * step, c, d * step, e * step, f), target.width // step, target.height // step
    )
    return sample(source, coarse).outside_share


def s1_valid(pixels: np.ndarray, nodata: float | None = None) -> np.ndarray:
    """Returns bool [height, width]: where all bands of float [bands, height, width] are finite and not `nodata`."""
    valid = np.isfinite(pixels).all(axis=0)
    if nodata is not None and np.isfinite(nodata):
        valid &= (pixels != np.asarray(nodata, pixels.dtype)).all(axis=0)
    return valid


def s2_valid(pixels: np.ndarray) -> np.ndarray:
    """Returns bool [height, width]: where any model band of integers [bands, height, width] is not 0."""
    return (pixels != contract.S2_NODATA).any(axis=0)


def warp_imagery(
    pixels: np.ndarray, valid: np.ndarray, sampling: Sampling, origin: tuple[int, int] = (0, 0)
) -> np.ndarray:
    """Resamples imagery bilinearly, in the unit it is stored in, from valid pixels only.

    Args:
        pixels: [bands, height, width] of any real dtype: the source, or the part of it that `sampling.window` names.
        valid: bool [height, width] of the same part; False pixels are never read.
        sampling: made by `sample`.
        origin: row and column of the source at which `pixels` begins.

    Returns:
        float32 [target height, target width, bands], NaN where the source pixel that holds the centre is not valid
        or where there is none.
    """
    if not valid.all():
        pixels = np.where(valid, pixels, np.float32(np.nan))
    pixels = pixels.astype(np.float32, copy=False)
    height, width = sampling.target.shape
    result = np.full((height, width, len(pixels)), np.nan, np.float32)
    step = max(_POINTS_AT_ONCE // width, 1)
    for part in (slice(start, start + step) for start in range(0, height, step)):
        rows, cols, inside = (
            _rows_of(positions, part) for positions in (sampling.rows, sampling.cols, sampling.inside)
        )
        if inside.all():
            result[part] = _bilinear(pixels, rows, cols, origin)
        elif inside.any():
            result[part][inside] = _bilinear(pixels, _of_pixels(rows, inside), _of_pixels(cols, inside), origin)
    return result


def warp_labels(labels: np.ndarray, sampling: Sampling, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Takes the label of the source pixel that holds each target pixel's centre.

    Args:
        labels: integers [height, width]: the source, or the part of it that `sampling.window` names.
        sampling: made by `sample`.
        origin: row and column of the source at which `labels` begins.

    Returns:
        int8 [target height, target width], `contract.IGNORE_LABEL` outside the source.
    """
    result = np.full(sampling.target.shape, contract.IGNORE_LABEL, contract.LABEL_DTYPE)
    rows, cols = sampling.holding
    result[sampling.inside] = labels[rows - origin[0], cols - origin[1]]
    return result


def warp_s1(
    pixels: np.ndarray, sampling: Sampling, origin: tuple[int, int] = (0, 0), nodata: float | None = None
) -> np.ndarray:
    """Resamples Sentinel-1 in dB: a pixel is valid where all its bands are; see `warp_imagery`.

    Returns:
        float32 [target height, target width, bands], dB, NaN = no data.
    """
    return warp_imagery(pixels, s1_valid(pixels, nodata), sampling, origin)


def warp_s2(pixels: np.ndarray, sampling: Sampling, origin: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Resamples Sentinel-2 model bands; a pixel is valid where any of them is not 0; see `warp_imagery`.

    Args:
        pixels: integers [bands, height, width], reflectance x 10000.
        sampling: made by `sample`.
        origin: row and column of the source at which `pixels` begins.

    Returns:
        int16 [target height, target width, bands], rounded; 0 in all bands = no data. A valid pixel that would round
        to 0 in all bands gets 1 in the last, so that it stays valid.
    """
    values = warp_imagery(pixels, s2_valid(pixels), sampling, origin)
    valid = np.isfinite(values[..., 0])
    limits = np.iinfo(contract.S2_DTYPE)
    rounded = np.clip(np.rint(np.where(valid[..., None], values, contract.S2_NODATA)), limits.min, limits.max)
    result = rounded.astype(contract.S2_DTYPE)
    result[valid & (result == contract.S2_NODATA).all(axis=-1), -1] = 1
    return result


def _bilinear(image: np.ndarray, rows: np.ndarray, cols: np.ndarray, origin: tuple[int, int]) -> np.ndarray:
    """Returns float32 [..., bands] of an image [bands, height, width] that is NaN in all bands or in none.

    Rows and columns have one shape, or are broadcast to one.
    """
    num_bands, height, width = image.shape
    flat = image.reshape(num_bands, -1)
    row, upper, down = _around(rows, origin[0])
    col, left, right = _around(cols, origin[1])
    rows_around = [_clipped(upper + step, height) * width for step in (0, 1)]
    cols_around = [_clipped(left + step, width) for step in (0, 1)]
    corners = [of_row + of_col for of_row in rows_around for of_col in cols_around]
    values = np.empty((*corners[0].shape, num_bands), np.float32)
    for band, plane in enumerate(flat):
        values[..., band] = _interpolate([plane.take(corner) for corner in corners], down, right)
    unknown = np.isnan(values[..., 0])  # a corner is NaN, whatever its weight
    if unknown.any():
        holds = np.isfinite(flat[0].take(row * width + col))
        partial = holds & unknown
        taken = flat[:, [corner[partial] for corner in corners]]
        values[partial] = _interpolate_partial(taken, _of_pixels(down, partial), _of_pixels(right, partial))
        values[~holds] = np.nan
    return values


def _rows_of(positions: np.ndarray, part: slice) -> np.ndarray:
    return positions if len(positions) == 1 else positions[part]


def _of_pixels(positions: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns [points]: the positions (broadcast to the shape of `chosen`) of the chosen pixels."""
    return np.broadcast_to(positions, chosen.shape)[chosen]


def _around(positions: np.ndarray, origin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the pixel that holds each position, of the last whose centre is not past it, fraction to the next."""
    holding = positions.astype(np.int64)
    before = holding - (positions - holding < 0.5)
    return holding - origin, before - origin, (positions - 0.5 - before).astype(np.float32)


def _clipped(index: np.ndarray, size: int) -> np.ndarray:
    """`np.clip` to [0, size), which costs as much as the interpolation, where it changes something."""
    return index if index.min() >= 0 and index.max() < size else np.clip(index, 0, size - 1)


def _interpolate(corners: Sequence[np.ndarray], down: np.ndarray, right: np.ndarray) -> np.ndarray:
    upper_left, upper_right, lower_left, lower_right = corners
    upper = upper_left + (upper_right - upper_left) * right
    lower = lower_left + (lower_right - lower_left) * right
    return upper + (lower - upper) * down


def _interpolate_partial(corners: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns [points, bands], the bilinear mean of those of the corners [bands, 4, points] that are not NaN.

    The pixel that holds the point is one, so its weight is at least 1/4.
    """
    weights = np.stack([(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right])
    weights[np.isnan(corners[0])] = 0
    return ((weights * np.nan_to_num(corners)).sum(axis=1) / weights.sum(axis=0)).T


def _source_positions(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Returns source rows and columns of the target's pixel centres, shaped as `Sampling` says."""
    a, b, c, d, e, f = target.transform
    turned = bool(b or d)
    if not turned and _north_up_in(source, target.crs):
        xs, ys = (
            (_lattice_index(origin, size) + np.arange(count) + 0.5) * size
            for origin, size, count in ((c, a, target.width), (f, e, target.height))
        )
        return source.pixels(xs[np.newaxis], ys[:, np.newaxis])
    # Positions are counted from the crs's own origin, not from the window's, so that windows share their knots. A
    # turned target has no such lattice: its knots are counted from its own first pixel.
    first_col, first_row = (0.0, 0.0) if turned else (_lattice_index(c, a), _lattice_index(f, e))
    col_knots, col_index, col_fraction = _knots(first_col, target.width)
    row_knots, row_index, row_fraction = _knots(first_row, target.height)
    knot_rows, knot_cols = np.meshgrid(row_knots, col_knots, indexing="ij")
    xs, ys = target.points(knot_rows, knot_cols) if turned else (knot_cols * a, knot_rows * e)
    source_rows, source_cols = grid_lib.pixels_of(source, target.crs, xs, ys)
    args = (row_index, row_fraction, col_index, col_fraction)
    return _between_knots(source_rows, *args), _between_knots(source_cols, *args)


def _north_up_in(grid: Grid, crs: str) -> bool:
    """Whether a grid's rows and columns run along the axes of a crs."""
    _, b, _, d, _, _ = grid.transform
    return type(grid) is Grid and not (b or d) and grid_lib.same_crs(grid.crs, crs)


def _lattice_index(origin: float, step: float) -> float:
    """Origin in pixels from the crs's zero; a whole number on the common lattice."""
    index = origin / step
    return round(index) if abs(index - round(index)) < 1e-6 else index


def _knots(first: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns knot positions [knots], and per pixel centre the index of the knot before it and the fraction past it."""
    spacing = _KNOT_SPACING_PX
    centres = first + np.arange(count) + 0.5
    before = np.floor(centres / spacing)
    knots = np.arange(before[0], before[-1] + 2) * spacing
    return knots, (before - before[0]).astype(np.int64), centres / spacing - before


def _between_knots(values, row_index, row_fraction, col_index, col_fraction) -> np.ndarray:
    """Bilinear interpolation of [row knots, col knots] at pixel centres; float64 [height, width]."""
    row_fraction = row_fraction[:, None]
    by_row = values[row_index] * (1 - row_fraction) + values[row_index + 1] * row_fraction
    return by_row[:, col_index] * (1 - col_fraction) + by_row[:, col_index + 1] * col_fraction


def _extent(positions: np.ndarray, size: int) -> tuple[int, int]:
    """First and last source index that bilinear resampling at these positions touches."""
    first, last = int(np.floor(positions.min() - 0.5)), int(np.floor(positions.max() - 0.5)) + 1
    return max(first, 0), min(last, size - 1)
