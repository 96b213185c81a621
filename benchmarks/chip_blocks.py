"""OMBRIA's chips as arrays, a block of pixels become one: what benchmarks/ombria_arrays.py packs."""

import numpy as np

from flood_distill import contract

FEATURES = (contract.S1, contract.S2, contract.LABEL, contract.CHIP_ID)
VALID = {contract.S1: "s1_valid", contract.S2: "s2_valid"}


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
