"""Counts and scores of water masks. Pure numpy; every definition is stated once, in `DEFINITIONS`."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from flood_distill import contract

DEFINITIONS = {
    "scored pixels": "label is 0 or 1 and every band of Sentinel-1 is finite; the same for every method",
    "iou_pooled": "TP / (TP + FP + FN) of the water class over all scored pixels of the split",
    "iou_per_chip": "mean over scored chips of TP / (TP + FP + FN); a chip without water in label and prediction counts"
    " 1",
    "precision": "TP / (TP + FP) over all scored pixels",
    "recall": "TP / (TP + FN) over all scored pixels",
    "f1": "2 TP / (2 TP + FP + FN) over all scored pixels",
    "num_chips": "chips with at least one scored pixel; the others are in unscorable_chips and count nowhere",
    "share_without_s2": "share of the scored pixels where Sentinel-2 has no data (a teacher sees only radar there)",
    "boundary_iou": "TP / (TP + FP + FN), pooled, of the water within boundary_width_px pixels of dry land in label and"
    " in prediction (Cheng et al. 2021); no-data and the image's border are no shore",
    "flood": "the scores over the scored pixels that the layer permanent_water calls dry, on the chips that have it",
    "ece": "expected calibration error: mean over scored pixels of |share of water - mean probability| in their bin of"
    " probability, 20 bins of equal width",
    "intervals": "95 % percentile intervals of 10,000 bootstrap resamples of the scored chips",
    "null": "the score is 0 / 0",
}


@dataclasses.dataclass(frozen=True)
class Counts:
    """Pixels by what was predicted and what is true; positive means water."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def scored_pixels(self) -> int:
        """All pixels that were counted."""
        return self.tp + self.fp + self.fn + self.tn


@dataclasses.dataclass(frozen=True)
class ChipResult:
    """The counts of one chip.

    Attributes:
        chip_id: the chip's name.
        event: the flood event it belongs to.
        counts: over its scored pixels.
        num_without_s2: scored pixels where Sentinel-2 has no data.
        boundary: over its scored pixels, of the bands along the shore (`boundary.count`).
        flood: over its scored pixels that are not permanently water; no pixel where that is not known.
    """

    chip_id: str
    event: str
    counts: Counts
    num_without_s2: int = 0
    boundary: Counts = Counts()
    flood: Counts = Counts()


def scored_pixels(labels: np.ndarray, s1: np.ndarray) -> np.ndarray:
    """Returns where a prediction is scored, bool [...]: the label is known and Sentinel-1 is finite.

    Args:
        labels: integer [...], 1 water, 0 dry, -1 no data.
        s1: float32 [..., bands], NaN = no data.
    """
    return (labels != contract.IGNORE_LABEL) & np.isfinite(s1).all(axis=-1)


def count(water: np.ndarray, labels: np.ndarray, scored: np.ndarray) -> Counts:
    """Returns the counts of one chip or of many at once.

    Args:
        water: bool [...], predicted water.
        labels: integer [...], 1 water, 0 dry; not read where `scored` is false.
        scored: bool [...], pixels that count.
    """
    wet, true_wet = water[scored].astype(bool), labels[scored] == contract.WATER
    return Counts(
        tp=int(np.sum(wet & true_wet)),
        fp=int(np.sum(wet & ~true_wet)),
        fn=int(np.sum(~wet & true_wet)),
        tn=int(np.sum(~wet & ~true_wet)),
    )


def iou(counts: Counts) -> float:
    """Returns TP / (TP + FP + FN), NaN without any water in label and prediction."""
    return _ratio(counts.tp, counts.tp + counts.fp + counts.fn)


def best_threshold(counts: np.ndarray, thresholds: Sequence[float]) -> tuple[float, float]:
    """Returns the highest IoU, 0 where it is 0 / 0, and its threshold; of equally good ones the nearest to 0.5.

    Args:
        counts: integer [number of thresholds, 4]: tp, fp, fn, tn.
        thresholds: of probability.
    """
    ious = [iou(Counts(*(int(count) for count in row))) for row in counts]
    scored = [(0.0 if math.isnan(one) else one, threshold) for one, threshold in zip(ious, thresholds, strict=True)]
    return max(scored, key=lambda pair: (pair[0], -abs(pair[1] - contract.WATER_THRESHOLD)))


def chip_iou(counts: Counts) -> float:
    """Returns the IoU of one chip, NaN without any scored pixel.

    A chip without water in label and prediction counts 1, as in the original Sen1Floods11 notebook.
    """
    if counts.scored_pixels == 0:
        return math.nan
    return iou(counts) if counts.tp + counts.fp + counts.fn else 1.0


def flood_only(results: Iterable[ChipResult]) -> list[ChipResult]:
    """Returns the chips with their flood's counts in place of all water's; chips without the layer are unscorable."""
    return [dataclasses.replace(result, counts=result.flood) for result in results]


def scores(results: Sequence[ChipResult]) -> dict[str, float | int]:
    """Returns the scores of a set of chips.

    Returns:
        num_chips, num_unscorable, iou_pooled, iou_per_chip, precision, recall, f1, tp, fp, fn, tn as `DEFINITIONS`
        says; a score that is 0 / 0 is NaN.
    """
    scorable = [result for result in results if result.counts.scored_pixels]
    total = pooled(scorable)
    return {
        "num_chips": len(scorable),
        "num_unscorable": len(results) - len(scorable),
        "iou_pooled": iou(total),
        "iou_per_chip": _ratio(sum(chip_iou(result.counts) for result in scorable), len(scorable)),
        "precision": _ratio(total.tp, total.tp + total.fp),
        "recall": _ratio(total.tp, total.tp + total.fn),
        "f1": _ratio(2 * total.tp, 2 * total.tp + total.fp + total.fn),
        **dataclasses.asdict(total),
    }


def pooled(results: Iterable[ChipResult]) -> Counts:
    """Returns the sum of the chips' counts."""
    return sum((result.counts for result in results), Counts())


def share_without_s2(results: Sequence[ChipResult]) -> float:
    """Returns the share of scored pixels where Sentinel-2 has no data, NaN without scored pixels."""
    return _ratio(sum(result.num_without_s2 for result in results), pooled(results).scored_pixels)


def per_event(results: Sequence[ChipResult]) -> dict[str, dict[str, float | int]]:
    """Returns `scores` for each event, in alphabetical order."""
    events = sorted({result.event for result in results})
    return {event: scores([result for result in results if result.event == event]) for event in events}


def unscorable(results: Sequence[ChipResult]) -> list[str]:
    """Returns the names of the chips without a scored pixel, sorted."""
    return sorted(result.chip_id for result in results if result.counts.scored_pixels == 0)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
