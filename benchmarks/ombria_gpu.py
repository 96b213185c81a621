r"""Teacher and students of full width on OMBRIA, on a GPU with JAX: networks, losses and gin values of this package.

python -m benchmarks.ombria_arrays --data_dir=R --dataset=ombria/before_after --output=ombria.npz
KERAS_BACKEND=jax python -m benchmarks.ombria_gpu --arrays=ombria.npz --results_dir=results --minutes=25
python -m flood_distill.report --results_dir=results --output_dir=O

Needs no TensorFlow. Trains, seed by seed, the teacher and the students on hand labels, teacher and all labels,
and keeps each finished run as one JSON of its scores, which the report reads. A run that is kept is not repeated, and
none is started that would not end before --minutes; the same command goes on. A student needs its teacher's weights,
which lie in --results_dir/weights. Tiles are downsampled (benchmarks/ombria_arrays.py): scores are not those of whole
resolution.
"""

import dataclasses
import functools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import keras
import numpy as np
from absl import flags

from benchmarks import jax_augmentation as augmentation
from benchmarks import jax_training as training
from flood_distill import (
    boundary,
    calibration,
    chip_lists,
    cli,
    contract,
    files,
    ombria_table,
    otsu,
    per_chip,
    sizes,
    statistics,
    work_dir,
)
from flood_distill import results as kept_results
from flood_distill import rows as roles
from flood_distill.errors import UserError
from flood_distill.losses import cross_entropy, distillation, edge_weights
from flood_distill.models import deeplab
from flood_distill.rows import Row

cli.define_gin_flags()
_ARRAYS = flags.DEFINE_string("arrays", None, "File of benchmarks.ombria_arrays.", required=True)
_RESULTS_DIR = flags.DEFINE_string("results_dir", None, "Folder of the finished runs.", required=True)
_NUM_LABELS = flags.DEFINE_integer("num_labels", 40, "Hand-labelled training chips: 20, 40, 80 or 160.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Runs of every row.", lower_bound=1)
_MINUTES = flags.DEFINE_float("minutes", 25.0, "No run is started that would not end before.", lower_bound=0.0)

_GIN = "ombria_gpu.gin"
_CONFIGURABLES = (
    "train",
    "network",
    "augmentation",
    "supervised_objective",
    "distillation_objective",
    "poly_schedule",
    "momentum_optimizer",
    "l2_weight_decay",
)
# What this benchmark has only one way of doing.
_FIXED = {
    "supervised_objective": {"lovasz_weight": 0.0},
    "distillation_objective": {"teacher_labels": "soft", "confidence": "uniform", "lovasz_weight": 0.0},
    "momentum_optimizer": {"weight_average_decay": 0.0},
    "train": {"precise_batch_norm_batches": 0, "initial_weights": "teacher"},
}
_BOUNDARY_WIDTH_PX = 2  # as `evaluation.evaluate`


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What all runs share.

    Attributes:
        arrays: of benchmarks.ombria_arrays.
        imagery: what the bands are.
        results_dir: folder of the finished runs.
    """

    arrays: dict[str, np.ndarray]
    imagery: contract.Imagery
    results_dir: Path

    def split(self, name: str) -> dict[str, np.ndarray]:
        """Returns the arrays of a split."""
        return {key.split("/")[1]: array for key, array in self.arrays.items() if key.startswith(f"{name}/")}

    def weights_file(self, run: str) -> Path:
        """Where a teacher's weights lie."""
        return self.results_dir / "weights" / f"{run}.weights.h5"


def main(_: list[str]) -> None:
    """Runs what is not done, as long as there is time."""
    if keras.backend.backend() != "jax":
        raise UserError(f"KERAS_BACKEND={keras.backend.backend()}: set KERAS_BACKEND=jax")
    started = time.monotonic()
    with np.load(_ARRAYS.value) as file:
        arrays = dict(file)
    dataset = str(arrays["dataset"])
    benchmark = Benchmark(arrays, contract.imagery(dataset), Path(_RESULTS_DIR.value))
    table = _table(dataset)
    plan = {"rows": [dataclasses.asdict(row) for row in table]}
    files.write_text(benchmark.results_dir / work_dir.PLAN_JSON, json.dumps(plan, indent=1) + "\n")
    longest = 0.0
    for row, seed in sorted(_runs(table), key=_order):
        name = row.run_name(seed)
        if (benchmark.results_dir / f"{name}.json").exists():
            continue
        left = 60 * _MINUTES.value - (time.monotonic() - started)
        if left < longest:
            print(f"{left:.0f} s left, a run takes {longest:.0f}: the same command goes on from here")
            return
        began = time.monotonic()
        _run(benchmark, row, seed)
        longest = max(longest, time.monotonic() - began)


