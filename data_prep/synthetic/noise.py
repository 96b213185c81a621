"""Random fields: seeded generators and noise with a power-law spectrum."""

import functools
import zlib

import numpy as np
import scipy.fft

from data_prep.synthetic import world


def generator(*key: str | int) -> np.random.Generator:
    """Returns the generator of one purpose, the same for the same key in any process and order.

    Args:
        key: words and numbers such as an event's name, a chip's number and the purpose.
    """
    words = [zlib.crc32(str(part).encode()) for part in key]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([world.SEED, *words])))


@functools.lru_cache(maxsize=64)
def _amplitude(shape: tuple[int, int], slope: float, longest_px: float, shortest_px: float) -> np.ndarray:
    rows = scipy.fft.fftfreq(shape[0]).astype(np.float32)[:, None]
    columns = scipy.fft.rfftfreq(shape[1]).astype(np.float32)[None, :]
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1.0
    band = (frequency >= 1.0 / longest_px) & (frequency <= 1.0 / shortest_px)
    amplitude = np.where(band, frequency ** np.float32(-slope / 2), 0.0).astype(np.float32)
    amplitude[0, 0] = 0.0
    return amplitude


def fractal(
    rng: np.random.Generator,
    shape: tuple[int, int],
    slope: float = 2.6,
    longest_px: float = 1e9,
    shortest_px: float = 2.0,
) -> np.ndarray:
    """Returns float32 [height, width] periodic Gaussian noise, mean 0, standard deviation 1.

    Args:
        rng: source of randomness.
        shape: height and width in pixels.
        slope: the power spectrum falls as frequency^-slope.
        longest_px: longest wavelength kept.
        shortest_px: shortest wavelength kept.
    """
    amplitude = _amplitude(tuple(shape), float(slope), float(longest_px), float(shortest_px))
    parts = rng.standard_normal((2, *amplitude.shape), dtype=np.float32)
    field = scipy.fft.irfft2((parts[0] + 1j * parts[1]) * amplitude, s=shape)
    return (field / (field.std() + 1e-12)).astype(np.float32)


def threshold_of(field: np.ndarray, share: float) -> float:
    """Returns the value that `share` of `field` exceeds, from every fourth pixel each way."""
    return float(np.quantile(field[::4, ::4], 1.0 - min(max(share, 0.0), 1.0)))
