"""Random crop with distortion, flips and colour jitter (section 3.1), all drawn from a stateless seed.

Crop, distortion and flips are one resampling: a `Window` says at which row and which column of the tile each output
pixel lies. Image, label and masks are read through the same window.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import gin
import tensorflow as tf

from flood_distill.errors import UserError

_RNG = "philox"  # named, so that the stream does not depend on the device


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges to draw from; see `augmentation`."""

    zoom_range: tuple[float, float]
    aspect_range: tuple[float, float]
    flip_horizontal: bool
    flip_vertical: bool
    s1_brightness: float
    s1_contrast: float
    s2_brightness: float
    s2_contrast: float


@gin.configurable
def augmentation(
    zoom_range: Sequence[float] = (0.8, 1.25),
    aspect_range: Sequence[float] = (0.8, 1.25),
    flip_horizontal: bool = True,
    flip_vertical: bool = True,
    s1_brightness: float = 0.05,
    s1_contrast: float = 0.1,
    s2_brightness: float = 0.05,
    s2_contrast: float = 0.2,
) -> Augmentation:
    """Returns the augmentation of section 3.1. The paper gives no ranges: every default is ours.

    Args:
        zoom_range: lowest and highest output pixels per tile pixel, drawn log-uniformly. The window never exceeds the
            padded tile, so a crop as large as the tile only zooms in.
        aspect_range: lowest and highest ratio of the window's height to its width, relative to the crop's.
        flip_horizontal: mirror left and right in half of the examples.
        flip_vertical: mirror top and bottom in half of the examples.
        s1_brightness: largest offset of a Sentinel-1 band, of the normalised range (0.05: 1 dB of VV, 1.5 dB of VH).
        s1_contrast: largest relative change of its distance from the middle of that range.
        s2_brightness: the same for Sentinel-2 (0.05: 0.015 of reflectance).
        s2_contrast: the same for Sentinel-2.

    Raises:
        UserError: for a range or strength that makes no sense.
    """
    ranges = {"zoom_range": tuple(zoom_range), "aspect_range": tuple(aspect_range)}
    strengths = {
        "s1_brightness": s1_brightness,
        "s1_contrast": s1_contrast,
        "s2_brightness": s2_brightness,
        "s2_contrast": s2_contrast,
    }
    for name, limits in ranges.items():
        if len(limits) != 2 or not 0 < limits[0] <= limits[1]:
            raise UserError(f"augmentation.{name}={limits}: give (low, high) with 0 < low <= high")
    for name, strength in strengths.items():
        if not 0 <= strength < 1:
            raise UserError(f"augmentation.{name}={strength}: give a number in [0, 1)")
    return Augmentation(**ranges, **strengths, flip_horizontal=flip_horizontal, flip_vertical=flip_vertical)


class Window(NamedTuple):
    """Where output pixels lie on a tile.

    Attributes:
        rows: float32 [height], row of the tile (0 = centre of its first row) that each output row reads.
        columns: float32 [width], likewise.
    """

    rows: tf.Tensor
    columns: tf.Tensor


def random_window(ranges: Augmentation, seed: tf.Tensor, canvas_px: Sequence[int], crop_px: int) -> Window:
    """Draws crop, zoom, aspect and flips.

    The window's corner lies on whole pixels: without zoom and aspect the crop copies pixels exactly.

    Args:
        ranges: what to draw from.
        seed: int64 [2]; equal seeds give equal windows.
        canvas_px: height and width of the padded tile; the window stays inside.
        crop_px: height and width of the output, at most the canvas.
    """
    draws = tf.random.stateless_uniform([6], seed, alg=_RNG)
    zoom = _log_uniform(draws[0], ranges.zoom_range)
    half_aspect = tf.sqrt(_log_uniform(draws[1], ranges.aspect_range))
    flip_rows = ranges.flip_vertical & (draws[2] < 0.5)
    flip_columns = ranges.flip_horizontal & (draws[3] < 0.5)
    return Window(
        _positions(crop_px, crop_px / zoom * half_aspect, canvas_px[0], draws[4], flip_rows),
        _positions(crop_px, crop_px / zoom / half_aspect, canvas_px[1], draws[5], flip_columns),
    )


def cut(tile: dict[str, tf.Tensor], window: Window) -> tuple[dict[str, tf.Tensor], Window]:
    """Keeps the part of a tile that a window reads, and moves the window along: less work for small crops.

    Args:
        tile: tensors [height, width, ...].
        window: where on the tile.
    """
    height, width = tf.unstack(tf.shape(next(iter(tile.values())))[:2])
    top, bottom = _reach(window.rows, height)
    left, right = _reach(window.columns, width)
    part = {name: tensor[top:bottom, left:right] for name, tensor in tile.items()}
    return part, Window(window.rows - tf.cast(top, tf.float32), window.columns - tf.cast(left, tf.float32))


