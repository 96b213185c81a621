r"""Whether windows show in a map: the map of a scene beside the maps of the same scene that begins a few pixels later.

python -m benchmarks.seams --model=X --input=SCENE

A scene without its first rows and columns has its windows elsewhere. Where both maps have a pixel, away from the rim of
the smaller one, prints in percent how many change sides of the threshold: near the middles of what the windows of the
whole scene share, where a seam would lie, and elsewhere, which is what a network of stride 16 changes by being moved.
One row for each overlap, with and without `average_flips`.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import rasterio
from absl import app, flags
from rasterio.windows import Window

_MODEL = flags.DEFINE_string("model", None, "Export or model_dir of a student.", required=True)
_INPUT = flags.DEFINE_string("input", None, "Scene in decibels, one file with VV and VH.", required=True)
_SHIFTS_PX = flags.DEFINE_list("shifts_px", ["3", "26", "100"], "Rows and columns of the scene that are left out.")
_OVERLAPS_PX = flags.DEFINE_list("overlaps_px", ["0", "64", "160"], "Pixels that neighbouring windows share.")
_NEAR_PX = 16
_WINDOW_PX = 321


def main(_: list[str]) -> None:
    """Measures, prints a table and JSON."""
    from flood_distill import predictor

    network = predictor.load_predictor(_MODEL.value)
    shifts_px = [int(shift) for shift in _SHIFTS_PX.value]
    rows = [
        {"overlap_px": overlap, "average_flips": flips, **compare(network, _INPUT.value, shifts_px, overlap, flips)}
        for overlap in map(int, _OVERLAPS_PX.value)
        for flips in (False, True)
    ]
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(f'{value:.3f}' if isinstance(value, float) else str(value) for value in row.values())} |")
    print(json.dumps({"benchmark": "seams", "shifts_px": shifts_px, "results": rows}))


def compare(network, scene: str, shifts_px: Sequence[int], overlap_px: int, average_flips: bool) -> dict[str, float]:
    """Returns the percentages of pixels that change sides, over all shifts, and the share of water of the whole map."""
    sizes = {"window_px": _WINDOW_PX, "overlap_px": overlap_px, "average_flips": average_flips}
    changed = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        whole, grid = _water(network, scene, Path(folder) / "whole", sizes)
        near = near_middles(grid, overlap_px)
        for shift_px in shifts_px:
            part = Path(folder) / f"part_{shift_px}.tif"
            _write_part(scene, part, shift_px)
            water, part_grid = _water(network, str(part), Path(folder) / f"maps_{shift_px}", sizes)
            row, col = (round(float(value)) for value in grid.pixels(part_grid.transform[2], part_grid.transform[5]))
            for inside, here in _common(whole, water, near, row, col):
                changed[here].append(inside)
    return {
        "near, %": 100 * float(np.concatenate(changed[True]).mean()),
        "elsewhere, %": 100 * float(np.concatenate(changed[False]).mean()),
        "water, %": 100 * float((whole == 1).mean()),
    }


def near_middles(grid, overlap_px: int) -> np.ndarray:
    """Tells the pixels of a map within 16 of the middle of what two neighbouring windows share, along either axis."""
    from flood_distill import scene_pipeline
    from flood_distill.geo import windows

    covered, multiple_px = scene_pipeline.window_grid(grid, _WINDOW_PX, overlap_px)
    found = []
    for length_px, covered_px in zip(grid.shape, covered.shape, strict=True):
        spans = windows.spans(covered_px, _WINDOW_PX, overlap_px, multiple_px)
        begins = np.array([span.start for span in spans]) - (covered_px - length_px)
        middles = (begins[:-1] + _WINDOW_PX + begins[1:]) / 2
        found.append(np.any([np.abs(np.arange(length_px) - middle) <= _NEAR_PX for middle in middles], axis=0))
    return found[0][:, np.newaxis] | found[1]


def _common(whole, water, near, row: int, col: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Yields which pixels of both maps differ, near the middles and elsewhere, without the rim of the smaller map."""
    rim_px = _WINDOW_PX // 2
    height, width = (min(a - first, b) for a, b, first in zip(whole.shape, water.shape, (row, col), strict=True))
    here = (slice(row + rim_px, row + height), slice(col + rim_px, col + width))
    there = (slice(rim_px, height), slice(rim_px, width))
    scored = (whole[here] <= 1) & (water[there] <= 1)
    for wanted in (True, False):
        chosen = scored & (near[here] == wanted)
        yield whole[here][chosen] != water[there][chosen], wanted


def _water(network, scene: str, folder: Path, sizes: dict):
    from flood_distill import scene_files, scenes
    from flood_distill.geo import raster

    count, failures = scenes.predict_scenes(network, [scene], folder, **sizes)
    if failures:
        raise RuntimeError(f"{failures} of {count} scenes")
    with rasterio.open(folder / f"{Path(scene).stem}{scene_files.WATER}") as dataset:
        return dataset.read(1), raster.grid_of(dataset)


def _write_part(scene: str, part: Path, shift_px: int) -> None:
    with rasterio.open(scene) as dataset:
        window = Window(shift_px, shift_px, dataset.width - shift_px, dataset.height - shift_px)
        place = {"width": window.width, "height": window.height, "transform": dataset.window_transform(window)}
        pixels, profile = dataset.read(window=window), dataset.profile | place
    with rasterio.open(part, "w", **profile) as dataset:
        dataset.write(pixels)


if __name__ == "__main__":
    app.run(main)
