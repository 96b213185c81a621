"""From the pixels that Earth Engine serves to the three layers of a tile. Pure numpy."""

import dataclasses

import numpy as np

from flood_distill import contract

S1_NAMES = tuple(band.name for band in contract.S1_BANDS)
S2_NAMES = tuple(band.name for band in contract.S2_BANDS)
S1_VALID = "S1_VALID"
S2_VALID = "S2_VALID"
CLEAR = "CLEAR"
# Bands in the order in which they are asked for; CLEAR follows where cloud is measured over the tile.
SERVED_NAMES = (*S1_NAMES, *S2_NAMES, S1_VALID, S2_VALID)
SERVED_NODATA = -9999.0  # beyond any dB and any reflectance; the mask bands say the same


@dataclasses.dataclass(frozen=True)
class Layers:
    """One tile.

    Attributes:
        s1: float32 [height, width, 2], VV and VH in dB, NaN = no data.
        s2: int16 [height, width, 4], B2, B3, B4, B8, reflectance x 10000, 0 in all bands = no data.
        label: int16 [height, width], 1 water, 0 dry, -1 where Sentinel-2 has no data.
        cloud_percent: share of the pixels with Sentinel-2 data that are not clear; NaN if not measured.
    """

    s1: np.ndarray
    s2: np.ndarray
    label: np.ndarray
    cloud_percent: float

    @property
    def valid_share(self) -> float:
        """Share of the pixels that both sensors see."""
        return float((np.isfinite(self.s1).all(axis=-1) & (self.label != contract.IGNORE_LABEL)).mean())

    @property
    def water_share(self) -> float:
        """Share of water among the labelled pixels; 0 if there are none."""
        labelled = self.label != contract.IGNORE_LABEL
        return float((self.label[labelled] == contract.WATER).mean()) if labelled.any() else 0.0


def ndwi(green: np.ndarray, near_infrared: np.ndarray) -> np.ndarray:
    """Returns (B3 - B8) / (B3 + B8), float32 of the inputs' shape, in [-1, 1]; NaN where both are 0.

    McFeeters (1996), The use of the Normalized Difference Water Index (NDWI) in the delineation of open water features.
    Reflectances are taken as not negative, in any common unit.
    """
    green, near_infrared = np.asarray(green, np.float32), np.asarray(near_infrared, np.float32)
    total = green + near_infrared
    return np.divide(green - near_infrared, total, out=np.full_like(total, np.nan), where=total > 0)


def weak_label(s2: np.ndarray, valid: np.ndarray, threshold: float) -> np.ndarray:
    """Returns int16 [height, width]: 1 where NDWI > threshold, 0 where not, -1 where it is not known.

    Args:
        s2: [height, width, 4], B2, B3, B4, B8, reflectance x 10000.
        valid: bool [height, width].
        threshold: between -1 and 1; the paper gives none.
    """
    index = ndwi(s2[..., S2_NAMES.index("B3")], s2[..., S2_NAMES.index("B8")])
    known = valid & np.isfinite(index)
    label = np.full(valid.shape, contract.IGNORE_LABEL, np.int16)
    label[known] = np.where(index[known] > threshold, contract.WATER, contract.DRY)
    return label


def layers(served: np.ndarray, threshold: float) -> Layers:
    """Returns the layers of a tile.

    Args:
        served: float32 [bands, height, width] in the order of `SERVED_NAMES`, perhaps followed by `CLEAR`. A pixel of a
            sensor counts where its mask band is 1 and all its bands are finite and not `SERVED_NODATA`; one of
            Sentinel-2 that is 0 in all bands does not, for the atmosphere alone is brighter.
        threshold: see `weak_label`.
    """
    s1, s2, s1_valid, s2_valid, clear = np.split(np.asarray(served, np.float32), [2, 6, 7, 8])
    s1_valid, s2_valid = _valid(s1, s1_valid[0]), _valid(s2, s2_valid[0])
    reflectance = _reflectance(s2, s2_valid)
    s2_valid = (reflectance != contract.S2_NODATA).any(axis=-1)
    return Layers(
        np.moveaxis(np.where(s1_valid, s1, np.float32(contract.S1_NODATA)), 0, -1),
        reflectance,
        weak_label(reflectance, s2_valid, threshold),
        _cloud_percent(clear, s2_valid),
    )


def _valid(bands: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return (mask == 1) & (np.isfinite(bands) & (bands != SERVED_NODATA)).all(axis=0)


def _reflectance(s2: np.ndarray, valid: np.ndarray) -> np.ndarray:
    limit = np.iinfo(contract.S2_DTYPE).max
    rounded = np.rint(np.clip(np.where(valid, s2, contract.S2_NODATA), 0, limit))
    return np.moveaxis(rounded, 0, -1).astype(contract.S2_DTYPE)


def _cloud_percent(clear: np.ndarray, valid: np.ndarray) -> float:
    if not len(clear) or not valid.any():
        return float("nan")
    return 100.0 * float((clear[0][valid] != 1).mean())
