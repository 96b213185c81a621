r"""Packs a converted OMBRIA dataset into one file of arrays, downsampled: easily carried to a machine with a GPU.

python -m benchmarks.ombria_arrays --data_dir=R --dataset=ombria/before_after --output=ombria.npz

For benchmarks/ombria_gpu.py, which reads no records and needs no TensorFlow.
"""

from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from flood_distill import contract, files

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
_DATASET = flags.DEFINE_string("dataset", contract.OMBRIA_BEFORE_AFTER, "Dataset to pack.")
_FACTOR = flags.DEFINE_integer("factor", 2, "Pixels of a side that become one.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file.", required=True)

SPLITS = (contract.TRAIN_SPLIT, contract.VALIDATION_SPLIT, contract.TEST_SPLIT)
FEATURES = (contract.S1, contract.S2, contract.LABEL, contract.CHIP_ID)
DATASET = "dataset"
VALID = {contract.S1: "s1_valid", contract.S2: "s2_valid"}


def main(_: list[str]) -> None:
    """Packs."""
    from flood_distill import records  # here: TensorFlow takes seconds to import

    source = records.load(_DATA_DIR.value, _DATASET.value)
    arrays = {DATASET: np.array(_DATASET.value)}
    for split in SPLITS:
        examples = records.stacked(source, split, FEATURES).as_numpy_iterator()
        bar = tqdm(examples, total=source.num_examples(split), desc=split, unit="chip")
        arrays |= {f"{split}/{name}": array for name, array in packed(list(bar), _FACTOR.value).items()}
    with files.whole_file(Path(_OUTPUT.value)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{_OUTPUT.value}: {Path(_OUTPUT.value).stat().st_size / 2**20:.0f} MiB")


def packed(examples: list[dict], factor: int) -> dict[str, np.ndarray]:
    """Returns the arrays of some chips.

    Args:
        examples: decoded records of OMBRIA, their dates stacked: bands of 0 to 255.
        factor: side of the blocks of pixels that become one; it divides the chips' sides.

    Returns:
        ``s1`` and ``s2`` uint8 [chips, height, width, bands], the mean of a block's valid pixels; ``s1_valid`` and
        ``s2_valid`` bool [chips, height, width], at least half of the block is; ``label`` int8 [chips, height, width],
        1 where at least half of the block's labelled pixels are flood, -1 where none is labelled; ``chip_id`` strings.
    """
    made = {name: [] for name in (*FEATURES, *VALID.values())}
    for example in examples:
        valid = {
            contract.S1: np.isfinite(example[contract.S1]).all(axis=-1),
            contract.S2: _every_date(example[contract.S2] != contract.S2_NODATA),
        }
        for name, mask in valid.items():
            weights = _blocks(mask[..., np.newaxis].astype(np.float32), factor)
            sums = _blocks(np.where(mask[..., np.newaxis], example[name], 0).astype(np.float32), factor)
            made[name].append(np.rint(sums / np.maximum(weights, 1)).astype(np.uint8))
            made[VALID[name]].append(weights[..., 0] >= factor**2 / 2)
        label = example[contract.LABEL][..., np.newaxis]
        labelled = _blocks((label != contract.IGNORE_LABEL).astype(np.float32), factor)[..., 0]
        water = _blocks((label == contract.WATER).astype(np.float32), factor)[..., 0]
        made[contract.LABEL].append(np.where(labelled == 0, contract.IGNORE_LABEL, water * 2 >= labelled))
        made[contract.CHIP_ID].append(example[contract.CHIP_ID].decode())
    arrays = {name: np.array(values) for name, values in made.items()}
    return arrays | {contract.LABEL: arrays[contract.LABEL].astype(np.int8)}


def _every_date(observed: np.ndarray) -> np.ndarray:
    """Where some band of every date is observed, bool [height, width]."""
    return observed.reshape(*observed.shape[:2], -1, len(contract.OMBRIA.s2)).any(axis=-1).all(axis=-1)


def _blocks(array: np.ndarray, factor: int) -> np.ndarray:
    """Sums over blocks of factor x factor pixels of [height, width, bands]."""
    height, width, bands = array.shape
    return array.reshape(height // factor, factor, width // factor, factor, bands).sum(axis=(1, 3))


if __name__ == "__main__":
    app.run(main)
