"""The augmentation of flood_distill/augmentation.py in JAX, so that it runs on the GPU beside the network.

Same windows, same resampling from valid pixels, same jitter, drawn from the same ranges; other random numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flood_distill import contract


class Window(NamedTuple):
    """Positions on a tile that output pixels read: float32 [crop] rows and columns."""

    rows: jax.Array
    columns: jax.Array


def random_window(ranges: dict, key: jax.Array, canvas_px: int, crop_px: int) -> Window:
    """Draws crop, zoom, aspect and flips; see `flood_distill.augmentation.random_window`.

    Args:
        ranges: keyword arguments of `flood_distill.augmentation.augmentation`.
        key: of the random numbers.
        canvas_px: side of the padded tile.
        crop_px: side of the output.
    """
    draws = jax.random.uniform(key, [6])
    zoom = _log_uniform(draws[0], ranges["zoom_range"])
    half_aspect = jnp.sqrt(_log_uniform(draws[1], ranges["aspect_range"]))
    return Window(
        _positions(crop_px, crop_px / zoom * half_aspect, canvas_px, draws[4], ranges["flip_vertical"], draws[2]),
        _positions(crop_px, crop_px / zoom / half_aspect, canvas_px, draws[5], ranges["flip_horizontal"], draws[3]),
    )


def resample(values: jax.Array, valid: jax.Array, window: Window) -> tuple[jax.Array, jax.Array]:
    """Reads a tile through a window, bilinearly and from valid pixels only.

    Args:
        values: [height, width, bands].
        valid: bool [height, width].
        window: where to read; what lies off the tile is not valid.

    Returns:
        float32 [crop, crop, bands], 0 where not valid, and bool [crop, crop], valid where the nearest pixel is.
    """
    rows, columns = (_linear(*pair) for pair in zip(window, valid.shape, strict=True))
    weights = jnp.einsum("rh,hw,cw->rc", rows, valid.astype(jnp.float32), columns, precision="highest")
    filled = jnp.where(valid[..., None], values.astype(jnp.float32), 0.0)
    sums = jnp.einsum("rh,hwk,cw->rck", rows, filled, columns, precision="highest")
    keep = nearest(valid, window, False)
    return jnp.where(keep[..., None], sums / jnp.maximum(weights, 1e-6)[..., None], 0.0), keep


def nearest(array: jax.Array, window: Window, outside: int | bool) -> jax.Array:
    """Reads [height, width] at the nearest pixels; `outside` where the nearest pixel is not on the tile."""
    on_tile = []
    for axis, positions in enumerate(window):
        index = jnp.floor(positions + 0.5).astype(jnp.int32)
        on_tile.append((index >= 0) & (index < array.shape[axis]))
        array = jnp.take(array, index, axis=axis, mode="clip")
    return jnp.where(on_tile[0][:, None] & on_tile[1], array, outside)


def jitter(image: jax.Array, valid: jax.Array, brightness: float, contrast: float, key: jax.Array) -> jax.Array:
    """Changes brightness and contrast of each band; see `flood_distill.augmentation.jitter`.

    Args:
        image: float32 [height, width, bands] in [0, 1].
        valid: bool [height, width]; other pixels are left as they are.
        brightness: largest offset.
        contrast: largest relative change.
        key: of the random numbers.
    """
    gain, offset = jax.random.uniform(key, [2, image.shape[-1]], minval=-1.0, maxval=1.0)
    changed = (image - 0.5) * (1 + contrast * gain) + (0.5 + brightness * offset)
    return jnp.where(valid[..., None], jnp.clip(changed, 0.0, 1.0), image)


def normalized(values: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns OMBRIA's bands, 0 to 255, in [0, 1], `contract.FILL_VALUE` where not valid."""
    (low, high) = contract.OMBRIA.s1[0].low, contract.OMBRIA.s1[0].high  # of all its bands
    return jnp.where(valid[..., None], (values - low) / (high - low), contract.FILL_VALUE)


def _linear(positions: jax.Array, size: int) -> jax.Array:
    """Weights of linear interpolation, float32 [positions, size]."""
    return jnp.maximum(0.0, 1.0 - jnp.abs(positions[:, None] - jnp.arange(size)))


def _log_uniform(draw: jax.Array, limits: tuple[float, float]) -> jax.Array:
    low, high = jnp.log(jnp.asarray(limits))
    return jnp.exp(low + (high - low) * draw)


def _positions(crop: int, length: jax.Array, canvas: int, draw: jax.Array, may_flip: bool, flip: jax.Array):
    length = jnp.minimum(length, canvas)
    first = jnp.floor(draw * (jnp.floor(canvas - length) + 1))
    positions = first + (jnp.arange(crop) + 0.5) * (length / crop) - 0.5
    return jnp.where(may_flip & (flip < 0.5), positions[::-1], positions)
