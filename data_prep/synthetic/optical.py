"""Sentinel-2 level 1C over a ground: land, muddy water, light and shadow, clouds and haze."""

import dataclasses

import numpy as np
from scipy import ndimage

from data_prep.synthetic import noise, world
from data_prep.synthetic.days import Day
from data_prep.synthetic.ground import Ground

ALL_BANDS = tuple(range(len(world.PATH_REFLECTANCE)))


@dataclasses.dataclass(frozen=True)
class Sky:
    """Clouds over a chip: opacity and shadow, float32 [height, width] in [0, 1]."""

    opacity: np.ndarray
    shadow: np.ndarray


def make_sky(
    day: Day, rng: np.random.Generator, shape: tuple[int, int], cover: tuple[float, float], probability: float
) -> Sky:
    """Draws clouds; a chip has some with `probability`, over a share of it drawn from `cover`."""
    haze = np.float32(day.haze) * np.clip(1.0 + 0.5 * noise.fractal(rng, shape, 3.4, 600.0, 40.0), 0.0, 2.5)
    if rng.random() >= probability:
        return Sky(haze.astype(np.float32), np.zeros(shape, np.float32))
    field = noise.fractal(rng, shape, 2.7, rng.uniform(120.0, 500.0), 2.0)
    share = rng.uniform(*cover)
    thick = np.clip((field - noise.threshold_of(field, share)) / 0.55, 0.0, 1.0)
    base = rng.uniform(*world.CLOUD_BASE_M)
    reach = base / np.tan(np.radians(day.sun_elevation_degrees)) / world.CHIP_PIXEL_M
    step = [int(round(reach * part)) for part in day.shadow_step]
    shadow = ndimage.uniform_filter(np.roll(thick, step, (0, 1)), 3)
    return Sky(np.maximum(haze, thick).astype(np.float32), shadow.astype(np.float32))


def reflectance(
    ground: Ground, day: Day, sky: Sky, rng: np.random.Generator, bands: tuple[int, ...] = ALL_BANDS
) -> np.ndarray:
    """Returns top-of-atmosphere reflectance x 10000, int16 [bands, height, width], at least 1 everywhere.

    Args:
        ground: what lies below.
        day: season and sun.
        sky: clouds and their shadow.
        rng: sensor noise and texture.
        bands: numbers 0..12 of B1..B8, B8A, B9..B12.
    """
    shape = ground.cover.shape
    direct = _illumination(ground, day) * (1.0 - 0.92 * sky.shadow)
    grain = 1.0 + 0.05 * rng.standard_normal(shape, dtype=np.float32)
    brightness = np.clip((1.0 + 0.14 * ground.parcel) * grain, 0.4, 1.7)
    greenness = np.where(np.isin(ground.cover, world.VEGETATED), ground.vigour, 1.0).astype(np.float32)
    open_water = np.where(ground.depth_m > 0, 1.0 - ground.emergence, 0.0).astype(np.float32)
    top = 0.82 + 0.18 * ndimage.uniform_filter(sky.opacity, 9)  # cloud tops are brighter than edges
    out = np.empty((len(bands), *shape), np.int16)
    for index, band in enumerate(bands):
        land = _band_table(band)[ground.cover]
        land = (greenness * land + (1.0 - greenness) * np.float32(world.SENESCENT[band])) * brightness
        clear, turbid = world.CLEAR_WATER[band], world.TURBID_WATER[band]
        water = np.float32(clear) + np.float32(turbid - clear) * ground.turbidity
        surface = land + open_water * (water - land)
        light = world.DIFFUSE_SHARE[band] + (1.0 - world.DIFFUSE_SHARE[band]) * direct
        seen = world.PATH_REFLECTANCE[band] + world.TRANSMITTANCE[band] * surface * light
        seen += sky.opacity * (world.CLOUD_SPECTRUM[band] * top - seen)
        seen = _sample(seen, world.BAND_SAMPLE_PX[band])
        seen += np.float32(world.SENSOR_NOISE) * rng.standard_normal(shape, dtype=np.float32)
        out[index] = np.clip(seen * world.REFLECTANCE_SCALE, 1.0, 20000.0)
    return out


def _sample(band: np.ndarray, size: int) -> np.ndarray:
    """Averages and repeats `size` x `size` pixels, as a coarser band looks on the 10 m grid."""
    if size == 1:
        return band
    rows, columns = (np.minimum(np.arange(length) // size * size + size // 2, length - 1) for length in band.shape)
    return ndimage.uniform_filter(band, size)[rows][:, columns]


def _band_table(band: int) -> np.ndarray:
    return np.array([spectrum[band] for spectrum in world.SPECTRA], np.float32)


def _illumination(ground: Ground, day: Day) -> np.ndarray:
    """Direct light relative to flat ground: cosine of the slope towards the sun, none in cast shadow."""
    pixel = world.CHIP_PIXEL_M
    elevation = np.radians(day.sun_elevation_degrees)
    rise_rows, rise_columns = np.gradient(ground.elevation_m, pixel)
    towards = rise_rows * day.shadow_step[0] + rise_columns * day.shadow_step[1]  # ground that rises away from the sun
    light = 1.0 + towards / np.tan(elevation)
    light = light / np.sqrt(1.0 + rise_rows**2 + rise_columns**2)
    wet = ground.depth_m > 0
    from_east = ground.elevation_m[:, ::-1]  # shadows fall westwards in the morning
    drop = np.arange(from_east.shape[1], dtype=np.float32) * np.float32(pixel * np.tan(elevation))
    horizon = (np.maximum.accumulate(from_east + drop, axis=1) - drop)[:, ::-1]
    light = np.where(horizon > ground.elevation_m + 2.0, 0.0, np.clip(light, 0.0, 1.6))
    return np.where(wet, np.minimum(light, 1.0), light).astype(np.float32)