def resample(values: tf.Tensor, valid: tf.Tensor, window: Window) -> tuple[tf.Tensor, tf.Tensor]:
    """Reads a tile through a window, bilinearly and from valid pixels only.

    Each output pixel is the mean of its valid neighbours by their bilinear weights; it is valid where the nearest
    pixel is valid, so the neighbours weigh at least 1/4. What lies outside the tile is invalid.

    Args:
        values: [height, width, channels], any number type; anything, NaN too, where not valid.
        valid: bool [height, width].
        window: int or fractional positions.

    Returns:
        float32 [channels, rows, columns], 0 where not valid, and bool [rows, columns]. Channels come first because
        the arithmetic of single bands is several times faster so.
    """
    planes = tf.where(valid, tf.cast(tf.transpose(values, [2, 0, 1]), tf.float32), 0.0)
    planes = tf.concat([planes, tf.cast(valid, tf.float32)[tf.newaxis]], axis=0)
    for positions in window:
        planes = tf.transpose(_interpolate(planes, positions), [0, 2, 1])
    keep = nearest(valid, window, False)
    return tf.where(keep, planes[:-1] / planes[-1], 0.0), keep


def nearest(array: tf.Tensor, window: Window, outside: int | bool) -> tf.Tensor:
    """Reads [height, width] at the nearest pixels; `outside` where the nearest pixel is not on the tile."""
    on_tile = []
    for positions in window:
        size = tf.shape(array)[0]
        index = tf.cast(tf.floor(positions + 0.5), tf.int32)
        array = tf.transpose(tf.gather(array, tf.clip_by_value(index, 0, size - 1)))
        on_tile.append((index >= 0) & (index < size))
    return tf.where(on_tile[0][:, tf.newaxis] & on_tile[1], array, tf.cast(outside, array.dtype))


def jitter(planes: tf.Tensor, valid: tf.Tensor, brightness: float, contrast: float, seed: tf.Tensor) -> tf.Tensor:
    """Changes brightness and contrast of each band on its own.

    x becomes (x - 0.5) * gain + 0.5 + offset, clipped to [0, 1]; gain is uniform in 1 +- contrast, offset in
    +- brightness.

    Args:
        planes: float32 [channels, height, width] in [0, 1].
        valid: bool [height, width]; other pixels are left as they are.
        brightness: largest offset.
        contrast: largest relative change.
        seed: int64 [2].
    """
    if not brightness and not contrast:
        return planes
    draws = tf.random.stateless_uniform([2, planes.shape[0], 1, 1], seed, -1.0, 1.0, alg=_RNG)
    changed = (planes - 0.5) * (1 + contrast * draws[0]) + (0.5 + brightness * draws[1])
    return tf.where(valid, tf.clip_by_value(changed, 0.0, 1.0), planes)


def warp_logits(logits: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Reads a batch of maps through its windows, bilinearly: a teacher's output on clean tiles (section 3.2).

    Args:
        logits: float32 [batch, height, width, classes].
        rows: float32 [batch, crop], as `Window.rows`; positions off the map read its edge.
        columns: float32 [batch, crop].

    Returns:
        float32 [batch, crop, crop, classes].
    """
    for axis, positions in ((1, rows), (2, columns)):
        last = tf.shape(logits)[axis] - 1
        position = tf.clip_by_value(positions, 0.0, tf.cast(last, tf.float32))
        low = tf.cast(tf.floor(position), tf.int32)
        share = (position - tf.floor(position))[:, :, tf.newaxis, tf.newaxis]
        share = share if axis == 1 else tf.transpose(share, [0, 2, 1, 3])
        below = tf.gather(logits, low, axis=axis, batch_dims=1)
        above = tf.gather(logits, tf.minimum(low + 1, last), axis=axis, batch_dims=1)
        logits = below * (1 - share) + above * share
    return logits


def _log_uniform(draw: tf.Tensor, limits: tuple[float, float]) -> tf.Tensor:
    low, high = math.log(limits[0]), math.log(limits[1])
    return tf.exp(low + (high - low) * draw)


def _positions(crop_px: int, length: tf.Tensor, canvas_px: int, draw: tf.Tensor, flip: tf.Tensor) -> tf.Tensor:
    canvas = tf.cast(canvas_px, tf.float32)
    length = tf.minimum(length, canvas)
    first = tf.floor(draw * (tf.floor(canvas - length) + 1))
    positions = first + (tf.range(crop_px, dtype=tf.float32) + 0.5) * (length / crop_px) - 0.5
    return tf.where(flip, positions[::-1], positions)


def _reach(positions: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """First and one past the last index in [0, size) that interpolation at `positions` reads."""
    first = tf.cast(tf.floor(tf.reduce_min(positions)), tf.int32)
    last = tf.cast(tf.floor(tf.reduce_max(positions)), tf.int32) + 1
    first = tf.clip_by_value(first, 0, size - 1)
    return first, tf.clip_by_value(last + 1, first + 1, size)


def _interpolate(planes: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Linear interpolation along the rows of [channels, rows, columns]; what lies outside has weight 0."""
    size = tf.shape(planes)[1]
    low = tf.floor(positions)
    total = 0.0
    for index, weight in ((low, 1 - (positions - low)), (low + 1, positions - low)):
        index = tf.cast(index, tf.int32)
        weight = tf.where((index >= 0) & (index < size), weight, 0.0)
        total += tf.gather(planes, tf.clip_by_value(index, 0, size - 1), axis=1) * weight[:, tf.newaxis]
    return total
