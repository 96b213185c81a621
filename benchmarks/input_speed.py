"""How fast the input pipeline is: ``python -m benchmarks.input_speed --num_tiles=100``.

Converts random tiles (or takes ``--data_dir`` and ``--dataset``), then times batches of each kind of training, with the
examples in memory and from their files. Prints a table and one line of JSON: examples/s, and examples per second of
processor time, which other load on the machine hardly changes.
"""

import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from data_prep import conversion, testing
from flood_distill import contract, input_pipeline, records
from flood_distill.records import Records

_NUM_TILES = flags.DEFINE_integer("num_tiles", 100, "Number of random tiles.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Time a dataset converted there instead of random tiles.")
_DATASET = flags.DEFINE_string("dataset", contract.EXTERNAL, "Its name.")
_SECONDS = flags.DEFINE_float("seconds", 4.0, "How long each case is timed, after its first batch.")
_NUM_THREADS = flags.DEFINE_integer("num_threads", 0, "Threads of the pipeline; 0 lets tf.data choose.")

_TASKS = {
    "student, S1": {"inputs": contract.INPUT_S1},
    "teacher, S1+S2": {"inputs": contract.INPUT_S1_S2},
    "distillation": {"task": input_pipeline.DISTILLATION},
}
_SIZES = ({"crop_size_px": 321, "batch_size": 64}, {"crop_size_px": 97, "batch_size": 16})  # the paper's; the demo's
_PLACES = {"memory": {}, "files": {"max_cache_bytes": 0}}
_DISTINCT = 8  # tiles that are made; the others are copies


def main(argv: list[str]) -> None:
    """Makes the tiles, times, prints."""
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        dataset = records.load(_DATA_DIR.value, _DATASET.value) if _DATA_DIR.value else make_records(Path(scratch))
        results = []
        print(f"{'':15} {'crop':>5} {'batch':>6} {'from':>7} {'examples/s':>11} {'per CPU second':>15}")
        for (task, settings), size, (place, cache) in itertools.product(_TASKS.items(), _SIZES, _PLACES.items()):
            case = {"task": task, "from": place, **size, **measure(dataset, settings | size | cache)}
            results.append(case)
            print(
                f"{task:15} {case['crop_size_px']:5} {case['batch_size']:6} {place:>7} "
                f"{case['examples_per_second']:11.0f} {case['examples_per_cpu_second']:15.0f}"
            )
    print(json.dumps({"benchmark": "input_speed", "num_tiles": dataset.num_examples("train"), "results": results}))


def make_records(folder: Path) -> Records:
    """Converts random tiles in the layout of the External Dataset; their edges have no data."""
    for number in range(_NUM_TILES.value):
        random = np.random.default_rng(number % _DISTINCT)
        shape = (contract.TILE_SIZE_PX, contract.TILE_SIZE_PX)
        s1 = random.normal(-12, 4, (*shape, len(contract.S1_BANDS))).astype(np.float32)
        s2 = random.integers(1, 3500, (*shape, len(contract.S2_BANDS)), np.int16)
        s1[:20], s2[:, :20] = contract.S1_NODATA, contract.S2_NODATA
        tile = testing.utm_grid(300000 + number * 16 * 320, 4.5e6)
        testing.write_external_tile(
            folder / "tiles", f"Benchmark_{number}", tile, arrays={contract.S1: s1, contract.S2: s2}
        )
    conversion.convert(contract.EXTERNAL, folder / "tiles", folder / "records")
    return records.load(folder / "records", contract.EXTERNAL)


def measure(dataset: Records, settings: dict) -> dict[str, float]:
    """Times batches of a training dataset for a while."""
    batches = iter(input_pipeline.training_dataset([dataset], num_threads=_NUM_THREADS.value, **settings))
    next(batches)
    num_batches, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < _SECONDS.value:
        next(batches)
        num_batches += 1
    num_examples = num_batches * settings["batch_size"]
    return {
        "examples_per_second": num_examples / (time.perf_counter() - start),
        "examples_per_cpu_second": num_examples / (time.process_time() - cpu_start),
    }


if __name__ == "__main__":
    app.run(main)
