"""Labels with the mistakes of their makers: hand outlines, index thresholds, a permanent-water map."""

import numpy as np
from scipy import ndimage

from data_prep.synthetic import noise, world
from data_prep.synthetic.optical import Sky
from flood_distill import contract

_BLUE, _GREEN, _RED, _NIR, _SWIR = (contract.S2_FILE_BANDS.index(name) for name in ("B2", "B3", "B4", "B8", "B11"))


def hand_label(water: np.ndarray, sky: Sky, rng: np.random.Generator) -> np.ndarray:
    """Returns int16 [height, width]: 1 water, 0 dry, -1 under cloud, as drawn by a careful person.

    Outlines are smoothed and wobble by about a pixel, small ponds and islands are left out.

    Args:
        water: bool [height, width], the truth.
        sky: clouds that hid the ground from the labeller.
        rng: the labeller's hand.
    """
    smooth = ndimage.gaussian_filter(water.astype(np.float32), world.HAND_SMOOTHING_PX, truncate=3.0)
    wobble = world.HAND_JITTER * noise.fractal(rng, water.shape, 2.0, 60.0, 4.0)
    drawn = _drop_small(smooth > 0.5 + wobble, world.HAND_SMALLEST_PX)
    drawn = ~_drop_small(~drawn, world.HAND_SMALLEST_PX)
    label = drawn.astype(np.int16)
    label[hidden(sky)] = contract.IGNORE_LABEL
    return label


def hidden(sky: Sky) -> np.ndarray:
    """Returns bool [height, width]: where a labeller sees cloud instead of ground, outlined generously."""
    return ndimage.uniform_filter((sky.opacity > world.HAND_CLOUD_OPACITY).astype(np.float32), 9) > 0.3


def sen1floods11_weak_label(s2: np.ndarray) -> np.ndarray:
    """Returns int16 [height, width]: NDVI and MNDWI thresholds, -1 where opaque cloud or no data.

    Args:
        s2: int16 [13, height, width], reflectance x 10000.
    """
    bands = s2.astype(np.float32)
    ndvi = _index(bands[_NIR], bands[_RED])
    mndwi = _index(bands[_GREEN], bands[_SWIR])
    label = ((ndvi < world.NDVI_MAX) & (mndwi > world.MNDWI_MIN)).astype(np.int16)
    opaque = bands[_BLUE] > world.CLOUD_MASK_BLUE * world.REFLECTANCE_SCALE
    label[opaque | (s2 == contract.S2_NODATA).all(axis=0)] = contract.IGNORE_LABEL
    return label


def external_weak_label(s2: np.ndarray) -> np.ndarray:
    """Returns int16 [height, width]: NDWI above 0 (McFeeters 1996), -1 where no data.

    Args:
        s2: int16 [4, height, width], B2, B3, B4, B8, reflectance x 10000.
    """
    names = [band.name for band in contract.S2_BANDS]
    bands = s2.astype(np.float32)
    ndwi = _index(bands[names.index("B3")], bands[names.index("B8")])
    label = (ndwi > world.NDWI_MIN).astype(np.int16)
    label[(s2 == contract.S2_NODATA).all(axis=0)] = contract.IGNORE_LABEL
    return label


def permanent_water(permanent: np.ndarray) -> np.ndarray:
    """Returns uint8 [height, width], 1 permanent water: at the 30 m of the JRC map (Pekel et al. 2016)."""
    return (ndimage.uniform_filter(permanent.astype(np.float32), 3) > 0.5).astype(np.uint8)


def _index(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (first - second) / np.maximum(first + second, 1.0)


def _drop_small(mask: np.ndarray, smallest_px: int) -> np.ndarray:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    keep = sizes >= smallest_px
    keep[0] = False
    return keep[parts]
