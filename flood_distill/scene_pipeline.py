"""From a scene to strips of water probability: reading, the network and whoever takes the strips work at once."""

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from tqdm import tqdm

from flood_distill import background
from flood_distill.geo import raster, warp, windows
from flood_distill.geo.grid import Grid
from flood_distill.predictor import Predictor
from flood_distill.scene_reader import SceneReader

# (first row, water probability, VV in dB): float32 [rows, grid width] each, NaN = no data.
Strip = tuple[int, np.ndarray, np.ndarray]
_PREDICTED_AHEAD = 4  # windows
LATTICE_PX = 32  # windows begin at multiples of it: a multiple of every output stride, and of the warp's knots
_BLOCK_ROWS, _BLOCK_COLS = 256, 2048  # of the second pass; multiples of the warp's knots, 32 pixels
_BLOCKS_TIF = "_model_grid.tif"


@contextlib.contextmanager
def probability_strips(
    predictor: Predictor,
    reader: SceneReader,
    grid: Grid,
    *,
    window_px: int,
    overlap_px: int,
    batch_size: int,
    average_flips: bool = False,
) -> Iterator[Iterator[Strip]]:
    """Gives the strips of a scene from top to bottom, under a progress bar of windows.

    One thread reads and warps, one computes; windows without radar reach no network. Where several windows are needed,
    they begin at multiples of 32 pixels of the crs's own lattice, wherever the scene begins, so that a network sees a
    place in the same phase of its strides in every scene. Windows whose step is shorter than that do not.

    Args:
        predictor: a student.
        reader: the scene.
        grid: the pixels to predict.
        window_px: side of a window.
        overlap_px: pixels that neighbouring windows share at least.
        batch_size: windows that go through the network at once.
        average_flips: whether a window's probability is the mean over it and its mirror images.
    """
    covered, multiple_px = window_grid(grid, window_px, overlap_px)
    sizes = (*covered.shape, window_px, overlap_px, multiple_px)
    top, left = covered.height - grid.height, covered.width - grid.width
    bar = tqdm(total=windows.num_windows(*sizes), desc=Path(reader.name).stem, unit="window")
    images = (reader.read_grid(covered.window(*origin, window_px, window_px)) for origin in windows.origins(*sizes))
    predict = _flip_average(predictor) if average_flips else predictor
    with bar, background.running(images, 2 * batch_size) as read:
        predictions = _predictions(predict, read, batch_size, bar)
        with background.running(predictions, _PREDICTED_AHEAD) as predicted:
            strips = windows.blended_strips(*sizes, 2, predicted)
            yield (_without_lead(row, strip, top, left) for row, strip in strips)


def window_grid(grid: Grid, window_px: int, overlap_px: int) -> tuple[Grid, int]:
    """Returns what windows cover, the grid and some pixels above and left of it, and the multiple they begin at."""
    multiple_px = LATTICE_PX if window_px - overlap_px >= LATTICE_PX else 1
    corner = round(grid.transform[5] / grid.transform[4]), round(grid.transform[2] / grid.transform[0])
    top, left = (
        # One window holds an axis as it is.
        first % multiple_px if length_px > window_px else 0
        for first, length_px in zip(corner, grid.shape, strict=True)
    )
    return grid.window(-top, -left, grid.height + top, grid.width + left), multiple_px


def _without_lead(row: int, strip: np.ndarray, top: int, left: int) -> Strip:
    """The first strip is longer than the lead: it has `LATTICE_PX` rows at least, or all."""
    kept = strip[max(top - row, 0) :, left:]
    return max(row - top, 0), kept[..., 0], kept[..., 1]


@contextlib.contextmanager
def on_own_grid(strips: Iterable[Strip], reader: SceneReader, grid: Grid, folder: Path) -> Iterator[Iterator[Strip]]:
    """Gives the strips of the scene's own grid: the probability bilinear, no data where the scene has none.

    Args:
        strips: of the grid that was predicted; kept in a file meanwhile.
        reader: the scene.
        grid: the grid that was predicted.
        folder: for the file.
    """
    path = folder / _BLOCKS_TIF
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "nodata": np.nan, "bigtiff": "IF_SAFER"}
    place = {"crs": grid.crs, "transform": rasterio.Affine(*grid.transform)}
    with rasterio.open(path, "w", width=grid.width, height=grid.height, **profile, **place) as dataset:
        for row, probability, _ in strips:
            dataset.write(probability, 1, window=rasterio.windows.Window(0, row, *probability.shape[::-1]))
    with rasterio.open(path) as dataset:
        yield _own_strips(dataset, reader, grid)
    path.unlink()


def disk_need_bytes(predicted: Grid, written: Grid, num_layers: int) -> int:
    """Returns the disk that a scene takes at most while it is made: plain rasters of one byte, and their copy."""
    second_pass = 4 * math.prod(predicted.shape) if written != predicted else 0
    return (num_layers + 1) * math.prod(written.shape) + second_pass


def _own_strips(dataset: rasterio.DatasetReader, reader: SceneReader, grid: Grid) -> Iterator[Strip]:
    own = reader.grid
    for row in range(0, own.height, _BLOCK_ROWS):
        height = min(_BLOCK_ROWS, own.height - row)
        blocks = [
            _own_block(dataset, reader, grid, (row, column, height, min(_BLOCK_COLS, own.width - column)))
            for column in range(0, own.width, _BLOCK_COLS)
        ]
        probabilities, vvs = zip(*blocks, strict=True)
        yield row, np.concatenate(probabilities, axis=1), np.concatenate(vvs, axis=1)


def _own_block(
    dataset: rasterio.DatasetReader, reader: SceneReader, grid: Grid, window: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray]:
    sampling = warp.sample(grid, reader.grid.window(*window))
    s1_db = reader.read(window)
    predicted = raster.read(dataset, [1], sampling.window)
    warped = warp.warp_imagery(predicted, np.isfinite(predicted[0]), sampling, sampling.window[:2])[..., 0]
    return np.where(np.isfinite(s1_db).all(axis=0), warped, np.float32(np.nan)), s1_db[0]


def _predictions(predict, images: Iterable[np.ndarray], batch_size: int, bar: tqdm) -> Iterator[np.ndarray | None]:
    """Yields probability and VV of each window, float32 [window_px, window_px, 2], or None; batches are full."""
    waiting, num_seen = [], 0
    for image in images:
        seen = bool(np.isfinite(image[..., 0]).any())  # no data in one band is no data in all
        waiting.append(image if seen else None)
        num_seen += seen
        if num_seen == batch_size:
            yield from _predicted(predict, waiting, bar)
            waiting, num_seen = [], 0
    yield from _predicted(predict, waiting, bar)


def _predicted(predict, images: list[np.ndarray | None], bar: tqdm) -> Iterator[np.ndarray | None]:
    seen = [image for image in images if image is not None]
    probabilities = iter(predict(np.stack(seen)) if seen else [])
    for image in images:
        bar.update()
        yield None if image is None else np.stack([next(probabilities), image[..., 0]], axis=-1)


def _flip_average(predictor: Predictor):
    """Returns a predictor that takes the mean over an image and its mirror images."""
    flips = [(slice(None), slice(None, None, rows), slice(None, None, cols)) for rows in (1, -1) for cols in (1, -1)]

    def predict(s1: np.ndarray) -> np.ndarray:
        return np.mean([predictor(np.ascontiguousarray(s1[flip]))[flip] for flip in flips], axis=0)

    return predict
