"""Running counts of tiles: classes, no-data, and a histogram of each band. Pure numpy; one tile at a time."""

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from flood_distill import contract

# A histogram has so many bins over the range of its band's normalisation, and reaches so many ranges beyond it.
BINS_PER_RANGE = 255
_RANGES_BELOW, _RANGES_ABOVE = 2, 4


@dataclasses.dataclass
class Histogram:
    """Values of one band over valid pixels.

    Attributes:
        band: its limits of normalisation and unit.
        counts: int64 [bins]; the first and the last bin hold all that lies beyond.
        num_below: values below the lower limit, which normalisation clips.
        num_above: values above the upper limit.
        total: sum of the values.
        minimum: lowest value, infinite without values.
        maximum: highest value, minus infinite without values.
    """

    band: contract.Band
    counts: np.ndarray
    num_below: int = 0
    num_above: int = 0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf

    @classmethod
    def empty(cls, band: contract.Band) -> "Histogram":
        """Returns a histogram of no values."""
        return cls(band, np.zeros(len(edges(band)) - 1, np.int64))

    @property
    def num_values(self) -> int:
        """Number of valid pixels."""
        return int(self.counts.sum())

    def add(self, values: np.ndarray) -> None:
        """Counts finite values of any shape, in the unit of the band."""
        if not values.size:
            return
        start, width = _start_and_width(self.band)
        bins = np.floor((values.astype(np.float64) - start) / width).astype(np.int64)
        self.counts += np.bincount(bins.clip(0, len(self.counts) - 1), minlength=len(self.counts))
        self.num_below += int(np.count_nonzero(values < self.band.low))
        self.num_above += int(np.count_nonzero(values > self.band.high))
        self.total += float(values.sum(dtype=np.float64))
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    def __add__(self, other: "Histogram") -> "Histogram":
        return Histogram(
            self.band,
            self.counts + other.counts,
            self.num_below + other.num_below,
            self.num_above + other.num_above,
            self.total + other.total,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
        )

    def percentile(self, share: float) -> float:
        """Returns the value below which `share` (0 to 1) of the values lie, to a bin's width; NaN without values."""
        if not self.num_values:
            return math.nan
        reached = np.cumsum(self.counts)
        index = int(np.searchsorted(reached, share * reached[-1]))
        centre = (edges(self.band)[index] + edges(self.band)[index + 1]) / 2
        return float(np.clip(centre, self.minimum, self.maximum))

    def summary(self) -> dict:
        """Returns the numbers of inspect.json; None where there are no values."""
        number = self.num_values
        values = {
            "mean": self.total / number if number else None,
            "min": self.minimum if number else None,
            "max": self.maximum if number else None,
            "p01": self.percentile(0.01) if number else None,
            "median": self.percentile(0.5) if number else None,
            "p99": self.percentile(0.99) if number else None,
            "share_clipped_low": self.num_below / number if number else None,
            "share_clipped_high": self.num_above / number if number else None,
        }
        return {"num_values": number} | values


def edges(band: contract.Band) -> np.ndarray:
    """Returns the borders of a band's bins; half a unit off where bins hold whole units."""
    start, width = _start_and_width(band)
    num_bins = math.ceil((_RANGES_BELOW + 1 + _RANGES_ABOVE) * (band.high - band.low) / width)
    return start + width * np.arange(num_bins + 1)


def _start_and_width(band: contract.Band) -> tuple[float, float]:
    """First border and width of the bins: whole units where they would hold more than one, or whole numbers alias."""
    width = (band.high - band.low) / BINS_PER_RANGE
    start = band.low - _RANGES_BELOW * (band.high - band.low)
    return (start - 0.5, float(round(width))) if width >= 1 else (start, width)


