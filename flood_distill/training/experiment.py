"""One training run, put together: a teacher, a supervised baseline or a student."""

import dataclasses
import functools
import math
import time
from collections.abc import Iterable, Sequence

import gin
import keras
import tensorflow as tf
from etils import epath
from tqdm import tqdm

from flood_distill import (
    chip_lists,
    contract,
    files,
    input_pipeline,
    model_info,
    object_store,
    records,
    sizes,
    statistics,
)
from flood_distill.errors import UserError
from flood_distill.input_pipeline import DISTILLATION, SUPERVISED
from flood_distill.models import folding
from flood_distill.training import (
    mixed_precision,
    model_files,
    network,
    objectives,
    optimization,
    pretrained,
    run_log,
    strategies,
    warm_start,
)
from flood_distill.training.checkpoints import RunState
from flood_distill.training.precise_batch_norm import PreciseBatchNorm
from flood_distill.training.trainer import L2, LOSS, Trainer


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: its last step, the step and pooled validation IoU of its best weights."""

    step: int
    best_step: int
    best_iou: float


@gin.configurable
def train(
    data_dir: str,
    model_dir: str,
    *,
    teacher_model_dir: str = "",
    strategy: str = "auto",
    tpu: str = "",
    name: str = gin.REQUIRED,
    task: str = SUPERVISED,
    inputs: str = contract.INPUT_S1,
    datasets: Sequence[str] = gin.REQUIRED,
    chip_list: str = "",
    mixing: str = "size",
    validation_dataset: str = contract.HAND,
    num_steps: int = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    crop_size_px: int = gin.REQUIRED,
    validation_batch_size: int = 8,
    seed: int = 0,
    report_every: int = 100,
    validate_every: int = 500,
    checkpoint_every: int = 500,
    max_checkpoints: int = 3,
    initial_weights: str = warm_start.SCRATCH,
    pretrained_checkpoint: str = "",
    pretrained_part: str = contract.PRETRAINED_WHOLE,
    precise_batch_norm_batches: int = 0,
    precision: str = contract.FLOAT32,
    jit_compile: bool = False,
) -> Outcome:
    """Trains one network and keeps the weights with the highest pooled water IoU on the validation split.

    The same command goes on where an earlier one was interrupted.

    Args:
        data_dir: folder of the converted datasets.
        model_dir: folder of the run.
        teacher_model_dir: model_dir of the frozen teacher; needed by, and only by, distillation.
        strategy: see `strategies.make_strategy`.
        tpu: name or address of the TPU.
        name: name of the experiment.
        task: ``supervised`` or ``distillation``.
        inputs: what the trained network looks at, ``s1`` or ``s1+s2``.
        datasets: names of the datasets to train on (their train split).
        chip_list: the chips of the datasets' train splits to train on: an installed list (``ombria_40``) or a file of
            chip ids; empty takes all.
        mixing: ``size`` (every example equally often) or ``equal`` (every dataset equally often, section 3.2).
        validation_dataset: its validation split chooses the best weights.
        num_steps: optimizer steps.
        batch_size: global batch, split over the replicas.
        crop_size_px: height and width of a training image.
        validation_batch_size: global batch of the validation.
        seed: of the initial weights, the order of the examples, augmentation and dropout.
        report_every: steps between two rows of training.csv.
        validate_every: steps between two validations; the last step always has one.
        checkpoint_every: steps between two checkpoints; the last step always has one.
        max_checkpoints: number of latest checkpoints to keep.
        initial_weights: ``scratch``; ``teacher``: a student starts as its teacher without the bands it does not see,
            other runs from scratch; or the model_dir of another run.
        pretrained_checkpoint: TF1 checkpoint of DeepLab on Xception-65 to start from, such as ``DIR/model.ckpt``; the
            network then scales its input to the range that those weights expect. Empty starts from scratch.
        pretrained_part: ``whole``, or ``encoder`` to leave out the checkpoint's head.
        precise_batch_norm_batches: before each validation, measure the batch norms' statistics on this many batches of
            whole training tiles; 0 keeps the moving averages. For training on crops smaller than the tiles.
        precision: of activations and products in a training step: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``
            (with loss scaling). Weights, logits, loss and validation are float32 with all of them. A frozen teacher
            computes in bfloat16 beside ``mixed_bfloat16``.
        jit_compile: compile the step with XLA (GPU and TPU; far slower on CPU).

    Raises:
        UserError: for settings or data that do not fit together, and when the loss is not finite.
    """
    # 1. Strategy and data.
    object_store.connect(model_dir)
    distribution = strategies.make_strategy(strategy, tpu)
    _check_settings(distribution, task, inputs, batch_size, teacher_model_dir)
    mixed_precision.check(precision)
    start = warm_start.source(initial_weights, teacher_model_dir)
    if start and pretrained_checkpoint:
        raise UserError("train.initial_weights and train.pretrained_checkpoint: give one of them")
    sources = [records.load(data_dir, dataset) for dataset in datasets]
    if chip_list:
        sources = [source.only(chip_lists.read(chip_list)) for source in sources]
    validation = records.load(data_dir, validation_dataset)
    imagery = records.common_imagery([*sources, validation])
    info = model_info.ModelInfo(
        name=name,
        task=task,
        inputs=inputs,
        network=network.network(len(imagery.bands(inputs)), _input_range(start, pretrained_checkpoint)),
        train_datasets=list(datasets),
        dataset=validation_dataset,
        source=_source_of([*sources, validation]),
        pretrained="/".join(epath.Path(start or pretrained_checkpoint).parts[-2:]),
        seed=seed,
        training_precision=precision,
    )

    # 2. Network, optimizer and objective.
    keras.utils.set_random_seed(seed)
    with distribution.scope():
        model = network.build(info.network, distribution.num_replicas_in_sync > 1, precision)
        optimizer = mixed_precision.loss_scaling(optimization.momentum_optimizer(num_steps), precision)
        objective = _objective(task, teacher_model_dir, info)
    trainer = Trainer(distribution, model, optimizer, objective, objectives.l2_weight_decay, seed, jit_compile)

    # 3. State, the first of these that there is: (1) this run's own latest checkpoint, to go on; (2) the weights of
    # another run or of a public checkpoint; (3) scratch, the weights drawn above.
    files.make_folder(model_dir)
    state = RunState(trainer, model_dir, info, max_checkpoints)
    step = state.restore()
    if step == 0:
        if start:
            tqdm.write(warm_start.load(model, info, start))
        elif pretrained_checkpoint:
            tqdm.write(str(pretrained.load(model, pretrained_checkpoint, pretrained_part)))
        model_info.write(info, model_dir)
        files.write_text(epath.Path(model_dir) / contract.CONFIG_GIN, gin.config_str())
    log = run_log.RunLog(model_dir, step)

    # 4. Batches, from this step on.
    training_batches = functools.partial(
        input_pipeline.training_dataset, sources, mixing=mixing, task=task, inputs=inputs, seed=seed
    )
    batches = training_batches(batch_size=batch_size, crop_size_px=crop_size_px, start_step=step)
    iterator = iter(distribution.experimental_distribute_dataset(batches))
    batch_norms = None
    if precise_batch_norm_batches:
        tile_px = sizes.padded_size_px(imagery.tile_size_px, info.output_stride)
        whole_tiles = training_batches(batch_size=validation_batch_size, crop_size_px=tile_px, start_step=0)
        batch_norms = PreciseBatchNorm(distribution, model, whole_tiles.take(precise_batch_norm_batches))
    validation_batches = distribution.experimental_distribute_dataset(
        input_pipeline.evaluation_dataset(
            validation,
            contract.VALIDATION_SPLIT,
            inputs=inputs,
            output_stride=info.output_stride,
            batch_size=validation_batch_size,
            pad_to_full_batch=True,
            features=(),
        )
    )

    # 5. The loop.
    with tqdm(total=num_steps, initial=step, desc=name, unit="step") as bar:
        while step < num_steps:
            stop = min(_next_multiple(step, every) for every in (report_every, validate_every, checkpoint_every))
            stop = min(stop, num_steps)
            learning_rate, started = trainer.learning_rate(), time.perf_counter()
            metrics = _train_until(trainer, iterator, step, stop, learning_rate)
            seconds = time.perf_counter() - started
            report = {
                "learning_rate": learning_rate,
                "loss": metrics[LOSS],
                "l2": metrics[L2],
                "images_per_second": (stop - step) * batch_size / seconds,
            }
            bar.update(stop - step)
            step = stop
            if step % validate_every == 0 or step == num_steps:
                if batch_norms:
                    batch_norms.measure()
                report["validation_iou"] = _validate(trainer, validation_batches)
                state.offer_best(report["validation_iou"])
            bar.set_postfix({"loss": f"{report['loss']:.4f}", "best_iou": f"{state.best[1]:.4f}"}, refresh=False)
            log.report(step, report)
            _save_operative_config(model_dir)
            if step % checkpoint_every == 0 or step == num_steps:
                log.flush()
                state.save()

    return Outcome(step, *state.best)


def _check_settings(
    distribution: tf.distribute.Strategy, task: str, inputs: str, batch_size: int, teacher_model_dir: str
) -> None:
    if task not in (SUPERVISED, DISTILLATION):
        raise UserError(f"train.task={task!r}: not one of {SUPERVISED}, {DISTILLATION}")
    if inputs not in contract.INPUTS:
        raise UserError(f"train.inputs={inputs!r}: not one of {', '.join(contract.INPUTS)}")
    replicas = distribution.num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(f"train.batch_size={batch_size}: not a multiple of the {replicas} replicas")
    if task == DISTILLATION and not teacher_model_dir:
        raise UserError("distillation needs --teacher_model_dir, the model_dir of a trained teacher")
    if task == SUPERVISED and teacher_model_dir:
        raise UserError("--teacher_model_dir is for distillation; this gin file trains without a teacher")


def _input_range(start: str, pretrained_checkpoint: str) -> Sequence[float]:
    """Returns the range of the input that the initial weights expect."""
    if start:
        return model_info.read(start).network.get("input_range", contract.IMAGE_RANGE)
    return pretrained.input_range(pretrained_checkpoint) if pretrained_checkpoint else contract.IMAGE_RANGE


def _source_of(datasets: Sequence[records.Records]) -> str:
    sources = {dataset.source for dataset in datasets}
    if len(sources) > 1:
        names = ", ".join(f"{dataset.path} is {dataset.source}" for dataset in datasets)
        raise UserError(f"real and synthetic datasets do not mix: {names}")
    return sources.pop()


def _objective(task: str, teacher_model_dir: str, info: model_info.ModelInfo) -> objectives.Objective:
    if task == SUPERVISED:
        return objectives.supervised_objective
    teacher, teacher_info = model_files.load_best(teacher_model_dir)
    if teacher_info.inputs != contract.INPUT_S1_S2:
        raise UserError(f"--teacher_model_dir={teacher_model_dir}: that network looks at {teacher_info.inputs} only")
    if teacher_info.imagery != info.imagery:
        raise UserError(
            f"--teacher_model_dir={teacher_model_dir}: trained on images of {teacher_info.dataset}, whose bands are "
            f"not those of {info.dataset}; give a teacher of the student's own datasets"
        )
    info.teacher = f"{teacher_info.name} ({epath.Path(teacher_model_dir).name})"
    folded = folding.fold_batch_norms(teacher, mixed_precision.TEACHER_PRECISION[info.training_precision])
    return functools.partial(objectives.distillation_objective, teacher=folded)


def _next_multiple(step: int, every: int) -> int:
    return (step // every + 1) * every


def _train_until(trainer: Trainer, iterator: Iterable, step: int, stop: int, learning_rate: float) -> dict[str, float]:
    metrics, bad_step = trainer.train_steps(iterator, tf.constant(stop - step, tf.int64))
    if bad_step:
        raise UserError(
            f"the loss is not finite at step {int(bad_step)} (learning rate {learning_rate:.3g}); "
            "lower poly_schedule.base_learning_rate or look for bad chips; checkpoints are from before"
        )
    return {name: float(value) for name, value in metrics.items()}


def _validate(trainer: Trainer, batches: Iterable) -> float:
    counts = sum(trainer.evaluate_step(batch) for batch in batches)
    iou = statistics.iou(statistics.Counts(*(int(count) for count in counts)))
    return 0.0 if math.isnan(iou) else iou


def _save_operative_config(model_dir: str) -> None:
    path = epath.Path(model_dir) / contract.OPERATIVE_CONFIG_GIN
    if not path.exists():
        files.write_text(path, gin.operative_config_str())
