"""How fast conversion is against the bare work: ``python -m benchmarks.convert_speed --num_tiles=200``.

Writes chips in the layout and with the dtypes of Sen1Floods11 (speckle, so they compress as badly as real ones), then
times in one process, in turn and after a warm-up,

* `bare`: rasterio reads the layers and `rasterio.warp.reproject` warps them to the tile grid,
* `read_chip`: our reading, checking and warping,
* `convert`: all of `data_prep.convert`: checking, reading, warping, encoding, writing, hashing.

Prints a table and one line of JSON. ``speed_share`` is the speed of convert over that of bare.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from absl import app, flags
from rasterio.enums import Resampling

from data_prep import conversion, tiles
from data_prep.sen1floods11 import layout
from data_prep.tiles import Chip
from flood_distill import contract
from flood_distill.geo import grid as grid_lib
from flood_distill.geo import raster
from flood_distill.geo.grid import Grid

_NUM_TILES = flags.DEFINE_integer("num_tiles", 200, "Number of tiles.")
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
            "bare": lambda: [bare(chip) for chip in chips],
            "read_chip": lambda: [tiles.read_chip(chip, layout.HAND_LAYERS) for chip in chips],
            "convert": lambda: conversion.convert(contract.HAND, root, Path(scratch) / "records", overwrite=True),
        }
        conversion.convert(contract.HAND, root, Path(scratch) / "records")  # imports TensorFlow, fills the page cache
        seconds = {name: [] for name in timed}
        for _ in range(_REPEATS.value):
            for name, function in timed.items():
                seconds[name].append(_seconds(function))
    _report({name: statistics.median(some) for name, some in seconds.items()}, len(chips))


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


def bare(chip: Chip) -> list[np.ndarray]:
    """Reads and warps the layers of a chip by rasterio alone."""
    results = []
    for spec in layout.HAND_LAYERS:
        with rasterio.open(chip.files[spec.feature]) as dataset:
            pixels = dataset.read(list(spec.bands))
            grid = grid_lib.tile_grid("EPSG:4326", tuple(dataset.transform)[:6], dataset.width, dataset.height)
            nodata = dataset.nodata if dataset.nodata is not None else contract.IGNORE_LABEL
            result = np.full((len(spec.bands), *grid.shape), nodata, pixels.dtype)
            rasterio.warp.reproject(
                pixels,
                result,
                src_transform=dataset.transform,
                src_crs=dataset.crs,
                dst_transform=rasterio.Affine(*grid.transform),
                dst_crs=grid.crs,
                src_nodata=nodata,
                dst_nodata=nodata,
                resampling=Resampling.bilinear if spec.feature in (contract.S1, contract.S2) else Resampling.nearest,
            )
            results.append(result)
    return results


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


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _report(seconds: dict[str, float], num_tiles: int) -> None:
    print(f"{'':10} {'s':>8} {'tiles/s':>8} {'of bare':>8}")
    for name, value in seconds.items():
        print(f"{name:10} {value:8.2f} {num_tiles / value:8.1f} {seconds['bare'] / value:8.0%}")
    result = {"benchmark": "convert_speed", "num_tiles": num_tiles, "seconds": seconds}
    print(json.dumps(result | {"speed_share": seconds["bare"] / seconds["convert"]}))


if __name__ == "__main__":
    app.run(main)
