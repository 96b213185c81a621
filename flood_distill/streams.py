"""Infinite streams of examples, every epoch in an order of its own that follows from a seed.

A stream started at position p gives what a stream started at 0 gives after p examples, bit for bit: epoch and offset
follow from p by division.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from flood_distill import contract, mixing
from flood_distill.errors import UserError
from flood_distill.records import Records, stacked

FOREVER = tf.int64.max
_CHUNK = 32  # examples read at a time

Example = dict[str, tf.Tensor]


class OnePass:
    """One pass over a split in file order, as the records store it.

    Attributes:
        dataset: dicts of decoded `features`.
        num_examples: how many.
        specs: shape and dtype of each feature.

    Args:
        records: the dataset.
        split: name of the split.
        features: what to decode.
        only_with_s2: leave out examples without Sentinel-2.

    Raises:
        UserError: if no example is left.
    """

    def __init__(self, records: Records, split: str, features: Sequence[str], only_with_s2: bool):
        self.num_examples = records.num_with_s2(split) if only_with_s2 else records.num_examples(split)
        self._name = f"{records.path}: split {split}"
        if not self.num_examples:
            lack = "examples with Sentinel-2, which teachers and distillation need" if only_with_s2 else "examples"
            raise UserError(f"{self._name} has no {lack}; convert it anew with the missing layers")
        self.dataset = stacked(records, split, list(features))
        if only_with_s2:
            decoded = stacked(records, split, [*features, contract.HAS_S2])
            self.dataset = decoded.filter(lambda example: example[contract.HAS_S2]).map(
                lambda example: {name: example[name] for name in features}
            )
        self.specs = _specs(self.dataset)

    @property
    def num_bytes(self) -> int:
        """Memory that all examples take, decoded."""
        return self.num_examples * sum(spec.shape.num_elements() * spec.dtype.size for spec in self.specs.values())

    def load(self) -> dict[str, tf.Variable]:
        """Reads all examples into memory: [num_examples, ...] a feature.

        In variables, because tf.data copies the tensors that a dataset holds and because they fill chunk by chunk: the
        peak is one chunk above what stays.

        Raises:
            UserError: if the examples differ in size or their number is not the promised one.
        """
        with tf.device("/cpu:0"):
            memory = {
                name: tf.Variable(tf.zeros([self.num_examples, *spec.shape], spec.dtype), trainable=False)
                for name, spec in self.specs.items()
            }
            try:
                num_read = self._fill(memory)
            except tf.errors.InvalidArgumentError as error:
                raise UserError(f"{self._name} has examples of different sizes; convert it anew") from error
        if num_read != self.num_examples:
            raise UserError(f"{self._name} does not hold the {self.num_examples} examples it promises; convert it anew")
        return memory

    def _fill(self, memory: dict[str, tf.Variable]) -> int:
        num_read = 0
        for chunk in self.dataset.take(self.num_examples).batch(_CHUNK):
            size = len(next(iter(chunk.values())))
            for name, tensor in chunk.items():
                memory[name].scatter_update(tf.IndexedSlices(tensor, tf.range(num_read, num_read + size)))
            num_read += size
        return num_read


def fitting(passes: Sequence[OnePass], max_bytes: int) -> list[bool]:
    """Returns which sources to keep in memory: each that fits beside those before it."""
    fits = []
    for one_pass in passes:
        fits.append(one_pass.num_bytes <= max_bytes)
        max_bytes -= one_pass.num_bytes * fits[-1]
    return fits


def mix(
    passes: Sequence[OnePass],
    weights: Sequence[int],
    seed: int,
    start: int,
    cached: Sequence[bool],
    shuffle_buffer: int,
) -> tf.data.Dataset:
    """Returns the endless mix of several sources from example `start` on.

    Args:
        passes: one a source.
        weights: of the sources, see `mixing.counts`.
        seed: of the order.
        start: number of examples already drawn.
        cached: whether a source is read into memory, or from its files in every epoch.
        shuffle_buffer: see `file_stream`.
    """
    endless = []
    for source, position in enumerate(mixing.counts(start, weights)):
        one_pass = passes[source]
        # Negative numbers, because the numbers of the examples are taken by augmentation.
        stream_seed = tf.constant([seed, -1 - source], tf.int64)
        if cached[source]:
            endless.append(cached_stream(one_pass, stream_seed, position))
        else:
            endless.append(file_stream(one_pass, stream_seed, position, shuffle_buffer))
    if len(endless) == 1:
        return endless[0]
    choices = tf.data.Dataset.range(start, FOREVER).map(lambda number: mixing.source_of(number, weights))
    return tf.data.Dataset.choose_from_datasets(endless, choices)


def cached_stream(one_pass: OnePass, seed: tf.Tensor, start: int) -> tf.data.Dataset:
    """Reads the examples once into memory, then streams them forever; every epoch is a uniform permutation.

    Args:
        one_pass: the examples.
        seed: int64 [2].
        start: position in the stream of the first example.
    """
    memory = one_pass.load()

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        numbers = tf.range(one_pass.num_examples, dtype=tf.int64)
        epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
        shuffled = tf.random.experimental.stateless_shuffle(numbers, epoch_seed, alg="philox")
        return tf.data.Dataset.from_tensor_slices(shuffled)

    def look_up(number: tf.Tensor) -> Example:
        return {name: tf.gather(variable, number) for name, variable in memory.items()}

    return _epochs(order, one_pass.num_examples, start).map(look_up)


def file_stream(one_pass: OnePass, seed: tf.Tensor, start: int, shuffle_buffer: int) -> tf.data.Dataset:
    """Streams the examples forever from their files, for what does not fit in memory.

    The files hold the examples in hashed, hence random, order; a buffer shuffles them anew in every epoch. Starting
    within an epoch reads and drops its first examples.

    Args:
        one_pass: the examples.
        seed: int64 [2].
        start: position in the stream of the first example.
        shuffle_buffer: number of decoded examples in the buffer.
    """
    count = one_pass.num_examples
    checked = one_pass.dataset.apply(tf.data.experimental.assert_cardinality(count))

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
        # The shuffle takes one number as seed and mixes in that of the graph it is in: this function's own.
        tf.random.set_seed(1)
        number = tf.random.stateless_uniform([], epoch_seed, 0, FOREVER, tf.int64, alg="philox")
        return checked.shuffle(shuffle_buffer, seed=number, reshuffle_each_iteration=False)

    return _epochs(order, count, start)


def _epochs(order: Callable[[tf.Tensor], tf.data.Dataset], num_examples: int, start: int) -> tf.data.Dataset:
    first_epoch, offset = divmod(start, num_examples)
    return tf.data.Dataset.range(first_epoch, FOREVER).flat_map(order).skip(offset)


def _specs(dataset: tf.data.Dataset) -> dict[str, tf.TensorSpec]:
    specs = dataset.element_spec
    if all(spec.shape.is_fully_defined() for spec in specs.values()):
        return specs
    first = next(iter(dataset))
    return {name: tf.TensorSpec(tensor.shape, tensor.dtype) for name, tensor in first.items()}
