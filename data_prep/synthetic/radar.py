"""Sentinel-1 IW GRD over a ground: mean backscatter, terrain, wind, speckle, noise floor, swath edge."""

import numpy as np
from scipy import ndimage

from data_prep.synthetic import noise, world
from data_prep.synthetic.days import Day
from data_prep.synthetic.ground import Ground


def backscatter(ground: Ground, day: Day, rng: np.random.Generator) -> np.ndarray:
    """Returns sigma nought in dB, float32 [2, height, width] (VV, VH), without no-data.

    Multiplicative speckle falls on signal and thermal noise together, then the mean noise is subtracted, so that dark
    surfaces carry more than their share of it (as in Sentinel-1 GRD after thermal noise removal).
    """
    offset = _terrain_db(ground, day)
    clean = _mean_db(ground, day, rng)
    bands = [_measure(band + offset, day, rng) for band in clean]
    return np.stack(bands).astype(np.float32)


def water_vv_db(wind_ms: np.ndarray, incidence_degrees: float) -> np.ndarray:
    """Open water's VV in dB for wind at 10 m (fit to CMOD5.N, see `world.WATER_VV_DB`)."""
    level, slope, angle = world.WATER_VV_DB
    return level + slope * np.log10(wind_ms) + angle * (incidence_degrees - world.REFERENCE_INCIDENCE_DEGREES)


def water_vh_db(wind_ms: np.ndarray) -> np.ndarray:
    """Open water's VH in dB for wind at 10 m (Vachon & Wolfe 2011)."""
    return world.WATER_VH_DB[0] + world.WATER_VH_DB[1] * wind_ms