def _table(dataset: str) -> list[Row]:
    """All rows but those on weak labels, which are made from whole tiles, and on crops smaller than a tile."""
    chosen = ombria_table.chosen([(dataset, _NUM_LABELS.value, range(_NUM_SEEDS.value))])
    return [
        dataclasses.replace(row, seeds=tuple(row.seeds))
        for row in chosen
        if row.role not in (roles.WEAK, roles.HAND_SMALL_CROPS)
    ]


def _runs(table: list[Row]) -> list[tuple[Row, int]]:
    return [(row, seed) for row in table for seed in (row.seeds if row.trained else row.seeds[:1])]


def _order(run: tuple[Row, int]) -> tuple[int, int]:
    row, seed = run
    return seed, ([*roles.TRAINING_ORDER, roles.OTSU].index(row.role))


def _run(benchmark: Benchmark, row: Row, seed: int) -> None:
    """Trains and scores one run, and keeps what came out."""
    name, test = row.run_name(seed), benchmark.split(contract.TEST_SPLIT)
    began = time.perf_counter()
    if not row.trained:
        masks = [otsu.water_mask(s1, benchmark.imagery) for s1 in _with_nan(test)]
        _keep(benchmark, row, seed, np.array(masks) == contract.WATER, training.Best(0, 0.0, contract.WATER_THRESHOLD))
        return
    values = _gin_values(row, seed)
    inputs = values["train"].get("inputs", contract.INPUT_S1)
    model = _network(benchmark, inputs, values, seed)
    objective, frozen = _supervised(values), ()
    if row.teacher:
        teacher = _network(benchmark, contract.INPUT_S1_S2, values, seed)
        teacher.load_weights(benchmark.weights_file(f"{row.teacher}_seed{seed}"))
        _start_as(model, teacher)
        objective, frozen = _distilled(teacher, values), training.weights(teacher)
    data = _training_data(benchmark, values)
    tiles = functools.partial(_tiles, inputs=inputs, output_stride=values["network"]["output_stride"])
    predict = training.predictor(model)
    best = training.train(
        model,
        {key: jnp.asarray(array) for key, array in data.items()},
        functools.partial(_make_batch, inputs=inputs, values=values),
        _batches(len(data[contract.LABEL]), values["train"]["batch_size"], seed),
        objective,
        frozen,
        predict,
        tiles(benchmark.split(contract.VALIDATION_SPLIT)),
        _settings(values, seed),
        name,
    )
    if row.role == roles.TEACHER:
        benchmark.weights_file(name).parent.mkdir(parents=True, exist_ok=True)
        model.save_weights(benchmark.weights_file(name))
    probability = predict(training.weights(model), tiles(test))
    _keep(benchmark, row, seed, probability, best, time.perf_counter() - began)


def _gin_values(row: Row, seed: int) -> dict[str, dict]:
    """What the gin files bind, by configurable: they are read as the package's own binaries read them.

    Raises:
        UserError: for a value that this benchmark does nothing with.
    """
    for name in _CONFIGURABLES:
        _stand_in(name)
    bindings = [*row.bindings, *flags.FLAGS.gin_param, f"train.seed={seed}"]
    cli.parse_gin([row.gin_file, _GIN, *flags.FLAGS.gin_file], bindings, skip_unknown=True)
    values = {name: gin.get_configurable(name)() for name in _CONFIGURABLES}
    for name, fixed in _FIXED.items():
        for key, only in fixed.items():
            if values[name].get(key, only) != only:
                raise UserError(f"{name}.{key}={values[name][key]!r}: this benchmark knows {only!r} only")
    return values


