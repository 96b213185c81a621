"""Where the time of an S1+S2 training example goes: ``python -m benchmarks.input_stages``.

Runs the stages of the input pipeline one by one at 321x321, each on what the stage before it left in memory, on all
cores, and prints for each the examples/s, the bytes that it must read and write an example, its floating point
operations an example, and the floor: the time that a plain copy of as many bytes takes on as many cores in the same
run. The last lines are the whole pipeline, from memory and from files, in batches of 64.
"""

import concurrent.futures
import glob
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import input_speed
from flood_distill import augmentation, contract, normalization, records

_CROP_PX, _BATCH_SIZE = 321, 64  # appendix B
_TILE_PX = contract.TILE_SIZE_PX
_BANDS = len(contract.S1_BANDS) + len(contract.S2_BANDS)
_TILE_BYTES = _TILE_PX**2 * (4 * len(contract.S1_BANDS) + 2 * len(contract.S2_BANDS) + 1)  # float32, int16, int8 label
_PIXELS = _CROP_PX**2
_IMAGE_BYTES = 4 * _PIXELS * _BANDS
_EXAMPLE_BYTES = _IMAGE_BYTES + 4 * _PIXELS  # image and label of a batch

# stage -> (bytes read and written an example, floating point operations an example)
_COSTS = {
    "read records": (_TILE_BYTES, 0),
    "decode": (2 * _TILE_BYTES, 0),
    # Two passes (rows, columns) over every band and one plane of validity for S1 and for S2: 2 products and 1 sum each.
    "resample": (_TILE_BYTES + _IMAGE_BYTES, 2 * 3 * _PIXELS * (_BANDS + 2)),
    "normalise": (2 * _IMAGE_BYTES, 4 * _PIXELS * _BANDS),  # difference, quotient, two bounds
    "jitter": (2 * _IMAGE_BYTES, 6 * _PIXELS * _BANDS),
    "transpose and batch": (2 * _EXAMPLE_BYTES, 0),
}


def main(argv: list[str]) -> None:
    """Makes the tiles, times the stages, prints."""
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        dataset = input_speed.make_records(Path(scratch))
        copied = copy_rate()
        rates = stage_rates(dataset)
        results = [_row(stage, rates[stage], *_COSTS[stage], copied) for stage in _COSTS]
        whole = tuple(np.sum(list(_COSTS.values()), axis=0))
        for place, cache in (("memory", {}), ("files", {"max_cache_bytes": 0})):
            settings = {"inputs": contract.INPUT_S1_S2, "crop_size_px": _CROP_PX, "batch_size": _BATCH_SIZE, **cache}
            rate = input_speed.measure(dataset, settings)["examples_per_second"]
            results.append(_row(f"whole pipeline, from {place}", rate, *whole, copied))
    print(f"\ncopies of memory: {copied / 1e9:.1f} GB/s on {os.cpu_count()} cores")
    print(f"{'stage':30} {'examples/s':>11} {'MB':>6} {'MFLOP':>6} {'floor, examples/s':>18} {'times the floor':>16}")
    for row in results:
        print(
            f"{row['stage']:30} {row['examples_per_second']:11.0f} {row['bytes'] / 1e6:6.1f} {row['flop'] / 1e6:6.1f} "
            f"{row['floor_examples_per_second']:18.0f} {row['times_the_floor']:16.1f}"
        )
    print(json.dumps({"benchmark": "input_stages", "copy_bytes_per_second": copied, "results": results}))


def copy_rate() -> float:
    """Returns the bytes read and written a second by a plain copy on all cores."""
    source = np.ones((os.cpu_count(), 1 << 26), np.uint8)
    target = np.empty_like(source)
    with concurrent.futures.ThreadPoolExecutor(len(source)) as pool:
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(np.copyto, target, source))
            seconds.append(time.perf_counter() - start)
    return 2 * source.nbytes / float(np.median(seconds))


def stage_rates(dataset: records.Records) -> dict[str, float]:
    """Returns examples/s of each stage of `_COSTS`, by the functions that the pipeline calls."""
    shards = glob.glob(f"{dataset.path}/*.tfrecord*")
    features = (contract.S1, contract.S2, contract.LABEL)
    ranges = augmentation.augmentation()
    tile = next(iter(dataset.dataset(contract.TRAIN_SPLIT, features=features)))
    window = augmentation.random_window(ranges, tf.constant([0, 1], tf.int64), (_CROP_PX, _CROP_PX), _CROP_PX)
    s1_valid, s2_valid = normalization.s1_valid(tile[contract.S1]), normalization.s2_valid(tile[contract.S2])

    def resample() -> tuple[tf.Tensor, ...]:
        s1, valid = augmentation.resample(tile[contract.S1], s1_valid, window)
        s2, optical_valid = augmentation.resample(tile[contract.S2], s2_valid, window)
        return s1, valid, s2, optical_valid, augmentation.nearest(tile[contract.LABEL], window, contract.IGNORE_LABEL)

    s1, valid, s2, optical_valid, label = resample()

    def normalise() -> tuple[tf.Tensor, ...]:
        return (
            normalization.normalize(s1, valid, contract.S1_BANDS, channels_first=True),
            normalization.normalize(s2, optical_valid, contract.S2_BANDS, channels_first=True),
        )

    radar, optical = normalise()

    def jitter() -> tuple[tf.Tensor, ...]:
        seed = tf.constant([0, 2], tf.int64)
        return (
            augmentation.jitter(radar, valid, ranges.s1_brightness, ranges.s1_contrast, seed),
            augmentation.jitter(optical, optical_valid, ranges.s2_brightness, ranges.s2_contrast, seed),
        )

    def example() -> tuple[tf.Tensor, ...]:
        return tf.transpose(tf.concat([radar, optical], axis=0), [1, 2, 0]), tf.cast(label, tf.int32)

    num_files = tf.data.TFRecordDataset(shards, num_parallel_reads=tf.data.AUTOTUNE)
    return {
        "read records": _rate(num_files.repeat()),
        "decode": _rate(dataset.dataset(contract.TRAIN_SPLIT, features=features).repeat()),
        "resample": _rate(_each(resample)),
        "normalise": _rate(_each(normalise)),
        "jitter": _rate(_each(jitter)),
        "transpose and batch": _BATCH_SIZE * _rate(_each(example).batch(_BATCH_SIZE)),
    }


def _each(stage: Callable[[], tuple[tf.Tensor, ...]]) -> tf.data.Dataset:
    return tf.data.Dataset.range(1 << 40).map(lambda number: stage(), num_parallel_calls=tf.data.AUTOTUNE)


def _rate(dataset: tf.data.Dataset, seconds: float = 3.0) -> float:
    """Returns elements/s after the first few."""
    elements = iter(dataset.prefetch(tf.data.AUTOTUNE))
    list(itertools.islice(elements, 8))
    number, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        next(elements)
        number += 1
    return number / (time.perf_counter() - start)


def _row(stage: str, rate: float, num_bytes: int, flop: int, copied: float) -> dict:
    floor = copied / float(num_bytes)
    return {
        "stage": stage,
        "examples_per_second": rate,
        "bytes": int(num_bytes),
        "flop": int(flop),
        "floor_examples_per_second": floor,
        "times_the_floor": floor / rate,
    }


if __name__ == "__main__":
    flags.FLAGS.set_default("num_tiles", 60)
    app.run(main)