def speckle(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Returns float32 [height, width] gamma speckle of mean 1 and variance 1 / looks, correlated over the resolution.

    A correlated Gaussian becomes gamma through the cube of Wilson & Hilferty (1931), good to 1 % at 4.4 looks.
    """
    sigma = world.RESOLUTION_SIGMA_PX
    white = rng.standard_normal(shape, dtype=np.float32)
    gaussian = ndimage.gaussian_filter(white, sigma, mode="wrap", truncate=4.0)
    gaussian /= gaussian.std()
    spread = np.float32(1.0 / (9.0 * world.LOOKS))
    return np.maximum(1.0 - spread + gaussian * np.sqrt(spread), 0.0) ** 3


def swath_edge(rng: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """Returns bool [height, width], True outside the swath: beyond a slanted straight edge on one side."""
    rows, columns = np.indices(shape, dtype=np.float32)
    tilt = np.tan(np.radians(rng.uniform(8.0, 14.0)))  # heading of a sun-synchronous orbit off north
    side = columns / shape[1] if rng.random() < 0.5 else 1.0 - columns / shape[1]
    position = side + tilt * (rows / shape[0] - 0.5)
    return position < np.quantile(position[::4, ::4], share)


def _mean_db(ground: Ground, day: Day, rng: np.random.Generator) -> list[np.ndarray]:
    """Mean VV and VH in dB: land, water and what stands in it, mixed by area."""
    wind = _wind(ground, day, rng)
    surface = (water_vv_db(wind, day.incidence_degrees), water_vh_db(wind))
    texture = rng.standard_normal(ground.cover.shape, dtype=np.float32)
    wet = ground.depth_m > 0
    bands = []
    for band, (water_db, bias) in enumerate(zip(surface, (day.bias_vv_db, day.bias_vh_db), strict=True)):
        land_db = _land_db(ground, day, band, texture) + np.float32(bias)
        standing_db = land_db + _gain_table(band)[ground.cover]
        mixed = ground.emergence * _power(standing_db) + (1.0 - ground.emergence) * _power(water_db)
        bands.append(np.where(wet, _decibel(mixed), land_db).astype(np.float32))
    return bands


def _land_db(ground: Ground, day: Day, band: int, texture: np.ndarray) -> np.ndarray:
    mean = [s.vv_db if band == 0 else s.vh_db for s in world.SCATTERERS]
    tilt = day.incidence_degrees - world.REFERENCE_INCIDENCE_DEGREES
    moist = (day.moisture - 0.5) * world.SOIL_MOISTURE_DB
    event = day.cover_vv_db if band == 0 else day.cover_vh_db
    table = [
        m + event[cover] + s.slope_db * tilt + (moist if cover in world.MOIST_COVERS else 0.0)
        for cover, (m, s) in enumerate(zip(mean, world.SCATTERERS, strict=True))
    ]
    parcel = np.array([s.parcel_db for s in world.SCATTERERS], np.float32)[ground.cover]
    grain = np.array([s.texture_db for s in world.SCATTERERS], np.float32)[ground.cover]
    return np.array(table, np.float32)[ground.cover] + parcel * ground.parcel + grain * texture


def _gain_table(band: int) -> np.ndarray:
    gains = np.zeros(len(world.SCATTERERS), np.float32)
    for cover in world.VEGETATED:
        gains[cover] = world.FLOODED_VEGETATION_GAIN_DB[band]
    gains[world.FOREST] = world.FLOODED_FOREST_GAIN_DB[band]
    return gains


def _wind(ground: Ground, day: Day, rng: np.random.Generator) -> np.ndarray:
    """Wind in m/s that the water feels: gusts in patches, shelter near the shore."""
    pixel = world.CHIP_PIXEL_M
    longest, shortest = world.WIND_PATCH_M[1] / pixel, world.WIND_PATCH_M[0] / pixel
    gusts = noise.fractal(rng, ground.cover.shape, 2.6, longest, shortest)
    openness = ndimage.uniform_filter(ground.water.astype(np.float32), int(2 * world.FETCH_M / pixel) + 1)
    shelter = world.SHELTERED_WIND + (1.0 - world.SHELTERED_WIND) * openness**2
    mean = day.wind_ms * np.exp(rng.normal(0.0, world.WIND_CHIP_SIGMA))
    return np.clip(mean * np.exp(world.WIND_GUST_SIGMA * gusts) * shelter, *world.WIND_RANGE_MS)


def _terrain_db(ground: Ground, day: Day) -> np.ndarray:
    """Brightening of slopes that face the radar, darkening and shadow behind them.

    The area effect tan(theta) / tan(theta - alpha) for a slope alpha towards the radar (Ulander 1996).
    """
    pixel = world.CHIP_PIXEL_M
    theta = np.radians(day.incidence_degrees)
    elevation = ground.elevation_m if day.looks_east else ground.elevation_m[:, ::-1]
    rise = ndimage.uniform_filter1d(np.gradient(elevation, pixel, axis=1), 3, axis=1)
    local = np.clip(theta - np.arctan(rise), np.radians(4.0), np.radians(88.0))
    gain = np.clip(10.0 * np.log10(np.tan(theta) / np.tan(local)), *world.SLOPE_GAIN_DB)
    ranges = np.arange(elevation.shape[1], dtype=np.float32) * np.float32(pixel / np.tan(theta))
    horizon = np.maximum.accumulate(elevation + ranges, axis=1)
    gain = np.where(horizon - ranges > elevation + 1.0, world.SLOPE_GAIN_DB[0], gain)
    wet = ground.depth_m > 0
    gain = gain if day.looks_east else gain[:, ::-1]
    return np.where(wet, 0.0, gain).astype(np.float32)


def _measure(mean_db: np.ndarray, day: Day, rng: np.random.Generator) -> np.ndarray:
    """What the instrument makes of a mean: blur of the resolution cell, speckle, noise and its subtraction."""
    mean = ndimage.gaussian_filter(_power(mean_db), world.RESOLUTION_SIGMA_PX, truncate=3.0)
    mean += float(_power(np.float32(world.AMBIGUITY_DB))) * mean.mean() + _power(np.float32(world.RESIDUAL_DB))
    floor = np.float32(10.0 ** (day.noise_floor_db / 10.0))
    power = (mean + floor) * speckle(rng, mean.shape) - floor
    residue = np.float32(world.NOISE_RESIDUE) * floor
    return _decibel(0.5 * (power + np.sqrt(power**2 + 4.0 * residue**2)))


def _power(decibel: np.ndarray) -> np.ndarray:
    return np.exp(decibel * np.float32(np.log(10.0) / 10.0))


def _decibel(power: np.ndarray) -> np.ndarray:
    return np.float32(10.0 / np.log(10.0)) * np.log(power)
