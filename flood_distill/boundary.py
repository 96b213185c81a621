"""Boundary IoU: how well the shoreline is met, where pooled IoU mostly sees the inside of large water.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021 (arXiv:2103.16562).
"""

import numpy as np
from scipy import ndimage

from flood_distill import contract
from flood_distill.statistics import Counts

_SQUARE = np.ones((3, 3), bool)  # the element that Cheng et al. erode with


def band(water: np.ndarray, scored: np.ndarray, width_px: int) -> np.ndarray:
    """Returns the water within `width_px` of dry land, bool [height, width].

    Cheng et al. take what an erosion by a 3 x 3 square, `width_px` times, removes from the mask. Here the dry land
    grows instead, over scored pixels only: without no-data that is the same, and no-data and the border of the image,
    which they count as the object's edge, are no shore and let nothing through.

    Args:
        water: bool [height, width]; not read where `scored` is false.
        scored: bool [height, width], pixels that count.
        width_px: width of the band, at least 1.
    """
    dry = scored & ~water
    if not dry.any():
        return np.zeros(water.shape, bool)
    reached = ndimage.binary_dilation(dry, _SQUARE, iterations=width_px, mask=scored)
    return scored & water & reached


def count(water: np.ndarray, labels: np.ndarray, scored: np.ndarray, width_px: int) -> Counts:
    """Returns the counts of one chip's bands: their IoU is the boundary IoU.

    Args:
        water: bool [height, width], predicted water.
        labels: integer [height, width], 1 water, 0 dry; not read where `scored` is false.
        scored: bool [height, width], pixels that count.
        width_px: width of the bands.

    Returns:
        tp: pixels in both bands; fp: in the prediction's alone; fn: in the label's alone; tn: the other scored ones.
    """
    predicted = band(water.astype(bool), scored, width_px)
    true = band(labels == contract.WATER, scored, width_px)
    tp = int(np.sum(predicted & true))
    fp, fn = int(predicted.sum()) - tp, int(true.sum()) - tp
    return Counts(tp, fp, fn, int(scored.sum()) - tp - fp - fn)
