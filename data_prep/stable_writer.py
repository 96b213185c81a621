"""Writes records whose bytes depend on their contents alone."""

import os
from collections.abc import Iterable

import tensorflow as tf
from tensorflow_datasets.core import writer


class StableWriter(writer.ExampleWriter):
    """TFDS's writer with the features of every record in order.

    The order in which protobuf serializes a map, here the features of a `tf.train.Example`, changes from process to
    process. Without this, two conversions of the same tiles would give shards of different hashes.
    """

    def write(self, path: os.PathLike, examples: Iterable[tuple[int | bytes, bytes]]):
        """Writes one shard of serialized `tf.train.Example`; see `writer.ExampleWriter.write`."""
        return super().write(path, ((key, _in_order(example)) for key, example in examples))


def _in_order(example: bytes) -> bytes:
    return tf.train.Example.FromString(example).SerializeToString(deterministic=True)
