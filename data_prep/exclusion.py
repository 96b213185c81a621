"""Keeps ground that is evaluated on out of training data."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import tqdm

from data_prep import tiles
from data_prep.sen1floods11 import layout
from data_prep.tiles import Chip, Fault
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import footprints

MEETS_EVALUATION = "meets a validation, test or Bolivia chip"
HELD_OUT_EVENT = "of the held-out event"


@dataclasses.dataclass(frozen=True)
class EvaluationGround:
    """The footprints of all validation, test and Bolivia chips.

    Attributes:
        boxes: west, south, east, north in degrees, by chip id.
        unknown: the chips whose footprint is not known, each with the file that would tell.
        events: events that are held out altogether.
    """

    boxes: dict[str, footprints.Box]
    unknown: list[Fault]
    events: set[str]


def evaluation_ground(root: Path | None, data_dir: Path | None = None) -> EvaluationGround | None:
    """Returns what is evaluated on, from Sen1Floods11's files and, where they lack, from a converted ``hand``.

    Args:
        root: the folder with Sen1Floods11's ``data`` and ``splits``, or None.
        data_dir: root of converted datasets, or None.

    Returns:
        The ground, or None if neither source is there.
    """
    stored = {} if data_dir is None else _stored_footprints(data_dir)
    if root is None:
        return EvaluationGround(stored, [], {layout.HELD_OUT_EVENT}) if stored else None
    splits = layout.read_splits(root)
    chip_ids = [chip_id for split in layout.EVALUATION_SPLITS for chip_id in splits[split]]
    found, faults = layout.evaluation_footprints(root, chip_ids)
    reason = "no footprint, so its ground cannot be kept out of training: "
    unknown = [
        dataclasses.replace(fault, reason=reason + fault.reason) for fault in faults if fault.chip_id not in stored
    ]
    return EvaluationGround(stored | found, unknown, layout.held_out_events(splits))


def exclude(chips: Sequence[Chip], ground: EvaluationGround) -> tuple[list[Chip], dict[str, list[str]]]:
    """Splits chips into those that may be trained on and those that may not.

    A chip whose files tell no footprint is kept: conversion lists it with all faults later on.

    Returns:
        The chips to keep, and the ids of those excluded by reason.
    """
    held_out = [chip.chip_id for chip in chips if chip.event in ground.events]
    rest = [chip for chip in chips if chip.event not in ground.events]
    progress = tqdm.tqdm(rest, desc="Comparing footprints", unit="chip", leave=False, mininterval=1.0)
    boxes = {chip.chip_id: box for chip in progress if (box := _footprint(chip)) is not None}
    meets = footprints.meets(list(boxes.values()), list(ground.boxes.values()))
    overlapping = {chip_id for chip_id, hit in zip(boxes, meets, strict=True) if hit}
    excluded = {HELD_OUT_EVENT: held_out, MEETS_EVALUATION: sorted(overlapping)}
    return [chip for chip in rest if chip.chip_id not in overlapping], excluded


def _footprint(chip: Chip) -> footprints.Box | None:
    try:
        return tiles.read_footprint(list(chip.files.values()))
    except UserError:
        return None


def _stored_footprints(data_dir: Path) -> dict[str, footprints.Box]:
    found: dict[str, footprints.Box] = {}
    for path in sorted((data_dir / contract.HAND).glob("[0-9]*/metadata.json")):
        by_split = json.loads(path.read_text()).get(contract.FOOTPRINTS, {})
        for split in layout.EVALUATION_SPLITS:
            found |= {chip_id: tuple(box) for chip_id, box in by_split.get(split, {}).items()}
    return found