@functools.cache
def _stand_in(name: str) -> None:
    """Makes a name of the package known to gin without TensorFlow; called, it returns what is bound to it."""
    gin.external_configurable(lambda **values: values, name=name)


def _network(benchmark: Benchmark, inputs: str, values: dict, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return deeplab.deeplab_v3_plus(num_channels=len(benchmark.imagery.bands(inputs)), **values["network"])


def _start_as(student: keras.Model, teacher: keras.Model) -> None:
    """Gives the student its teacher's weights; its first kernel takes the bands of Sentinel-1, which come first."""
    for own, other in zip(student.variables, teacher.variables, strict=True):
        own.assign(other.value if own.shape == other.shape else other.value[:, :, : own.shape[2]])


def _supervised(values: dict) -> training.Objective:
    edges = {key: value for key, value in values["supervised_objective"].items() if key != "lovasz_weight"}

    def objective(logits, batch, _):
        weights = edge_weights.edge_weights(batch[contract.LABEL], **edges)
        return cross_entropy.cross_entropy(logits, batch[contract.LABEL], weights)

    return objective


def _distilled(teacher: keras.Model, values: dict) -> training.Objective:
    temperature = values["distillation_objective"].get("temperature", 1.0)

    def objective(logits, batch, teacher_weights):
        teacher_logits, _ = teacher.stateless_call(*teacher_weights, batch[contract.TEACHER_IMAGE], training=False)
        return distillation.distillation(logits, teacher_logits, batch[contract.VALID], temperature)

    return objective


def _training_data(benchmark: Benchmark, values: dict) -> dict[str, np.ndarray]:
    """The training chips, those of `train.chip_list` where it is bound."""
    data = benchmark.split(contract.TRAIN_SPLIT)
    names = data.pop(contract.CHIP_ID)
    chip_list = values["train"].get("chip_list", "")
    if not chip_list:
        return data
    wanted = np.isin(names, chip_lists.read(chip_list))
    return {key: array[wanted] for key, array in data.items()}


def _batches(num_chips: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields without end which chips make a batch: one permutation after the other."""
    generator = np.random.default_rng(seed)
    waiting = np.zeros(0, np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, generator.permutation(num_chips)])
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


def _make_batch(data: dict, chips: jax.Array, key: jax.Array, *, inputs: str, values: dict) -> dict:
    """As `input_pipeline.training_dataset`: one window, jitter for what is trained, none for what the teacher sees."""
    crop_px, ranges = values["train"]["crop_size_px"], values["augmentation"]
    canvas_px = sizes.padded_size_px(data[contract.LABEL].shape[1], values["network"]["output_stride"])

    def make(chip: dict, key: jax.Array) -> dict:
        of_window, of_s1, of_s2 = jax.random.split(key, 3)
        window = augmentation.random_window(ranges, of_window, canvas_px, crop_px)
        s1, s1_valid = augmentation.resample(chip[contract.S1], chip["s1_valid"], window)
        s2, s2_valid = augmentation.resample(chip[contract.S2], chip["s2_valid"], window)
        s1, s2 = augmentation.normalized(s1, s1_valid), augmentation.normalized(s2, s2_valid)
        image = augmentation.jitter(s1, s1_valid, ranges["s1_brightness"], ranges["s1_contrast"], of_s1)
        valid = s1_valid
        if inputs == contract.INPUT_S1_S2:
            other = augmentation.jitter(s2, s2_valid, ranges["s2_brightness"], ranges["s2_contrast"], of_s2)
            image, valid = jnp.concatenate([image, other], axis=-1), s1_valid & s2_valid
        label = augmentation.nearest(chip[contract.LABEL], window, contract.IGNORE_LABEL)
        return {
            contract.IMAGE: image,
            contract.TEACHER_IMAGE: jnp.concatenate([s1, s2], axis=-1),
            contract.VALID: s1_valid & s2_valid,
            contract.LABEL: jnp.where(valid, label, contract.IGNORE_LABEL),
        }

    return jax.vmap(make)({name: array[chips] for name, array in data.items()}, jax.random.split(key, len(chips)))


def _settings(values: dict, seed: int) -> training.Settings:
    return training.Settings(
        **{name: values["train"][name] for name in ("num_steps", "validate_every", "thresholds")},
        **{name: values["poly_schedule"][name] for name in ("base_learning_rate", "power")},
        momentum=values["momentum_optimizer"]["momentum"],
        decay_rate=values["l2_weight_decay"]["rate"],
        seed=seed,
    )


def _tiles(split: dict[str, np.ndarray], inputs: str, output_stride: int) -> training.Tiles:
    """Whole tiles, padded with invalid pixels at the bottom and right to k * output_stride + 1."""
    bands = [augmentation.normalized(split[contract.S1], split["s1_valid"])]
    if inputs == contract.INPUT_S1_S2:
        bands.append(augmentation.normalized(split[contract.S2], split["s2_valid"]))
    images = np.concatenate(bands, axis=-1).astype(np.float32)
    margin = [(0, sizes.padded_size_px(size, output_stride) - size) for size in images.shape[1:3]]
    images = np.pad(images, [(0, 0), *margin, (0, 0)], constant_values=contract.FILL_VALUE)
    return training.Tiles(images, _scored_labels(split))


def _scored_labels(split: dict[str, np.ndarray]) -> np.ndarray:
    """Labels, -1 where a pixel is not scored."""
    return np.where(split["s1_valid"], split[contract.LABEL], contract.IGNORE_LABEL)


def _with_nan(split: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(split["s1_valid"][..., None], split[contract.S1], np.nan).astype(np.float32)


def _keep(
    benchmark: Benchmark, row: Row, seed: int, probability: np.ndarray, best: training.Best, seconds: float = 0.0
) -> None:
    """Writes what flood_distill.report reads."""
    split = benchmark.split(contract.TEST_SPLIT)
    labels = _scored_labels(split)
    scored = labels != contract.IGNORE_LABEL
    chips = [
        _chip_result(*chip)
        for chip in zip(
            split[contract.CHIP_ID], probability >= best.threshold, labels, scored, split["s2_valid"], strict=True
        )
    ]
    reliability = calibration.reliability(probability.astype(np.float32), labels, scored)
    scores = statistics.scores(chips)
    shores = statistics.pooled(dataclasses.replace(chip, counts=chip.boundary) for chip in chips)
    found = {
        "dataset": row.dataset,
        "source": contract.SOURCE_REAL,
        "target": benchmark.imagery.target,
        "threshold": best.threshold,
        "unscorable_chips": statistics.unscorable(chips),
        "share_without_s2": statistics.share_without_s2(chips),
        **{name: scores[name] for name in ("iou_pooled", "iou_per_chip", "precision", "recall", "f1")},
        "boundary_iou": statistics.iou(shores),
        "boundary_width_px": _BOUNDARY_WIDTH_PX,
        "ece": reliability.expected_calibration_error,
        "reliability": reliability.as_json(),
        "chips": _lines(chips),
    }
    trained = {"seconds": seconds, "seed": seed, "step": best.step, "iou": best.iou} if row.trained else {}
    kept = kept_results.Kept(row.run_name(seed), "", trained, {contract.TEST_SPLIT: found})
    path = benchmark.results_dir / f"{row.run_name(seed)}.json"
    files.write_text(path, json.dumps(dataclasses.asdict(kept), indent=1) + "\n")
    print(f"{row.run_name(seed)}: test IoU {scores['iou_pooled']:.4f}, validation {best.iou:.4f}, {seconds:.0f} s")


def _chip_result(
    chip_id: str, water: np.ndarray, label: np.ndarray, scored: np.ndarray, s2_valid: np.ndarray
) -> statistics.ChipResult:
    return statistics.ChipResult(
        chip_id,
        "ombria",
        statistics.count(water, label, scored),
        int(np.sum(scored & ~s2_valid)),
        boundary.count(water, label, scored, _BOUNDARY_WIDTH_PX),
    )


def _lines(chips: list[statistics.ChipResult]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / per_chip.PER_CHIP_CSV
        per_chip.write(chips, path)
        return path.read_text().splitlines()


if __name__ == "__main__":
    cli.run(main)
