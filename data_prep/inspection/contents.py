"""What is wrong with single tiles, and which tiles hold the same image. Pure numpy; keeps a few bytes a tile."""

import array
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
from skimage import measure

from flood_distill import contract

MAX_LISTED = 200  # tiles named for a fault; all are counted
_NO_DATA = 0  # in place of a hash: nothing that could be compared
_LABEL_VALUES = (contract.IGNORE_LABEL, contract.DRY, contract.WATER)
_DECIBEL = "dB"
_FLAT_PX = 1000  # speckle leaves no radar image flat; the largest flat piece of OMBRIA's valid ground has 146


class Faults:
    """Counts faults by kind and keeps the names of the first tiles that have them.

    Attributes:
        kinds: number of tiles and their first names, by what is wrong.
    """

    def __init__(self):
        self.kinds: dict[str, tuple[int, list[str]]] = {}

    def add(self, kind: str, tile: str) -> None:
        """Notes that a tile has a fault."""
        count, names = self.kinds.setdefault(kind, (0, []))
        if len(names) < MAX_LISTED:
            names.append(tile)
        self.kinds[kind] = (count + 1, names)

    def as_list(self) -> list[dict]:
        """Returns the faults of inspect.json, the most frequent first."""
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1][0], item[0]))
        return [{"fault": kind, "num_tiles": count, "tiles": names} for kind, (count, names) in ranked]


def tile_faults(
    example: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray], imagery: contract.Imagery
) -> Iterator[str]:
    """Yields what is wrong or odd with a tile, in words that are the same for all tiles.

    Args:
        example: a decoded record.
        valid: from `tally.validity`.
        imagery: what the bands are.
    """
    yield from _label_faults(example, valid)
    for feature, bands in imagery.feature_bands.items():
        if feature in imagery.dates[contract.S1] or example[contract.HAS_S2]:
            yield from _image_faults(feature, example[feature], valid[feature], bands)
    for features in imagery.dates.values():
        if len(features) > 1 and np.array_equal(*(example[name] for name in features), equal_nan=True):
            yield f"{features[0]} and {features[1]} are the same image"


def _label_faults(example: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]) -> Iterator[str]:
    label = example[contract.LABEL]
    labelled = label != contract.IGNORE_LABEL
    if not np.isin(label, _LABEL_VALUES).all():
        yield f"label holds other values than {', '.join(map(str, _LABEL_VALUES))}"
    if not labelled.any():
        yield "label is -1 throughout: cannot be scored"
    elif not (labelled & valid[contract.S1]).any():
        yield "no pixel has both label and s1: cannot be scored"


def _image_faults(
    feature: str, image: np.ndarray, valid: np.ndarray, bands: tuple[contract.Band, ...]
) -> Iterator[str]:
    values = image[valid]
    if not values.size:
        yield f"{feature} has no data at all"
        return
    if np.isinf(image).any():
        yield f"{feature} holds infinite values"
    if image.dtype.kind == "f" and (np.isnan(image).any(axis=-1) & ~np.isnan(image).all(axis=-1)).any():
        yield f"{feature} lacks one band where another has data"
    if len(values) > 1 and (values == values[0]).all():
        yield f"{feature} holds one value only"
    if feature in (contract.S1, contract.S1_BEFORE) and _largest_flat_px(image[..., 0]) >= _FLAT_PX:
        yield f"{feature} holds one value over {_FLAT_PX} connected pixels or more: perhaps no data that is not marked"
    if bands[0].unit == _DECIBEL and np.median(values) > 0:
        yield f"{feature} has a median above 0 dB, as of linear power"


def _largest_flat_px(band: np.ndarray) -> int:
    """Size of the largest piece of a band where all pixels equal their neighbours to the right and below."""
    first = band[:-1, :-1]
    flat = (first == band[1:, :-1]) & (first == band[:-1, 1:]) & (first == band[1:, 1:])
    return int(np.bincount(measure.label(flat, connectivity=1).ravel())[1:].max(initial=0))


class Images:
    """A 64-bit hash of every image, to find those that are the same bit for bit.

    Attributes:
        tiles: ``split/chip_id`` of each tile.
    """

    def __init__(self, features: tuple[str, ...]):
        self.tiles: list[str] = []
        self._hashes = {feature: array.array("Q") for feature in features}

    def add(self, tile: str, example: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]) -> None:
        """Hashes the images of a tile; those without any data are all alike and not compared."""
        self.tiles.append(tile)
        for feature, hashes in self._hashes.items():
            hashes.append(_digest(example[feature]) if valid[feature].any() else _NO_DATA)

    def duplicates(self) -> list[dict]:
        """Returns the groups of equal images: feature, tiles, and whether they are of different splits."""
        found = []
        for feature, stored in self._hashes.items():
            hashes = np.frombuffer(stored, np.uint64) if stored else np.empty(0, np.uint64)
            order = np.argsort(hashes, kind="stable")
            starts = np.flatnonzero(np.diff(hashes[order], prepend=np.uint64(_NO_DATA)))
            for group in np.split(order, starts)[1:]:
                if len(group) > 1:
                    found.append(self._group(feature, group))
        return sorted(found, key=lambda group: (not group["across_splits"], group["feature"], group["tiles"]))

    def _group(self, feature: str, indices: np.ndarray) -> dict:
        tiles = sorted(self.tiles[index] for index in indices)
        splits = {tile.split("/", 1)[0] for tile in tiles}
        return {"feature": feature, "tiles": tiles, "across_splits": len(splits) > 1}


def _digest(image: np.ndarray) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(image), digest_size=8).digest()
    return max(int.from_bytes(digest, "little"), _NO_DATA + 1)
