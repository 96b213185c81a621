"""From converted datasets to batches.

Training: examples of all sources in a fixed mixed order -> crop with distortion, flips -> normalisation -> colour
jitter -> batches. Example i of the stream, and every random number spent on it, follow from (seed, i): a run resumed at
step k sees the batches of the run that was not interrupted, bit for bit.

Evaluation: examples in file order, padded with invalid pixels.

Several workers share every batch: each makes its `Part`, and the batches together are those of one worker.
"""

import dataclasses
import functools
from collections.abc import Collection, Sequence

import gin
import tensorflow as tf

from flood_distill import augmentation, contract, normalization, sizes, streams
from flood_distill import mixing as mixing_rule
from flood_distill.augmentation import Augmentation, Window
from flood_distill.errors import UserError
from flood_distill.records import Records, common_imagery

SUPERVISED = "supervised"
DISTILLATION = "distillation"
TASKS = (SUPERVISED, DISTILLATION)

# Stage 2 geometry, two readings of section 3.2.
SAME_CROP = "same_crop"  # the teacher sees the student's crop, without colour jitter
CLEAN_TILE = "clean_tile"  # the teacher sees the whole tile; the step reads its output through the student's window
TEACHER_VIEWS = (SAME_CROP, CLEAN_TILE)

# What padding holds, for the features that have rows and columns.
_PADDING = {
    contract.S1: contract.S1_NODATA,
    contract.S2: contract.S2_NODATA,
    contract.LABEL: contract.IGNORE_LABEL,
    contract.PERMANENT_WATER: contract.IGNORE_LABEL,
}
_RANDOM_PARTS = _GEOMETRY, _S1_JITTER, _S2_JITTER = range(3)  # what an example draws random numbers for

