"""Otsu's threshold on VH, the classical baseline of Table 1: one threshold per tile, no training."""

import numpy as np
from skimage.filters import threshold_otsu

from flood_distill import contract

NUM_BINS = 256  # the default of skimage.filters.threshold_otsu, stated because counts depend on it
_VH = [band.name for band in contract.S1_BANDS].index("VH")


def threshold_db(vh_db: np.ndarray) -> float | None:
    """Returns the threshold between water and land of one tile.

    Args:
        vh_db: float32 [height, width], VH backscatter in dB, NaN = no data.

    Returns:
        The threshold in dB; None where there is no or only one distinct finite value. Otsu's method separates two
        classes and one value holds only one, so there is nothing to separate.
    """
    finite = vh_db[np.isfinite(vh_db)]
    if finite.size == 0 or finite.min() == finite.max():
        return None
    return float(threshold_otsu(finite, nbins=NUM_BINS))


def water_mask(s1_db: np.ndarray) -> np.ndarray:
    """Returns water where VH is at most the tile's threshold.

    A tile without a threshold is dry throughout: scikit-image would return the single value itself and call the whole
    tile water, although nothing in it says so.

    Args:
        s1_db: float32 [height, width, 2], VV and VH in dB, NaN = no data.

    Returns:
        uint8 [height, width]: 0 dry, 1 water, 255 where VV or VH has no data.
    """
    vh_db = s1_db[..., _VH]
    threshold = threshold_db(vh_db)
    water = np.zeros(vh_db.shape, np.uint8)
    if threshold is not None:
        water[vh_db <= threshold] = contract.WATER
    water[~np.isfinite(s1_db).all(axis=-1)] = contract.MASK_NODATA
    return water
