"""How far a probability of water can be believed. Pure numpy."""

import dataclasses
import math

import numpy as np

from flood_distill import contract

NUM_BINS = 20  # of equal width over [0, 1]; ours: Guo et al. 2017 (arXiv:1706.04599) draw 10 and score with 15


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Histograms over bins of the predicted probability; those of chips, seeds and splits add up.

    Attributes:
        num_pixels: int64 [bins], scored pixels in each bin.
        num_water: int64 [bins], those of them that are water.
        sum_probability: float64 [bins], sum of their probabilities.
    """

    num_pixels: np.ndarray
    num_water: np.ndarray
    sum_probability: np.ndarray

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(
            self.num_pixels + other.num_pixels,
            self.num_water + other.num_water,
            self.sum_probability + other.sum_probability,
        )

    @property
    def mean_probability(self) -> np.ndarray:
        """Mean predicted probability of each bin, float64 [bins], NaN where it is empty."""
        return _ratio(self.sum_probability, self.num_pixels)

    @property
    def share_water(self) -> np.ndarray:
        """Share of water in each bin, float64 [bins], NaN where it is empty."""
        return _ratio(self.num_water, self.num_pixels)

    @property
    def expected_calibration_error(self) -> float:
        """Mean over pixels of |share of water - mean probability| of their bin (Guo et al. 2017, equation 5)."""
        total = self.num_pixels.sum()
        gaps = np.abs(self.num_water - self.sum_probability)
        return float(gaps.sum() / total) if total else math.nan

    def as_json(self) -> dict[str, list]:
        """Returns what `from_json` reads."""
        return {
            "num_pixels": self.num_pixels.tolist(),
            "num_water": self.num_water.tolist(),
            "sum_probability": [round(value, 3) for value in self.sum_probability.tolist()],
        }


def from_json(written: dict[str, list]) -> Reliability:
    """Reads what `Reliability.as_json` returned."""
    return Reliability(
        np.array(written["num_pixels"], np.int64),
        np.array(written["num_water"], np.int64),
        np.array(written["sum_probability"], np.float64),
    )


def empty() -> Reliability:
    """Returns histograms of no pixel."""
    return Reliability(np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS))


def reliability(probability: np.ndarray, labels: np.ndarray, scored: np.ndarray) -> Reliability:
    """Returns the histograms of one chip or of many.

    Args:
        probability: float32 [...] in [0, 1]; not read where `scored` is false. Bin i holds [i / bins, (i + 1) / bins),
            the last one 1 too.
        labels: integer [...], 1 water, 0 dry.
        scored: bool [...], pixels that count.
    """
    values = probability[scored].astype(np.float64)
    bins = np.minimum((values * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    water = labels[scored] == contract.WATER
    return Reliability(
        np.bincount(bins, minlength=NUM_BINS),
        np.bincount(bins[water], minlength=NUM_BINS),
        np.bincount(bins, weights=values, minlength=NUM_BINS),
    )


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(len(denominator), np.nan), where=denominator > 0)