@dataclasses.dataclass
class Tally:
    """What a group of tiles holds.

    Attributes:
        histograms: by image feature, one a band.
        num_tiles: tiles.
        num_with_s2: of them with Sentinel-2.
        num_pixels: pixels of all tiles.
        labels: pixels by label: dry, water, without label.
        num_scored: pixels with label and every band of Sentinel-1.
        num_permanent: water pixels that are known as permanent water.
        num_invalid: pixels without data, by image feature; of Sentinel-2, only tiles that have it are counted.
        num_seen: pixels that could have data, by image feature.
    """

    histograms: dict[str, list[Histogram]]
    num_tiles: int = 0
    num_with_s2: int = 0
    num_pixels: int = 0
    labels: dict[int, int] = dataclasses.field(
        default_factory=lambda: dict.fromkeys((contract.DRY, contract.WATER, contract.IGNORE_LABEL), 0)
    )
    num_scored: int = 0
    num_permanent: int = 0
    num_invalid: dict[str, int] = dataclasses.field(default_factory=dict)
    num_seen: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def empty(cls, imagery: contract.Imagery) -> "Tally":
        """Returns a tally of no tiles."""
        bands = imagery.feature_bands
        nothing = dict.fromkeys(bands, 0)
        histograms = {feature: [Histogram.empty(band) for band in some] for feature, some in bands.items()}
        return cls(histograms, num_invalid=dict(nothing), num_seen=dict(nothing))

    def add(self, example: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]) -> None:
        """Counts a tile.

        Args:
            example: a decoded record.
            valid: bool [height, width] of each image feature, from `validity`.
        """
        label = example[contract.LABEL]
        self.num_tiles += 1
        self.num_with_s2 += bool(example[contract.HAS_S2])
        self.num_pixels += label.size
        for value in self.labels:
            self.labels[value] += int(np.count_nonzero(label == value))
        seen = functools.reduce(operator.and_, (valid[name] for name in valid if name in _RADAR))
        self.num_scored += int(np.count_nonzero(seen & (label != contract.IGNORE_LABEL)))
        if contract.PERMANENT_WATER in example:
            permanent = example[contract.PERMANENT_WATER] == contract.WATER
            self.num_permanent += int(np.count_nonzero(permanent & (label == contract.WATER)))
        for feature, histograms in self.histograms.items():
            if feature in _RADAR or example[contract.HAS_S2]:
                self._add_image(feature, example[feature], valid[feature], histograms)

    def _add_image(self, feature: str, image: np.ndarray, valid: np.ndarray, histograms: list[Histogram]) -> None:
        self.num_seen[feature] += valid.size
        self.num_invalid[feature] += valid.size - int(np.count_nonzero(valid))
        for channel, histogram in enumerate(histograms):
            histogram.add(image[..., channel][valid])

    def __add__(self, other: "Tally") -> "Tally":
        joined = {
            name: [one + two for one, two in zip(some, other.histograms[name], strict=True)]
            for name, some in self.histograms.items()
        }
        counts = {
            field.name: _added(getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
            if field.name != "histograms"
        }
        return Tally(joined, **counts)

    def summary(self) -> dict:
        """Returns the numbers of inspect.json; a share of nothing is None."""
        labels, pixels = self.labels, self.num_pixels
        return {
            "num_tiles": self.num_tiles,
            "num_with_s2": self.num_with_s2,
            "share_water": _share(labels[contract.WATER], pixels),
            "share_dry": _share(labels[contract.DRY], pixels),
            "share_unlabelled": _share(labels[contract.IGNORE_LABEL], pixels),
            "share_water_of_labelled": _share(labels[contract.WATER], labels[contract.WATER] + labels[contract.DRY]),
            "share_permanent_of_water": _share(self.num_permanent, labels[contract.WATER]),
            "share_scored": _share(self.num_scored, pixels),
            "share_no_data": {name: _share(self.num_invalid[name], self.num_seen[name]) for name in self.num_seen},
            "bands": {label: histogram.summary() for label, histogram in self.by_band()},
        }

    def by_band(self) -> Iterator[tuple[str, Histogram]]:
        """Yields the histograms with their names, such as ``s1 VV``."""
        for feature, histograms in self.histograms.items():
            for histogram in histograms:
                yield f"{feature} {histogram.band.name}", histogram


_RADAR = (contract.S1, contract.S1_BEFORE)


def validity(example: Mapping[str, np.ndarray], features: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns where each image feature of a record has data, bool [height, width]."""
    return {
        name: np.isfinite(example[name]).all(axis=-1)
        if name in _RADAR
        else (example[name] != contract.S2_NODATA).any(axis=-1)
        for name in features
    }


def _added(one, two):
    if isinstance(one, dict):
        return {key: one[key] + two[key] for key in one}
    return one + two


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
