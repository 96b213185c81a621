"""Intervals by bootstrap over chips: what the choice of these chips, and not others of their kind, does to a score.

Chips are resampled with replacement, all that are scored, `NUM_RESAMPLES` times (Efron and Tibshirani 1993, chapter 13:
percentile intervals). Several runs of one method, which differ in their seeds, are averaged first, chip by chip:

    pooled     TP, FP, FN and TN of a chip are the means over the runs; the score is TP / (TP + FP + FN) of their sums
               over the resampled chips, each as often as it was drawn
    per chip   a chip's IoU is the mean over the runs of its IoU; the score is the mean over the resampled chips

A difference is paired: both methods are scored on the same resampled chips, and the interval is that of the
differences. The spread between seeds is no part of an interval; tables show it as a standard deviation.
Pure numpy; the resamples follow from the number of chips and a fixed seed.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from flood_distill import statistics
from flood_distill.errors import UserError
from flood_distill.statistics import ChipResult, Counts

LEVEL = 0.95
NUM_RESAMPLES = 10_000
_SEED = 0
_BLOCK_CELLS = 1 << 22  # resamples x chips held at once: 32 MB

IOU_POOLED = "iou_pooled"
IOU_PER_CHIP = "iou_per_chip"


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score and its interval; NaN where it is 0 / 0, and both ends where there are fewer than two chips."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Sample:
    """What is resampled: one row a chip, the mean over the runs of a method.

    Attributes:
        chip_ids: sorted.
        counts: float64 [chips, 4]: tp, fp, fn, tn.
        chip_ious: float64 [chips].
    """

    chip_ids: tuple[str, ...]
    counts: np.ndarray
    chip_ious: np.ndarray


def sample(
    runs: Sequence[Sequence[ChipResult]], counts_of: Callable[[ChipResult], Counts] = lambda one: one.counts
) -> Sample:
    """Returns the mean over runs of every chip.

    Args:
        runs: the results of each run of one method; chips without a scored pixel are left out.
        counts_of: which counts of a chip: all water, the boundary's, the flood's.

    Raises:
        UserError: if the runs have not scored the same pixels of the same chips.
    """
    tables = [_table(run, counts_of) for run in runs]
    first = tables[0]
    for other in tables[1:]:
        _check_same(first, other)
    stacked = np.array([list(table.values()) for table in tables], np.float64).reshape(len(tables), len(first), 4)
    ious = [[statistics.chip_iou(Counts(*row)) for row in table.values()] for table in tables]
    return Sample(
        tuple(first), stacked.mean(axis=0), np.array(ious, np.float64).reshape(stacked.shape[:2]).mean(axis=0)
    )


def interval(one: Sample, score: str = IOU_POOLED) -> Interval:
    """Returns a method's score with its interval.

    Args:
        one: from `sample`.
        score: ``iou_pooled`` or ``iou_per_chip``.
    """
    return _interval(_score(one, score, np.ones((1, len(one.chip_ids))))[0], [one], score, lambda first: first)


def difference(first: Sample, second: Sample, score: str = IOU_POOLED) -> Interval:
    """Returns how much higher the first method scores than the second, with its paired interval.

    Raises:
        UserError: if they have not scored the same pixels of the same chips.
    """
    if first.chip_ids != second.chip_ids or not np.allclose(first.counts.sum(axis=1), second.counts.sum(axis=1)):
        raise UserError("two methods have not scored the same pixels of the same chips: their difference means nothing")
    once = np.ones((1, len(first.chip_ids)))
    value = _score(first, score, once)[0] - _score(second, score, once)[0]
    return _interval(value, [first, second], score, lambda one, other: one - other)


def intervals(results: Sequence[ChipResult]) -> dict[str, float | int | list[float]]:
    """Returns what metrics.json says of the intervals of one run: level, resamples, and both ends by score."""
    everywhere, shore = sample([results]), sample([results], lambda one: one.boundary)
    flood = sample([results], lambda one: one.flood)
    ends = {
        IOU_POOLED: interval(everywhere),
        IOU_PER_CHIP: interval(everywhere, IOU_PER_CHIP),
        "boundary_iou": interval(shore),
        "flood_iou_pooled": interval(flood),
        "flood_iou_per_chip": interval(flood, IOU_PER_CHIP),
    }
    return {
        "level": LEVEL,
        "resamples": NUM_RESAMPLES,
        **{name: [one.low, one.high] for name, one in ends.items()},
    }


def _table(run: Sequence[ChipResult], counts_of: Callable[[ChipResult], Counts]) -> dict[str, tuple]:
    rows = {result.chip_id: dataclasses.astuple(counts_of(result)) for result in run}
    return {chip_id: rows[chip_id] for chip_id in sorted(rows) if sum(rows[chip_id])}


def _check_same(first: dict[str, tuple], other: dict[str, tuple]) -> None:
    if {chip: sum(row) for chip, row in first.items()} != {chip: sum(row) for chip, row in other.items()}:
        raise UserError("runs of one method have not scored the same pixels of the same chips; evaluate them anew")


def _interval(value: float, samples: Sequence[Sample], score: str, combine: Callable) -> Interval:
    num_chips = len(samples[0].chip_ids)
    if num_chips < 2 or math.isnan(value):
        return Interval(float(value), math.nan, math.nan)
    scored = [combine(*(_score(one, score, weights) for one in samples)) for weights in _weights(num_chips)]
    resampled = np.concatenate(scored)
    tails = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, [tails, 1 - tails])  # a resample without any water has no IoU
    return Interval(float(value), float(low), float(high))


def _weights(num_chips: int) -> Iterator[np.ndarray]:
    """How often each chip is drawn, int64 [resamples, chips], in blocks."""
    generator = np.random.default_rng(_SEED)
    block = max(1, _BLOCK_CELLS // num_chips)
    for start in range(0, NUM_RESAMPLES, block):
        size = min(block, NUM_RESAMPLES - start)
        yield generator.multinomial(num_chips, np.full(num_chips, 1 / num_chips), size=size)


def _score(one: Sample, score: str, weights: np.ndarray) -> np.ndarray:
    """Scores of weighted chips, float64 [resamples]."""
    if score == IOU_PER_CHIP:
        return _divide(weights @ one.chip_ious, weights.sum(axis=1))
    totals = weights @ one.counts[:, :3]  # tp, fp, fn
    return _divide(totals[:, 0], totals.sum(axis=1))


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)
