"""Otsu's threshold on VH (or OMBRIA's one band), the classical baseline of Table 1: one per tile, no training."""

import numpy as np
from skimage.filters import threshold_otsu

from flood_distill import contract

NUM_BINS = 256  # the default of skimage.filters.threshold_otsu, stated because counts depend on it


def threshold(backscatter: np.ndarray) -> float | None:
    """Returns the threshold between water and land of one tile.

    Args:
        backscatter: float32 [height, width], one band in its unit (VH: dB), NaN = no data.

    Returns:
        The threshold in that unit; None where there is no or only one distinct finite value. Otsu's method separates
        two classes and one value holds only one, so there is nothing to separate.
    """
    finite = backscatter[np.isfinite(backscatter)]
    if finite.size == 0 or finite.min() == finite.max():
        return None
    return float(threshold_otsu(finite, nbins=NUM_BINS))


def water_mask(s1: np.ndarray, imagery: contract.Imagery = contract.SENTINEL) -> np.ndarray:
    """Returns water where VH (`Imagery.otsu_band`) is at most the tile's threshold.

    A tile without a threshold is dry throughout: scikit-image would return the single value itself and call the whole
    tile water, although nothing in it says so.

    Args:
        s1: float32 [height, width, bands], NaN = no data; of several dates the latest comes first.
        imagery: what the bands are.

    Returns:
        uint8 [height, width]: 0 dry, 1 water, 255 where any band has no data.
    """
    band = s1[..., [band.name for band in imagery.s1].index(imagery.otsu_band)]
    highest = threshold(band)
    water = np.zeros(band.shape, np.uint8)
    if highest is not None:
        water[band <= highest] = contract.WATER
    water[~np.isfinite(s1).all(axis=-1)] = contract.MASK_NODATA
    return water
