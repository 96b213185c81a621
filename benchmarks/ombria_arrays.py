r"""Packs a converted OMBRIA dataset into one file of arrays, downsampled: easily carried to a machine with a GPU.

python -m benchmarks.ombria_arrays --data_dir=R --dataset=ombria/before_after --output=ombria.npz

For benchmarks/ombria_gpu.py, which reads no records and needs no TensorFlow.
"""

from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from benchmarks import chip_blocks
from flood_distill import contract, files

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of the converted datasets.", required=True)
_DATASET = flags.DEFINE_string("dataset", contract.OMBRIA_BEFORE_AFTER, "Dataset to pack.")
_FACTOR = flags.DEFINE_integer("factor", 2, "Pixels of a side that become one.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file.", required=True)

SPLITS = (contract.TRAIN_SPLIT, contract.VALIDATION_SPLIT, contract.TEST_SPLIT)
DATASET = "dataset"


def main(_: list[str]) -> None:
    """Packs."""
    from flood_distill import records  # here: TensorFlow takes seconds to import

    source = records.load(_DATA_DIR.value, _DATASET.value)
    arrays = {DATASET: np.array(_DATASET.value)}
    for split in SPLITS:
        examples = records.stacked(source, split, chip_blocks.FEATURES).as_numpy_iterator()
        bar = tqdm(examples, total=source.num_examples(split), desc=split, unit="chip")
        arrays |= {f"{split}/{name}": array for name, array in chip_blocks.packed(list(bar), _FACTOR.value).items()}
    with files.whole_file(Path(_OUTPUT.value)) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    print(f"{_OUTPUT.value}: {Path(_OUTPUT.value).stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    app.run(main)
