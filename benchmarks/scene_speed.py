r"""Memory and speed of scene prediction.

python -m benchmarks.scene_speed --output_dir=O                    # memory: 5,000^2 and 20,000^2 with a tiny network
python -m benchmarks.scene_speed --output_dir=O --speed --model=X  # pixels/s against the bare model

Memory: each scene (dB, float32; 20,000^2 are 3.2 GB on the disk) is predicted in a process of its own, whose highest
resident size is read at the end. Speed: the windows of a scene go through `predict`, and the same windows, in memory
already, through the model alone, in turns; both are given per pixel of the scene, so that the overlap counts as cost.
Prints a table and JSON.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from absl import app, flags

flags.DEFINE_string("output_dir", None, "Folder for scenes and maps; needs 5 GB for 20,000^2.", required=True)
flags.DEFINE_list("sizes", ["5000", "20000"], "Sides of the scenes in pixels (memory).")
flags.DEFINE_bool("speed", False, "Measure speed in place of memory.")
flags.DEFINE_string("model", "", "Export or model_dir of a student (speed).")
flags.DEFINE_integer("size", 5000, "Side of the scene in pixels (speed); the preview of a small one weighs too much.")
flags.DEFINE_integer("rounds", 3, "How often each is timed (speed).")
FLAGS = flags.FLAGS

_MB = 1024  # ru_maxrss is in kB on Linux
_ONE = """
import sys
from benchmarks import scene_speed
scene_speed.predict_tiny(sys.argv[1], sys.argv[2])
"""


class Tiny:
    """Stands in for a network where memory is measured: smoothed VH below -18 dB, by TensorFlow."""

    model = name = "tiny"
    inputs, threshold, dataset, source = "s1", 0.5, "", "synthetic"

    def __init__(self):
        from flood_distill import contract

        self.imagery = contract.SENTINEL

    def __call__(self, s1: np.ndarray, s2: np.ndarray | None = None) -> np.ndarray:
        import tensorflow as tf

        probability = tf.sigmoid(-18 - tf.nn.avg_pool2d(s1[..., 1:], 9, 1, "SAME"))[..., 0].numpy()
        return np.where(np.isfinite(s1).all(axis=-1), probability, np.float32(np.nan))


def write_scene(path: Path, size_px: int) -> None:
    """Writes speckled land with a river and lakes, and a slanted edge without data, block by block."""
    generator = np.random.default_rng(0)
    place = {"crs": "EPSG:32630", "transform": rasterio.Affine(16, 0, 400000, 0, -16, 4400000)}
    profile = {
        "driver": "GTiff",
        "count": 2,
        "dtype": "float32",
        "nodata": np.nan,
        "tiled": True,
        "bigtiff": "IF_SAFER",
    }
    with rasterio.open(path, "w", width=size_px, height=size_px, **place, **profile) as dataset:
        for _, window in dataset.block_windows(1):
            rows = np.arange(window.row_off, window.row_off + window.height)[:, np.newaxis]
            cols = np.arange(window.col_off, window.col_off + window.width)
            river = np.abs(cols - size_px / 2 - 300 * np.sin(rows / 500)) < 40
            lakes = np.hypot(rows % 1500 - 750, cols % 1700 - 850) < 120
            vh = np.where(river | lakes, -26.0, -16.0) + generator.normal(0, 1.5, (window.height, window.width))
            vh[rows + cols < size_px / 10] = np.nan
            dataset.write(np.stack([vh + 6, vh]).astype(np.float32), window=window)


def predict_tiny(scene: str, output_dir: str) -> None:
    """Predicts a scene with `Tiny` and prints seconds and the highest resident size in MB as JSON."""
    from flood_distill import scenes

    begin = time.perf_counter()
    _, failures = scenes.predict_scenes(Tiny(), [scene], output_dir, overwrite=True)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB
    print(json.dumps({"failures": failures, "seconds": time.perf_counter() - begin, "peak_mb": peak_mb}))


def measure_memory(folder: Path, sizes_px: Sequence[int]) -> list[dict]:
    """Returns what `predict_tiny` printed for each size."""
    found = []
    for size_px in sizes_px:
        scene = folder / f"scene_{size_px}.tif"
        write_scene(scene, size_px)
        command = [sys.executable, "-c", _ONE, str(scene), str(folder / "maps")]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]
        found.append({"size_px": size_px, **json.loads(printed)})
        scene.unlink()
    return found


def measure_speed(folder: Path, model: str, size_px: int, rounds: int) -> dict:
    """Returns scene pixels per second of CPU and of wall time: of prediction, and of the model on the same windows."""
    from flood_distill import predictor, scene_pipeline, scenes
    from flood_distill.geo import windows

    network = predictor.load_predictor(model)
    scene = folder / f"scene_{size_px}.tif"
    write_scene(scene, size_px)
    window_px, overlap_px, batch_size = 321, 64, 4
    with rasterio.open(scene) as dataset:
        pixels = np.pad(np.moveaxis(dataset.read(), 0, -1), ((0, window_px), (0, window_px), (0, 0)))
    tiles = [
        pixels[row : row + window_px, col : col + window_px]
        for row, col in windows.origins(size_px, size_px, window_px, overlap_px, scene_pipeline.LATTICE_PX)
    ]
    network(np.stack(tiles[:batch_size]))

    def bare() -> None:
        for first in range(0, len(tiles), batch_size):
            network(np.stack(tiles[first : first + batch_size]))

    def whole() -> None:
        sizes = {"window_px": window_px, "overlap_px": overlap_px, "batch_size": batch_size}
        _, failures = scenes.predict_scenes(network, [str(scene)], folder / "maps", overwrite=True, **sizes)
        assert not failures, failures

    times = {"bare": [], "predict": []}
    for _ in range(rounds):  # in turns: what else the machine does changes
        times["bare"].append(_timed(bare))
        times["predict"].append(_timed(whole))
    found = {"windows": len(tiles), "overlap_cost": 1 - size_px**2 / (len(tiles) * window_px**2)}
    for index, clock in enumerate(("wall", "cpu")):
        best = {name: min(time_s[index] for time_s in taken) for name, taken in times.items()}
        found |= {f"{name}_pixels_per_{clock}_s": size_px**2 / best[name] for name in best}
        found[f"share_of_bare_{clock}"] = best["bare"] / best["predict"]
    return found


def _timed(run) -> tuple[float, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall_s, time.process_time() - cpu_s


def main(_: list[str]) -> None:
    """Measures, prints."""
    folder = Path(FLAGS.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    if FLAGS.speed and not FLAGS.model:
        raise app.UsageError("--speed needs --model")
    if FLAGS.speed:
        result = measure_speed(folder, FLAGS.model, FLAGS.size, FLAGS.rounds)
        for name, value in result.items():
            print(f"{name:32} {value:14.3f}")
    else:
        result = measure_memory(folder, [int(size) for size in FLAGS.sizes])
        print("   side, pixels   peak, MB   seconds")
        for row in result:
            print(f"{row['size_px']:15} {row['peak_mb']:10.0f} {row['seconds']:9.1f}")
    print(json.dumps(result))


if __name__ == "__main__":
    app.run(main)
