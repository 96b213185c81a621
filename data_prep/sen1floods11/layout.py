"""The folders of the Sen1Floods11 bucket (v1.1): which chips there are, which split they belong to."""

import csv
from collections.abc import Iterable
from pathlib import Path

from data_prep import tiles
from data_prep.tiles import Chip, Fault, LayerSpec
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import footprints, raster

CHIP_SIZE = (512, 512)
LABEL_DTYPES = ("int16", "int8", "uint8")
S2_DTYPES = ("int16", "uint16")  # the bucket's README says uint16, the files are int16
S1_DTYPES = ("float32",)

HAND_LAYERS = (
    LayerSpec(contract.S1, raster.Layer("S1Hand", 2, S1_DTYPES, CHIP_SIZE), (1, 2)),
    LayerSpec(contract.LABEL, raster.Layer("LabelHand", 1, LABEL_DTYPES, CHIP_SIZE), (1,)),
    LayerSpec(contract.S2, raster.Layer("S2Hand", 13, S2_DTYPES, CHIP_SIZE), contract.S2_FILE_INDICES, False),
    LayerSpec(contract.PERMANENT_WATER, raster.Layer("JRCWaterHand", 1, LABEL_DTYPES, CHIP_SIZE), (1,), False),
)
WEAK_LAYERS = (
    LayerSpec(contract.S1, raster.Layer("S1Weak", 2, S1_DTYPES, CHIP_SIZE), (1, 2)),
    LayerSpec(contract.LABEL, raster.Layer("S2IndexLabelWeak", 1, LABEL_DTYPES, CHIP_SIZE), (1,)),
    LayerSpec(contract.S2, raster.Layer("S2Weak", 13, S2_DTYPES, CHIP_SIZE), contract.S2_FILE_INDICES, False),
)
HAND_FOLDER = "data/flood_events/HandLabeled"
WEAK_FOLDER = "data/flood_events/WeaklyLabeled"
SPLIT_FILES = {
    contract.TRAIN_SPLIT: "splits/flood_handlabeled/flood_train_data.csv",
    contract.VALIDATION_SPLIT: "splits/flood_handlabeled/flood_valid_data.csv",
    contract.TEST_SPLIT: "splits/flood_handlabeled/flood_test_data.csv",
    contract.BOLIVIA_SPLIT: "splits/flood_handlabeled/flood_bolivia_data.csv",
}
# Ground that training data must not show.
EVALUATION_SPLITS = (contract.VALIDATION_SPLIT, contract.TEST_SPLIT, contract.BOLIVIA_SPLIT)
HELD_OUT_EVENT = "Bolivia"


def find_root(input_dir: Path) -> Path:
    """Returns the folder with ``data`` and ``splits``: `input_dir` itself or its ``v1.1``.

    Raises:
        UserError: if neither has them.
    """
    for root in (input_dir / "v1.1", input_dir):
        if (root / "splits").is_dir():
            return root
    raise UserError(
        f"{input_dir}: no v1.1/splits/flood_handlabeled in it; give the folder that holds Sen1Floods11's v1.1 "
        "(python -m data_prep.download --dataset=sen1floods11 fetches it)"
    )


def find_root_beside(tiles_dir: Path, sen1floods11_dir: Path | None) -> Path | None:
    """Returns the root in `sen1floods11_dir` or, if that is None, in a folder ``sen1floods11`` beside `tiles_dir`.

    Returns:
        The folder with ``data`` and ``splits``, or None if no folder is given and none is beside.

    Raises:
        UserError: if there is a folder and it does not hold them.
    """
    if sen1floods11_dir is not None:
        return find_root(sen1floods11_dir)
    beside = tiles_dir.resolve().parent / "sen1floods11"
    return find_root(beside) if beside.is_dir() else None


def read_splits(root: Path) -> dict[str, list[str]]:
    """Returns the chip ids of each official split, in the order of the list files.

    The files have no header row and two columns, ``X_S1Hand.tif,X_LabelHand.tif``.

    Raises:
        UserError: for a list that is not there, a line of another form, or a chip that is listed twice.
    """
    splits = {split: _read_split(root / name) for split, name in SPLIT_FILES.items()}
    seen: dict[str, str] = {}
    for split, chip_ids in splits.items():
        for chip_id in chip_ids:
            if chip_id in seen:
                raise UserError(f"{root / SPLIT_FILES[split]}: {chip_id} is listed already, in split {seen[chip_id]}")
            seen[chip_id] = split
    return splits


def hand_chips(root: Path) -> dict[str, list[Chip]]:
    """Returns the chips of each official split, there or not."""
    folders = {spec.layer.name: root / HAND_FOLDER / spec.layer.name for spec in HAND_LAYERS}
    return {
        split: [tiles.find_chip(chip_id, folders, HAND_LAYERS) for chip_id in chip_ids]
        for split, chip_ids in read_splits(root).items()
    }


def weak_chips(root: Path) -> list[Chip]:
    """Returns all weak chips of which at least one required layer is there, sorted by id.

    Raises:
        UserError: if there is none.
    """
    folders = {spec.layer.name: root / WEAK_FOLDER / spec.layer.name for spec in WEAK_LAYERS}
    names = [spec.layer.name for spec in WEAK_LAYERS if spec.required]
    chip_ids = set().union(*(tiles.list_chip_ids(folders[name], name) for name in names))
    if not chip_ids:
        raise UserError(f"{root / WEAK_FOLDER}: no files *_{names[0]}.tif in {names[0]}; download that layer first")
    return [tiles.find_chip(chip_id, folders, WEAK_LAYERS) for chip_id in sorted(chip_ids)]


def held_out_events(splits: dict[str, list[str]]) -> set[str]:
    """Returns the events that no training data may come from."""
    return {HELD_OUT_EVENT, *map(tiles.event_of, splits[contract.BOLIVIA_SPLIT])}


def evaluation_footprints(root: Path, chip_ids: Iterable[str]) -> tuple[dict[str, footprints.Box], list[Fault]]:
    """Returns the footprints of hand-labelled chips from whatever layer of them is there, and the chips without any."""
    found, faults = {}, []
    for chip_id in chip_ids:
        names = [spec.layer.name for spec in HAND_LAYERS]
        paths = [root / HAND_FOLDER / name / f"{chip_id}_{name}.tif" for name in names]
        try:
            box = tiles.read_footprint(paths)
        except UserError as error:
            faults.append(Fault(chip_id, *str(error).split(": ", 1)))
            continue
        if box is None:
            faults.append(Fault(chip_id, str(paths[0]), "missing"))
        else:
            found[chip_id] = box
    return found, faults


def _read_split(path: Path) -> list[str]:
    s1_suffix, label_suffix = (f"_{spec.layer.name}.tif" for spec in HAND_LAYERS[:2])
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise UserError(f"{path}: official split list cannot be read ({error.strerror}); download it") from error
    chip_ids = []
    for number, row in enumerate(rows, start=1):
        chip_id = row[0].strip().removesuffix(s1_suffix)
        if [field.strip() for field in row] != [chip_id + s1_suffix, chip_id + label_suffix]:
            raise UserError(f"{path}: line {number} is {','.join(row)!r}, not X{s1_suffix},X{label_suffix}")
        chip_ids.append(chip_id)
    return chip_ids
