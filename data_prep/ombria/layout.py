"""The folders of OMBRIA: ``OmbriaS1/train/AFTER/S1_after_0001.png`` and so on; which tuples there are, which split."""

from collections.abc import Sequence
from pathlib import Path

from data_prep.tiles import Chip, LayerSpec
from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.geo import raster

EVENT = "ombria"  # the published tuples do not say which of its floods they show
SIZE = (contract.OMBRIA.tile_size_px,) * 2
DTYPES = ("uint8",)
# A layer's name is its sensor and its folder. The masks of OmbriaS2 are the same as those of OmbriaS1.
AFTER_LAYERS = (
    LayerSpec(contract.S1, raster.Layer("S1/AFTER", 1, DTYPES, SIZE), (1,)),
    LayerSpec(contract.LABEL, raster.Layer("S1/MASK", 1, DTYPES, SIZE), (1,)),
    LayerSpec(contract.S2, raster.Layer("S2/AFTER", 3, DTYPES, SIZE), (1, 2, 3)),
)
BEFORE_LAYERS = (
    LayerSpec(contract.S1_BEFORE, raster.Layer("S1/BEFORE", 1, DTYPES, SIZE), (1,)),
    LayerSpec(contract.S2_BEFORE, raster.Layer("S2/BEFORE", 3, DTYPES, SIZE), (1, 2, 3)),
)
# The label of the weak configs is made of the colours of the latest image.
WEAK_LABEL = LayerSpec(contract.LABEL, raster.Layer("S2/AFTER", 3, DTYPES, SIZE), (1, 2, 3))
TRAIN_FOLDER, TEST_FOLDER = "train", "test"
VALIDATION_MODULO = 10  # ours: of the training tuples, those whose number is a multiple of this validate


def find_root(input_dir: Path) -> Path:
    """Returns the folder with ``OmbriaS1`` and ``OmbriaS2``: `input_dir` or its ``OMBRIA``.

    Raises:
        UserError: if neither has them.
    """
    for root in (input_dir, input_dir / "OMBRIA"):
        if (root / "OmbriaS1").is_dir():
            return root
    raise UserError(
        f"{input_dir}: no OmbriaS1 in it; give the folder that holds OmbriaS1 and OmbriaS2 "
        "(git clone https://github.com/geodrak/OMBRIA)"
    )


def chips(root: Path, layers: Sequence[LayerSpec]) -> dict[str, list[Chip]]:
    """Returns the tuples of each split, sorted by number, those included that lack a layer.

    Raises:
        UserError: if there is none.
    """
    training, test = (_chips(root, folder, layers) for folder in (TRAIN_FOLDER, TEST_FOLDER))
    if not training and not test:
        raise UserError(f"{root}: no files OmbriaS1/{TRAIN_FOLDER}/AFTER/S1_after_NNNN.png in it; fetch OMBRIA again")
    both = sorted(set(training) & set(test))
    if both:
        raise UserError(f"{root}: number {both[0]} is in both {TRAIN_FOLDER} and {TEST_FOLDER}; fetch OMBRIA again")
    return {
        contract.TRAIN_SPLIT: [chip for number, chip in training.items() if number % VALIDATION_MODULO],
        contract.VALIDATION_SPLIT: [chip for number, chip in training.items() if not number % VALIDATION_MODULO],
        contract.TEST_SPLIT: list(test.values()),
    }


def path(root: Path, folder: str, layer: str, number: int) -> Path:
    """Returns the file of a layer, such as ``OmbriaS1/train/AFTER/S1_after_0001.png`` for ``S1/AFTER``."""
    sensor, kind = layer.split("/")
    return root / f"Ombria{sensor}" / folder / kind / f"{sensor}_{kind.lower()}_{number:04d}.png"


def _chips(root: Path, folder: str, layers: Sequence[LayerSpec]) -> dict[int, Chip]:
    numbers = set().union(*(_numbers(path(root, folder, spec.layer.name, 0).parent) for spec in layers))
    return {
        number: Chip(
            f"{EVENT}_{number:04d}",
            EVENT,
            {spec.feature: path(root, folder, spec.layer.name, number) for spec in layers},
        )
        for number in sorted(numbers)
    }


def _numbers(folder: Path) -> set[int]:
    endings = (file.stem.rsplit("_", 1)[-1] for file in folder.glob("S*_*.png"))
    return {int(ending) for ending in endings if ending.isdecimal()}
