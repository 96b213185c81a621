"""One pass over a converted dataset: everything that its report says."""

import array
import dataclasses
import functools
import itertools
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tqdm

from data_prep import exclusion
from data_prep.inspection import ground, tally
from data_prep.inspection.contents import Faults, Images, tile_faults
from data_prep.inspection.tally import Tally
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo.grid import Grid
from flood_distill.records import Records

EVALUATION_GROUND = "evaluation chips"  # of Sen1Floods11, beside a dataset to train on


@dataclasses.dataclass
class Survey:
    """What was found.

    Attributes:
        tallies: by split and event.
        images: hashes of every tile's images.
        faults: what is wrong with single tiles.
        outlines: of the tiles of each split that have a place.
        damaged: why a split could not be read to the end, by split.
    """

    tallies: dict[tuple[str, str], Tally]
    images: Images
    faults: Faults
    outlines: dict[str, "Outlines"]
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)

    def by_split(self) -> dict[str, Tally]:
        """Returns the tally of each split."""
        splits = dict.fromkeys(split for split, _ in self.tallies)
        return {
            split: functools.reduce(operator.add, (some for (of, _), some in self.tallies.items() if of == split))
            for split in splits
        }


class Outlines:
    """Names and outlines of tiles, 128 bytes each."""

    def __init__(self):
        self.names: list[str] = []
        self._numbers = array.array("d")

    def add(self, name: str, corners: np.ndarray) -> None:
        """Keeps the outline of a tile, float64 [8, 2]."""
        self.names.append(name)
        self._numbers.frombytes(corners.astype(np.float64).tobytes())

    @property
    def corners(self) -> np.ndarray:
        """All outlines, float64 [tiles, 8, 2]."""
        return np.frombuffer(self._numbers, np.float64).reshape(-1, 8, 2) if self.names else np.empty((0, 8, 2))


def survey(records: Records) -> Survey:
    """Reads every tile once and counts; memory does not grow with the tiles but for about 300 bytes each.

    A split with a damaged or missing shard is not read, or not to the end; `Survey.damaged` says why.

    Raises:
        UserError: if no split can be read.
    """
    features = tuple(records.imagery.feature_bands)
    found = Survey({}, Images(features), Faults(), {})
    bar = tqdm.tqdm(total=sum(records.splits.values()), desc="Inspecting", unit="tile", mininterval=1.0)
    with bar:
        for split in records.splits:
            try:
                for example in records.dataset(split).as_numpy_iterator():
                    add(found, records, split, example)
                    bar.update()
            except (UserError, tf.errors.OpError) as error:
                found.damaged[split] = " ".join(str(error).split())
    if len(found.damaged) == len(records.splits):
        raise UserError("\n".join(found.damaged.values()))
    return found


def add(found: Survey, records: Records, split: str, example: Mapping[str, np.ndarray]) -> None:
    """Counts one decoded record of a split."""
    imagery = records.imagery
    valid = tally.validity(example, imagery.feature_bands)
    tile = f"{split}/{example[contract.CHIP_ID].decode()}"
    event = example[contract.EVENT].decode()
    found.tallies.setdefault((split, event), Tally.empty(imagery)).add(example, valid)
    found.images.add(tile, example, valid)
    for fault in tile_faults(example, valid, imagery):
        found.faults.add(fault, tile)
    if example[contract.SOURCE].decode() != records.source:
        found.faults.add(f"source is not {records.source}, as that of the dataset", tile)
    _add_outline(found, split, tile, example, valid)


def overlaps(found: Survey, records: Records, data_dir: Path) -> list[ground.Overlap]:
    """Returns tiles of different splits that show the same ground.

    The training tiles of other datasets are compared with the chips that Sen1Floods11 is evaluated on too, if its hand
    labels are converted in the same folder.
    """
    groups = {split: (outlines.corners, outlines.names) for split, outlines in found.outlines.items()}
    if records.name != contract.HAND:
        groups |= _evaluation_ground(data_dir)
    pairs = [
        (one, two)
        for one, two in itertools.combinations(groups, 2)
        if two != EVALUATION_GROUND or one == contract.TRAIN_SPLIT
    ]
    return [
        overlap
        for one, two in pairs
        for overlap in ground.overlaps(groups[one][0], groups[two][0], groups[one][1], groups[two][1])
    ]


def _evaluation_ground(data_dir: Path) -> dict[str, tuple[Sequence[np.ndarray], list[str]]]:
    known = exclusion.evaluation_ground(None, data_dir)
    if known is None:
        return {}
    names = [f"{contract.HAND} {chip_id}" for chip_id in known.boxes]
    return {EVALUATION_GROUND: ([ground.box_outline(box) for box in known.boxes.values()], names)}


def _add_outline(
    found: Survey, split: str, tile: str, example: Mapping[str, np.ndarray], valid: Mapping[str, np.ndarray]
) -> None:
    crs = example[contract.CRS].decode()
    seen = functools.reduce(operator.or_, valid.values(), example[contract.LABEL] != contract.IGNORE_LABEL)
    if not crs or not seen.any():
        return
    height, width = seen.shape
    corners = ground.outline(seen, Grid(crs, tuple(example[contract.TRANSFORM]), width, height))
    if np.isfinite(corners).all():
        found.outlines.setdefault(split, Outlines()).add(tile, corners)
    else:
        found.faults.add("its place has no longitude and latitude", tile)