Example = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Part:
    """What one of several input pipelines makes of every global batch: as many examples as all the others.

    Attributes:
        index: number of the pipeline, counted from 0.
        count: number of pipelines: one a worker.
        num_replicas: of all workers. What a pipeline gives is split into batches of one replica.
    """

    index: int = 0
    count: int = 1
    num_replicas: int = 1

    def replica_batch_size(self, batch_size: int) -> int:
        """Returns the examples of one replica in a global batch of at least `batch_size`."""
        return -(-batch_size // self.num_replicas)


WHOLE = Part()


@gin.configurable
def training_dataset(
    sources: Sequence[Records],
    *,
    mixing: str = mixing_rule.BY_SIZE,
    task: str = SUPERVISED,
    inputs: str = contract.INPUT_S1,
    batch_size: int = 64,
    crop_size_px: int = 321,
    teacher_inputs: str = contract.INPUT_S1_S2,
    label_weights: Sequence[float] | None = None,
    seed: int = 0,
    start_step: int = 0,
    split: str = contract.TRAIN_SPLIT,
    output_stride: int = 16,
    teacher_view: str = SAME_CROP,
    max_cache_bytes: int = 2 * 1024**3,
    shuffle_buffer: int = 256,
    num_threads: int = 0,
    part: Part = WHOLE,
    only_ids: bool = False,
) -> tf.data.Dataset:
    """Returns an endless dataset of training batches.

    Args:
        sources: the datasets to mix.
        mixing: ``size`` (every example equally often) or ``equal`` (exactly the same share of every batch, section
            3.2).
        task: ``supervised`` or ``distillation``.
        inputs: what the trained network looks at, one of `contract.INPUTS`; a distilled student looks at ``s1``.
        batch_size: examples a batch (appendix B: 64).
        crop_size_px: height and width of an example (appendix B: 321).
        teacher_inputs: what the teacher of a distillation looks at, one of `contract.TEACHER_INPUTS`.
        label_weights: distillation only: how much a labelled pixel of each source counts; None reads no label.
        seed: of order and augmentation.
        start_step: number of batches already seen.
        split: which split of the sources.
        output_stride: tiles are padded to k * output_stride + 1 with invalid pixels before the crop.
        teacher_view: ``same_crop`` or ``clean_tile``; ours, the paper can be read both ways.
        max_cache_bytes: sources are kept in memory, decoded, as long as they fit in this; ours.
        shuffle_buffer: examples in the shuffle buffer of a source that is not kept in memory; ours.
        num_threads: threads of the pipeline; 0 lets tf.data choose; ours.
        part: which examples of every batch to give. All pipelines read all examples, and make only their own.
        only_ids: give `contract.CHIP_ID` and `contract.DATASET` (string [batch]) of the same examples and nothing else.

    Returns:
        Batches with static shapes, of the size that one replica gets. Supervised: `contract.IMAGE` float32 [batch,
        crop, crop, channels] in [0, 1] and `contract.LABEL` int32 [batch, crop, crop], -1 where the label is -1 or the
        input is not valid. Distillation: `contract.IMAGE` (Sentinel-1, jittered), `contract.TEACHER_IMAGE` (what the
        teacher looks at, not jittered) and `contract.VALID` bool [batch, crop, crop], where Sentinel-1 and 2 are valid;
        the label is not even decoded, unless `label_weights` adds `contract.LABEL`, -1 where Sentinel-1 is not valid,
        and `contract.LABEL_WEIGHT` float32 [batch]. ``clean_tile`` makes the teacher's image [batch, padded, padded,
        channels] and adds `contract.TEACHER_ROWS` and `TEACHER_COLUMNS`, float32 [batch, crop], for
        `augmentation.warp_logits`. With several sources there is `contract.DATASET_INDEX` int32 [batch], the place of
        each example's among them.

    Raises:
        UserError: for settings that do not fit together or a source without usable examples.
    """
    # 1. Settings.
    _check_training(sources, mixing, task, inputs, teacher_inputs, teacher_view, batch_size, start_step, num_threads)
    imagery = common_imagery(sources)
    needs_s2 = task == DISTILLATION or inputs in contract.TEACHER_INPUTS
    needs_label = task == SUPERVISED or label_weights is not None
    features = (contract.S1,) + (contract.S2,) * needs_s2 + (contract.LABEL,) * needs_label
    ranges = augmentation.augmentation()
    if batch_size % part.num_replicas:
        raise UserError(f"batch_size={batch_size}: not a multiple of the {part.num_replicas} replicas")

    # 2. The endless mix of the sources, from the position that the steps already made have reached.
    start = start_step * batch_size
    passes = [streams.OnePass(records, split, features, needs_s2) for records in sources]
    canvas_px = _canvas_px(passes, output_stride, crop_size_px)
    weights = mixing_rule.weights(mixing, [one_pass.num_examples for one_pass in passes])
    cached = streams.fitting(passes, max_cache_bytes)
    if only_ids:
        passes = [streams.OnePass(records, split, (contract.CHIP_ID,), needs_s2) for records in sources]
    mixed = streams.mix(passes, weights, seed, start, cached, shuffle_buffer)
    numbered = tf.data.Dataset.zip(tf.data.Dataset.range(start, streams.FOREVER), mixed)
    if part.count > 1:
        numbered = numbered.filter(lambda number, _: number % batch_size * part.count // batch_size == part.index)

    # 3. Example by example: what it is called, or one resampling, normalisation, colour jitter. Then batches.
    names = tf.constant([records.name for records in sources])

    def make_example(number: tf.Tensor, tile: Example) -> Example:
        if only_ids:
            return tile | {contract.DATASET: names[mixing_rule.source_of(number, weights)]}
        made = make_images(number, tile)
        if len(sources) > 1:
            made[contract.DATASET_INDEX] = tf.cast(mixing_rule.source_of(number, weights), tf.int32)
        return made

    def make_images(number: tf.Tensor, tile: Example) -> Example:
        seeds = _example_seeds(seed, number)
        window = augmentation.random_window(ranges, seeds[_GEOMETRY], canvas_px, crop_size_px)
        if task == SUPERVISED:
            return _supervised_example(tile, window, ranges, seeds, imagery, inputs)
        made = _distillation_example(tile, window, ranges, seeds, imagery, teacher_inputs)
        if teacher_view == CLEAN_TILE:
            made |= _clean_tile(tile, window, canvas_px, imagery, teacher_inputs)
        if label_weights is not None:
            made[contract.LABEL_WEIGHT] = tf.gather(
                tf.constant(label_weights, tf.float32), mixing_rule.source_of(number, weights)
            )
        return made

    examples = numbered.map(make_example, num_parallel_calls=num_threads or tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(part.replica_batch_size(batch_size), drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    return batches.with_options(_options(num_threads))


def evaluation_dataset(
    records: Records,
    split: str,
    *,
    inputs: str,
    output_stride: int,
    batch_size: int,
    pad_to_full_batch: bool = True,
    features: Sequence[str] = (contract.CHIP_ID, contract.EVENT),
    part: Part = WHOLE,
    teacher_inputs: str = "",
) -> tf.data.Dataset:
    """Returns one pass over a split in file order, padded at the bottom and right with invalid pixels.

    Args:
        records: the dataset.
        split: name of the split.
        inputs: what the network looks at, one of `contract.INPUTS`. Examples without Sentinel-2 are there in any case.
        output_stride: tiles are padded to the next k * output_stride + 1.
        batch_size: examples a batch.
        pad_to_full_batch: fill the last batch with examples that are nodata all over, chip_id empty, so that all
            batches have the same static shape; without it the last batch may be smaller.
        features: more record features to pass on; what has rows and columns is padded with its no-data value.
            Strings cannot go to GPUs and TPUs: give () where a strategy distributes the batches.
        part: which examples to give; several pipelines together give each once, in as many batches each, filled up.
        teacher_inputs: what a teacher looks at that the network is compared with; empty for none.

    Returns:
        Batches, of the size that one replica gets, of `contract.IMAGE` float32 [batch, padded, padded, channels] in
        [0, 1], `contract.LABEL` int32 [batch, padded, padded], and `features` as the records store them. The label is
        -1 where the record says so, where Sentinel-1 is not finite and in the padding: every network scores the same
        pixels. With a teacher also `contract.TEACHER_IMAGE`, made as `IMAGE`, and `contract.VALID` bool [batch, padded,
        padded], where Sentinel-1 and 2 are valid.

    Raises:
        UserError: for settings that make no sense or a split that is not there.
    """
    _check_choice("inputs", inputs, contract.INPUTS)
    _check_at_least("batch_size", batch_size, 1)
    needs_s2 = not {inputs, teacher_inputs}.isdisjoint(contract.TEACHER_INPUTS)
    needed = (contract.S1,) + (contract.S2,) * needs_s2 + (contract.LABEL,)
    one_pass = streams.OnePass(records, split, tuple(dict.fromkeys((*needed, *features))), only_with_s2=False)
    tile_px = one_pass.specs[contract.S1].shape[:2]
    padded_px = [sizes.padded_size_px(size, output_stride) for size in tile_px]
    specs = {name: _padded_spec(name, spec, padded_px) for name, spec in one_pass.specs.items()}

    def pad(example: Example) -> Example:
        return {name: _pad(name, tensor, specs[name].shape) for name, tensor in example.items()}

    def make_example(example: Example) -> Example:
        s1 = example[contract.S1]
        label = tf.where(normalization.s1_valid(s1), example[contract.LABEL], contract.IGNORE_LABEL)
        made = {name: example[name] for name in features}
        made[contract.IMAGE] = normalization.network_input(inputs, s1, example.get(contract.S2), records.imagery)
        made[contract.LABEL] = tf.cast(label, tf.int32)
        if teacher_inputs:
            s2 = example[contract.S2]
            made[contract.TEACHER_IMAGE] = normalization.network_input(teacher_inputs, s1, s2, records.imagery)
            made[contract.VALID] = normalization.s1_valid(s1) & normalization.s2_valid(s2, records.imagery)
        return made

    examples = one_pass.dataset.map(pad)
    replica_batch_size = part.replica_batch_size(batch_size)
    if pad_to_full_batch:
        filler = tf.data.Dataset.from_tensors({name: _filler(name, spec) for name, spec in specs.items()})
        examples = examples.concatenate(
            filler.repeat(-one_pass.num_examples % (replica_batch_size * part.num_replicas))
        )
    if part.count > 1:
        examples = examples.shard(part.count, part.index)
    examples = examples.map(make_example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    batches = examples.batch(replica_batch_size, drop_remainder=pad_to_full_batch)
    return batches.prefetch(tf.data.AUTOTUNE).with_options(_options(0))


def _supervised_example(
    tile: Example,
    window: Window,
    ranges: Augmentation,
    seeds: list[tf.Tensor],
    imagery: contract.Imagery,
    inputs: str,
) -> Example:
    tile, window = augmentation.cut(tile, window)
    planes, valids = [], []
    if inputs != contract.INPUT_S2:
        radar, valid = _read_s1(tile, window, imagery)
        planes.append(augmentation.jitter(radar, valid, ranges.s1_brightness, ranges.s1_contrast, seeds[_S1_JITTER]))
        valids.append(valid)
    if inputs != contract.INPUT_S1:
        optical, valid = _read_s2(tile, window, imagery)
        planes.append(augmentation.jitter(optical, valid, ranges.s2_brightness, ranges.s2_contrast, seeds[_S2_JITTER]))
        valids.append(valid)
    label = _read_label(tile, window, functools.reduce(tf.logical_and, valids))
    return {contract.IMAGE: _channels_last(tf.concat(planes, axis=0)), contract.LABEL: label}


def _distillation_example(
    tile: Example,
    window: Window,
    ranges: Augmentation,
    seeds: list[tf.Tensor],
    imagery: contract.Imagery,
    teacher_inputs: str,
) -> Example:
    tile, window = augmentation.cut(tile, window)
    planes, valid = _read_s1(tile, window, imagery)
    optical, optical_valid = _read_s2(tile, window, imagery)
    jittered = augmentation.jitter(planes, valid, ranges.s1_brightness, ranges.s1_contrast, seeds[_S1_JITTER])
    of_teacher = [optical] if teacher_inputs == contract.INPUT_S2 else [planes, optical]
    made = {
        contract.IMAGE: _channels_last(jittered),
        contract.TEACHER_IMAGE: _channels_last(tf.concat(of_teacher, axis=0)),
        contract.VALID: valid & optical_valid,
    }
    return made | {contract.LABEL: _read_label(tile, window, valid)} if contract.LABEL in tile else made


def _clean_tile(
    tile: Example, window: Window, canvas_px: Sequence[int], imagery: contract.Imagery, teacher_inputs: str
) -> Example:
    """What the teacher gets instead of the crop, where it sees the whole tile."""
    s1, s2 = (_pad(name, tile[name], [*canvas_px, tile[name].shape[-1]]) for name in (contract.S1, contract.S2))
    return {
        contract.TEACHER_IMAGE: normalization.network_input(teacher_inputs, s1, s2, imagery),
        contract.TEACHER_ROWS: window.rows,
        contract.TEACHER_COLUMNS: window.columns,
    }


def _read_s1(tile: Example, window: Window, imagery: contract.Imagery) -> tuple[tf.Tensor, tf.Tensor]:
    s1 = tile[contract.S1]
    values, valid = augmentation.resample(s1, normalization.s1_valid(s1), window)
    return normalization.normalize(values, valid, imagery.s1_bands, channels_first=True), valid


def _read_s2(tile: Example, window: Window, imagery: contract.Imagery) -> tuple[tf.Tensor, tf.Tensor]:
    s2 = tile[contract.S2]
    values, valid = augmentation.resample(s2, normalization.s2_valid(s2, imagery), window)
    return normalization.normalize(values, valid, imagery.s2_bands, channels_first=True), valid


def _read_label(tile: Example, window: Window, valid: tf.Tensor) -> tf.Tensor:
    """Returns int32 [height, width], -1 where the label is -1 or the input is not valid."""
    label = augmentation.nearest(tile[contract.LABEL], window, contract.IGNORE_LABEL)
    label = tf.where(valid, label, tf.constant(contract.IGNORE_LABEL, label.dtype))
    return tf.cast(label, tf.int32)


def _channels_last(planes: tf.Tensor) -> tf.Tensor:
    return tf.transpose(planes, [1, 2, 0])


def _example_seeds(seed: int, number: tf.Tensor) -> list[tf.Tensor]:
    example_seed = tf.stack([tf.constant(seed, tf.int64), number])
    return [tf.random.experimental.stateless_fold_in(example_seed, part) for part in _RANDOM_PARTS]


def _canvas_px(passes: Sequence[streams.OnePass], output_stride: int, crop_size_px: int) -> list[int]:
    tiles = {tuple(one_pass.specs[contract.S1].shape[:2]) for one_pass in passes}
    if len(tiles) > 1:
        raise UserError(f"training sources have tiles of different sizes: {sorted(tiles)}; train on one of them")
    canvas_px = [sizes.padded_size_px(size, output_stride) for size in tiles.pop()]
    if not 1 <= crop_size_px <= min(canvas_px):
        raise UserError(f"crop_size_px={crop_size_px}: give 1 to {min(canvas_px)}, the size of a padded tile")
    return canvas_px


def _padded_spec(name: str, spec: tf.TensorSpec, padded_px: Sequence[int]) -> tf.TensorSpec:
    shape = [*padded_px, *spec.shape[2:]] if name in _PADDING else spec.shape
    return tf.TensorSpec(shape, spec.dtype)


def _pad(name: str, tensor: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    if name not in _PADDING:
        return tensor
    margins = [[0, size - now] for size, now in zip(shape, tf.unstack(tf.shape(tensor)), strict=True)]
    padded = tf.pad(tensor, margins, constant_values=tf.cast(_PADDING[name], tensor.dtype))
    return tf.ensure_shape(padded, shape)


def _filler(name: str, spec: tf.TensorSpec) -> tf.Tensor:
    if spec.dtype == tf.string:
        return tf.fill(spec.shape, "")
    return tf.fill(spec.shape, tf.cast(_PADDING.get(name, 0), spec.dtype))


def _options(num_threads: int) -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    if num_threads:
        options.threading.private_threadpool_size = num_threads
    return options


def _check_training(
    sources: Sequence[Records],
    mixing: str,
    task: str,
    inputs: str,
    teacher_inputs: str,
    teacher_view: str,
    batch_size: int,
    start_step: int,
    num_threads: int,
) -> None:
    _check_choice("mixing", mixing, mixing_rule.MIXINGS)
    _check_choice("task", task, TASKS)
    _check_choice("inputs", inputs, contract.INPUTS)
    _check_choice("teacher_inputs", teacher_inputs, contract.TEACHER_INPUTS)
    _check_choice("teacher_view", teacher_view, TEACHER_VIEWS)
    _check_at_least("batch_size", batch_size, 1)
    _check_at_least("start_step", start_step, 0)
    _check_at_least("num_threads", num_threads, 0)
    if task == DISTILLATION and inputs != contract.INPUT_S1:
        raise UserError(f"inputs={inputs!r}: a distilled student looks at {contract.INPUT_S1!r}")
    if mixing == mixing_rule.EQUAL and batch_size % len(sources):
        raise UserError(
            f"batch_size={batch_size}: not a multiple of the {len(sources)} sources that mixing='equal' shares it among"
        )


def _check_choice(setting: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise UserError(f"{setting}={value!r}: not one of {', '.join(choices)}")


def _check_at_least(setting: str, value: int, least: int) -> None:
    if value < least:
        raise UserError(f"{setting}={value}: give at least {least}")
