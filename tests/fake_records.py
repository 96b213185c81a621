"""Records in memory with the methods of `flood_distill.records.Records`, for tests of what reads them."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from flood_distill import contract


class FakeRecords:
    """One split "train" (and any other name) of given examples.

    Attributes:
        num_passes: how often the examples were read from the start.
        decoded: names of the features that were asked for.
    """

    name = contract.HAND
    source = contract.SOURCE_SYNTHETIC
    imagery = contract.SENTINEL

    def __init__(self, examples: Sequence[dict[str, np.ndarray]], path: str = "memory"):
        self.examples = list(examples)
        self.path = path
        self.num_passes = 0
        self.decoded: set[str] = set()

    def num_examples(self, split: str) -> int:
        return len(self.examples)

    def num_with_s2(self, split: str) -> int:
        return sum(bool(example[contract.HAS_S2]) for example in self.examples)

    def dataset(self, split: str, features: Sequence[str] | None = None, shuffle_seed=None) -> tf.data.Dataset:
        names = list(features or self.examples[0])
        self.decoded.update(names)
        signature = {
            name: tf.TensorSpec(
                np.shape(value), tf.as_dtype(np.asarray(value).dtype) if name not in STRINGS else "string"
            )
            for name, value in self.examples[0].items()
            if name in names
        }

        def read() -> Iterator[dict[str, np.ndarray]]:
            self.num_passes += 1
            for example in self.examples:
                yield {name: example[name] for name in names}

        return tf.data.Dataset.from_generator(read, output_signature=signature)


STRINGS = (contract.CHIP_ID, contract.EVENT, contract.SOURCE, contract.CRS)


def make_example(number: int, size_px: int = 16, has_s2: bool = True) -> dict[str, np.ndarray]:
    """An example whose pixels tell where they are.

    VV = -20 + row / 20, VH = -30 + column / 20 (dB); label = (row // 4 + column // 4) modulo 2; B2 = 10 * row,
    B3 = 10 * column, B4 = number, B8 = 1000.
    """
    row, column = np.mgrid[0:size_px, 0:size_px]
    s2 = np.stack([10 * row, 10 * column, np.full_like(row, number), np.full_like(row, 1000)], axis=-1)
    return {
        contract.S1: np.stack([-20 + row / 20, -30 + column / 20], axis=-1).astype(np.float32),
        contract.S2: (s2 * has_s2).astype(np.int16),
        contract.LABEL: ((row // 4 + column // 4) % 2).astype(np.int8),
        contract.HAS_S2: np.bool_(has_s2),
        contract.CHIP_ID: f"chip_{number}",
        contract.EVENT: "Elsewhere",
    }


def make_spoiled() -> dict[str, np.ndarray]:
    """A 16 x 16 example: S1 has no data in rows 0 to 3, S2 in columns 0 to 3; the label is -1 from row 12 on."""
    example = make_example(0)
    example[contract.S1][:4] = contract.S1_NODATA
    example[contract.S2][:, :4] = contract.S2_NODATA
    example[contract.LABEL][12:] = contract.IGNORE_LABEL
    return example


def make_numbered(numbers: Sequence[int], size_px: int = 16, path: str = "memory") -> FakeRecords:
    """Records whose examples hold one value all over: VV = -20 + number / 100 dB, B4 = number."""
    examples = []
    for number in numbers:
        example = make_example(number, size_px)
        example[contract.S1][:] = (-20 + number / 100, -15)
        examples.append(example)
    return FakeRecords(examples, path)
