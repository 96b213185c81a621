"""How fast conversion is against the bare work: ``python -m benchmarks.convert_speed --num_tiles=200``.

Writes chips in the layout and with the dtypes of Sen1Floods11 (speckle, so they compress as badly as real ones), then
times on the same number of processes, in turn and after a warm-up,

* `bare`: rasterio reads the layers and `rasterio.warp.reproject` warps them to the tile grid,
* `read_chip`: our reading, checking and warping,
* `convert`: all of `data_prep.convert`: checking, reading, warping, encoding, writing, hashing.

Prints a table and one line of JSON. ``speed_share`` is the speed of convert over that of bare; ``cpu_share`` the same
for processor time of all processes, which other load on the machine hardly changes.
"""

import functools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks import bare_warp
from data_prep import conversion, tiles, workers
from data_prep.sen1floods11 import layout
from data_prep.tiles import Chip
from flood_distill import contract
from flood_distill.geo import raster
from flood_distill.geo.grid import Grid

_NUM_TILES = flags.DEFINE_integer("num_tiles", 200, "Number of tiles.")
_NUM_WORKERS = flags.DEFINE_integer("num_workers", workers.num_cores(), "Processes; 0 for this one alone.")
_REPEATS = flags.DEFINE_integer("repeats", 3, "How often each is timed; the median counts.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Where the tiles go; a temporary folder if not given.")

_DISTINCT = 8  # chips that are made; the others are copies
_DEGREES_PER_PX = 8.983152841195215e-05  # of Sen1Floods11
_SPLIT_OF = {0: contract.VALIDATION_SPLIT, 1: contract.TEST_SPLIT, 2: contract.BOLIVIA_SPLIT}


def main(argv: list[str]) -> None:
    """Makes the tiles, times, prints."""
    del argv
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(_OUTPUT_DIR.value or scratch) / "tiles"
        make_tiles(root, _NUM_TILES.value)
        chips = [chip for some in layout.hand_chips(root).values() for chip in some]
        timed = {
            "bare": lambda: _run_all(bare_warp.read_and_warp, chips),
            "read_chip": lambda: _run_all(functools.partial(tiles.read_chip, specs=layout.HAND_LAYERS), chips),
            "convert": lambda: conversion.convert(
                contract.HAND, root, Path(scratch) / "records", overwrite=True, num_workers=_NUM_WORKERS.value
            ),
        }
        conversion.convert(contract.HAND, root, Path(scratch) / "records")  # imports TensorFlow, fills the page cache
        seconds = {name: [] for name in timed}
        for _ in range(_REPEATS.value):
            for name, function in timed.items():
                seconds[name].append(_seconds(function))
    medians = {name: [statistics.median(some) for some in zip(*found, strict=True)] for name, found in seconds.items()}
    _report(medians, len(chips))


def make_tiles(root: Path, num_tiles: int) -> None:
    """Writes chips with all four layers and the split lists."""
    listed = {split: [] for split in layout.SPLIT_FILES}
    made: list[dict[str, bytes]] = []
    for number in range(num_tiles):
        if number < _DISTINCT:
            made.append(_make_chip(root, number))
        chip_id = f"Benchmark_{number}"
        for name, content in made[number % _DISTINCT].items():
            path = root / layout.HAND_FOLDER / name / f"{chip_id}_{name}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        listed[_SPLIT_OF.get(number, contract.TRAIN_SPLIT)].append(chip_id)
    for split, name in layout.SPLIT_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{chip_id}_S1Hand.tif,{chip_id}_LabelHand.tif\r\n" for chip_id in listed[split]]
        (root / name).write_text("".join(lines), newline="")


def _make_chip(root: Path, number: int) -> dict[str, bytes]:
    """Returns the bytes of the four files of a chip."""
    random = np.random.default_rng(number)
    step = _DEGREES_PER_PX
    height, width = layout.CHIP_SIZE
    grid = Grid("EPSG:4326", (step, 0.0, number * 0.1, 0.0, -step, 40.0), width, height)
    water = np.add.outer(np.arange(height), np.arange(width)) % 512 < 128
    speckle_db = 10 * np.log10(random.gamma(4.0, 0.25, (height, width, 2)))
    s1 = np.where(water[..., None], -20.0, -10.0) + speckle_db
    s2 = 1500 + 300 * random.standard_normal((height, width, len(contract.S2_FILE_BANDS)))
    arrays = {
        "S1Hand": (s1.astype(np.float32), np.nan),
        "S2Hand": (s2.astype(np.int16), contract.S2_NODATA),
        "LabelHand": (water.astype(np.int16), None),
        "JRCWaterHand": (water.astype(np.int16), None),
    }
    made = {}
    for name, (array, nodata) in arrays.items():
        path = root / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        raster.write_geotiff(path, array, grid, nodata, cog=False)
        made[name] = path.read_bytes()
        path.unlink()
    return made


def _run_all(function: Callable[[Chip], object], chips: Sequence[Chip]) -> None:
    pool = workers.Workers(_NUM_WORKERS.value)
    for _ in pool.map(function, chips):
        pass
    pool.close()


def _seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Returns wall time and processor time, that of ended child processes included."""
    start, cpu_start = time.perf_counter(), _cpu_seconds()
    function()
    return time.perf_counter() - start, _cpu_seconds() - cpu_start


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _report(medians: dict[str, Sequence[float]], num_tiles: int) -> None:
    (bare, cpu_bare), (convert, cpu_convert) = medians["bare"], medians["convert"]
    print(f"{'':10} {'s':>8} {'tiles/s':>8} {'of bare':>8} {'CPU s':>8} {'of bare':>8}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:10} {wall:8.2f} {num_tiles / wall:8.1f} {bare / wall:8.0%} {cpu:8.2f} {cpu_bare / cpu:8.0%}")
    result = {"benchmark": "convert_speed", "num_tiles": num_tiles, "num_workers": _NUM_WORKERS.value}
    result |= {"seconds": {name: wall for name, (wall, _) in medians.items()}}
    result |= {"cpu_seconds": {name: cpu for name, (_, cpu) in medians.items()}}
    print(json.dumps(result | {"speed_share": bare / convert, "cpu_share": cpu_bare / cpu_convert}))


if __name__ == "__main__":
    app.run(main)
