"""One training run, put together: a teacher, a supervised baseline or a student."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import gin
import keras
import tensorflow as tf
from etils import epath

from flood_distill import (
    chip_lists,
    contract,
    files,
    input_pipeline,
    model_info,
    object_store,
    records,
    sizes,
    supervision,
)
from flood_distill.errors import UserError
from flood_distill.input_pipeline import DISTILLATION, SUPERVISED, Part
from flood_distill.models import folding
from flood_distill.training import (
    initial,
    loop,
    mixed_precision,
    model_files,
    network,
    objectives,
    observer,
    optimization,
    run_log,
    stopping,
    strategies,
    training_csv,
    warm_start,
    weight_averaging,
)
from flood_distill.training.agreement import TeacherAgreement
from flood_distill.training.checkpoints import RunState
from flood_distill.training.example_maps import ExampleMaps
from flood_distill.training.precise_batch_norm import PreciseBatchNorm
from flood_distill.training.source_losses import SourceLosses
from flood_distill.training.teacher import Teacher
from flood_distill.training.trainer import Trainer
from flood_distill.training.validation import Validation


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: its last step.
        best_step: step of its best weights.
        best_iou: their pooled validation IoU.
        stopped: a signal stopped it before its end; everything is saved.
    """

    step: int
    best_step: int
    best_iou: float
    stopped: bool = False


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
    thresholds: Sequence[float] = (contract.WATER_THRESHOLD,),
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
    accumulation_steps: int = 1,
    recompute: bool = False,
    max_gradient_norm: float = 0.0,
    deterministic: bool = False,
) -> Outcome:
    """Trains one network and keeps the weights with the highest pooled water IoU on the validation split.

    The same command goes on where an earlier one was interrupted. SIGTERM and Ctrl-C stop it after the step that it is
    in, saved; a second Ctrl-C at once.

    Args:
        data_dir: folder of the converted datasets.
        model_dir: folder of the run.
        teacher_model_dir: model_dir of the frozen teacher; needed by, and only by, distillation.
        strategy: see `strategies.make_strategy`.
        tpu: name or address of the TPU.
        name: name of the experiment.
        task: ``supervised`` or ``distillation``.
        inputs: what the trained network looks at, one of `contract.INPUTS`.
        datasets: names of the datasets to train on (their train split).
        chip_list: the chips of the datasets' train splits to train on: an installed list (``ombria_40``) or a file of
            chip ids; empty takes all.
        mixing: ``size`` (every example equally often) or ``equal`` (every dataset equally often, section 3.2).
        validation_dataset: its validation split chooses the best weights.
        thresholds: of probability; each validation takes the one with the highest IoU, and the best weights' becomes
            the model's. One alone is simply used.
        num_steps: optimizer steps.
        batch_size: global batch, split over the replicas.
        crop_size_px: height and width of a training image.
        validation_batch_size: global batch of the validation; rounded up to a multiple of the replicas.
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
        accumulation_steps: micro-batches that a replica's part of a batch is split into, for cards that do not hold
            it at once. Loss and gradient are those of the whole batch; batch norms see one micro-batch at a time.
        recompute: keep less of the forward pass and compute it again for the gradients: less memory, more time.
        max_gradient_norm: longer gradients (Euclidean norm over all weights) are scaled to it; 0 never does.
        deterministic: only operations that give the same bits every time; slower, above all on GPUs. On a CPU
            ``--threads=1`` is needed too.

    Raises:
        UserError: for settings or data that do not fit together, when another process trains in `model_dir`, when its
            disk is full, and when loss or gradients are not finite.
    """
    # 1. Settings and strategy: what does not fit together ends the run before anything is read or written.
    object_store.connect(model_dir)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    distribution = strategies.make_strategy(strategy, tpu)
    _check_settings(task, inputs, teacher_model_dir, max_gradient_norm, thresholds)
    _check_batch_size(distribution, batch_size, accumulation_steps)
    mixed_precision.check(precision)
    start = initial.InitialWeights(
        warm_start.source(initial_weights, teacher_model_dir), pretrained_checkpoint, pretrained_part
    )

    # 2. Datasets, and the description of the run that follows from them.
    sources = [records.load(data_dir, dataset) for dataset in datasets]
    if chip_list:
        sources = [source.only(chip_lists.read(chip_list)) for source in sources]
    validation = records.load(data_dir, validation_dataset)
    imagery = records.common_imagery([*sources, validation])
    info = model_info.ModelInfo(
        name=name,
        task=task,
        inputs=inputs,
        network=network.network(len(imagery.bands(inputs)), start.input_range()),
        train_datasets=list(datasets),
        dataset=validation_dataset,
        source=_source_of([*sources, validation]),
        pretrained=start.short_name(),
        seed=seed,
        training_precision=precision,
    )
    of_distillation = {} if task == SUPERVISED else _distillation_batches(teacher_model_dir, datasets)

    # 3. Network, optimizer and objective.
    steps = {
        "jit_compile": jit_compile,
        "accumulation_steps": accumulation_steps,
        "recompute": recompute,
        "max_gradient_norm": max_gradient_norm,
        "thresholds": thresholds,
    }
    objective, teacher = _objective(distribution, task, teacher_model_dir, info)
    trainer = _make_trainer(distribution, info, objective, num_steps, steps)

    files.make_folder(model_dir)
    chief = strategies.is_chief(distribution)
    with strategies.own_folder(distribution, model_dir) as folder:
        # 4. State, the first of these that there is: (1) this run's own latest checkpoint, to go on; (2) the best
        # weights of another run, such as a student's teacher; (3) a public checkpoint; (4) scratch: drawn in 3.
        state = RunState(trainer, model_dir, info, max_checkpoints, write=chief)
        step = state.restore()
        if step == 0:
            start.load(trainer.model, info)
            if chief:
                _write_description(info, model_dir)

        # 5. Batches, from this step on.
        training_batches = functools.partial(
            input_pipeline.training_dataset,
            sources,
            mixing=mixing,
            task=task,
            inputs=inputs,
            seed=seed,
            batch_size=batch_size,
            crop_size_px=crop_size_px,
            **of_distillation,
        )
        batches = strategies.distribute(distribution, lambda part: training_batches(start_step=step, part=part))
        batch_norms = _precise_batch_norms(
            trainer, training_batches, info, validation_batch_size, precise_batch_norm_batches
        )
        validate = _validator(trainer, validation, info, validation_batch_size, teacher, batch_norms)

        # 6. The loop.
        cadence = loop.Cadence(num_steps, report_every, validate_every, checkpoint_every)
        log = run_log.RunLog(folder, step, training_csv.columns(datasets, distillation=teacher is not None))
        make_maps = functools.partial(ExampleMaps, validation, teacher)
        watch = observer.Observer(observer.monitoring(), log, trainer.model, info, make_maps, folder, step)
        examples = functools.partial(_examples_of, training_batches)
        whole = loop.Loop(trainer, state, log, cadence, batch_size, validate, watch, objective, examples, folder, name)
        supervision.report_started()
        with stopping.on_signals(trainer.ask_to_stop):
            step = whole.run(iter(batches), step)
        return Outcome(step, *state.best, stopped=step < num_steps)


def _check_settings(
    task: str, inputs: str, teacher_model_dir: str, max_gradient_norm: float, thresholds: Sequence[float]
) -> None:
    if task not in (SUPERVISED, DISTILLATION):
        raise UserError(f"train.task={task!r}: not one of {SUPERVISED}, {DISTILLATION}")
    if inputs not in contract.INPUTS:
        raise UserError(f"train.inputs={inputs!r}: not one of {', '.join(contract.INPUTS)}")
    if task == DISTILLATION and not teacher_model_dir:
        raise UserError("distillation needs --teacher_model_dir, the model_dir of a trained teacher")
    if task == SUPERVISED and teacher_model_dir:
        raise UserError("--teacher_model_dir is for distillation; this gin file trains without a teacher")
    if max_gradient_norm < 0:
        raise UserError(f"train.max_gradient_norm={max_gradient_norm}: give 0 (no clipping) or more")
    if not thresholds or not all(0 < threshold < 1 for threshold in thresholds):
        raise UserError(f"train.thresholds={thresholds}: give one or more between 0 and 1")


def _check_batch_size(distribution: tf.distribute.Strategy, batch_size: int, accumulation_steps: int) -> None:
    if accumulation_steps < 1:
        raise UserError(f"train.accumulation_steps={accumulation_steps}: give at least 1")
    replicas = distribution.num_replicas_in_sync
    if batch_size % (replicas * accumulation_steps):
        raise UserError(
            f"train.batch_size={batch_size}: not a multiple of {replicas} (replicas) times {accumulation_steps} "
            "(train.accumulation_steps)"
        )


def _source_of(datasets: Sequence[records.Records]) -> str:
    sources = {dataset.source for dataset in datasets}
    if len(sources) > 1:
        names = ", ".join(f"{dataset.path} is {dataset.source}" for dataset in datasets)
        raise UserError(f"real and synthetic datasets do not mix: {names}")
    return sources.pop()


def _objective(
    distribution: tf.distribute.Strategy, task: str, teacher_model_dir: str, info: model_info.ModelInfo
) -> tuple[SourceLosses, Teacher | None]:
    keras.utils.set_random_seed(info.seed)
    with distribution.scope():
        if task == SUPERVISED:
            return SourceLosses(objectives.supervised_objective, info.train_datasets), None
        teacher = _teacher(teacher_model_dir, info)
        return SourceLosses(objectives.distillation_objective(teacher.model), info.train_datasets), teacher


def _teacher(teacher_model_dir: str, info: model_info.ModelInfo) -> Teacher:
    teacher, teacher_info = model_files.load_best(teacher_model_dir)
    if teacher_info.inputs not in contract.TEACHER_INPUTS:
        raise UserError(f"--teacher_model_dir={teacher_model_dir}: that network looks at {teacher_info.inputs} only")
    if teacher_info.imagery != info.imagery:
        raise UserError(
            f"--teacher_model_dir={teacher_model_dir}: trained on images of {teacher_info.dataset}, whose bands are "
            f"not those of {info.dataset}; give a teacher of the student's own datasets"
        )
    info.teacher = f"{teacher_info.name} ({epath.Path(teacher_model_dir).name})"
    folded = folding.fold_batch_norms(teacher, mixed_precision.TEACHER_PRECISION[info.training_precision])
    return Teacher(folded, teacher_info)


def _distillation_batches(teacher_model_dir: str, datasets: Sequence[str]) -> dict:
    """Returns the settings of training batches that only a distillation has."""
    return {
        "teacher_inputs": model_info.read(teacher_model_dir).inputs,
        "label_weights": objectives.label_weights(datasets),
    }


def _make_trainer(
    distribution: tf.distribute.Strategy,
    info: model_info.ModelInfo,
    objective: objectives.Objective,
    num_steps: int,
    steps: dict,
) -> Trainer:
    keras.utils.set_random_seed(info.seed)
    with distribution.scope():
        model = network.build(info.network, distribution.num_replicas_in_sync > 1, info.training_precision)
        optimizer = mixed_precision.loss_scaling(optimization.momentum_optimizer(num_steps), info.training_precision)
    info.weight_average_decay = weight_averaging.decay(optimizer)
    return Trainer(distribution, model, optimizer, objective, objectives.l2_weight_decay, info.seed, **steps)


def _write_description(info: model_info.ModelInfo, model_dir: str) -> None:
    model_info.write(info, model_dir)
    files.write_text(epath.Path(model_dir) / contract.CONFIG_GIN, gin.config_str())


def _examples_of(training_batches: Callable[..., tf.data.Dataset], step: int) -> list[dict[str, str]]:
    """Returns which examples the batch of a step, counted from 1, holds: the stream is made again up to there."""
    batch = next(iter(training_batches(start_step=step - 1, only_ids=True)))
    columns = [[value.decode() for value in batch[name].numpy()] for name in (contract.DATASET, contract.CHIP_ID)]
    return [{contract.DATASET: dataset, contract.CHIP_ID: chip_id} for dataset, chip_id in zip(*columns, strict=True)]


def _precise_batch_norms(
    trainer: Trainer,
    training_batches: Callable[..., tf.data.Dataset],
    info: model_info.ModelInfo,
    batch_size: int,
    num_batches: int,
) -> PreciseBatchNorm | None:
    if not num_batches:
        return None
    tile_px = sizes.padded_size_px(info.imagery.tile_size_px, info.output_stride)
    replicas = trainer.strategy.num_replicas_in_sync

    def whole_tiles(part: Part) -> tf.data.Dataset:
        size = part.replica_batch_size(batch_size) * replicas
        tiles = training_batches(batch_size=size, crop_size_px=tile_px, start_step=0, part=part)
        return tiles.take(num_batches * replicas // part.count)

    return PreciseBatchNorm(trainer.strategy, trainer.model, strategies.distribute(trainer.strategy, whole_tiles))


def _validator(
    trainer: Trainer,
    validation: records.Records,
    info: model_info.ModelInfo,
    batch_size: int,
    teacher: Teacher | None,
    batch_norms: PreciseBatchNorm | None,
) -> Validation:
    batches = strategies.distribute(
        trainer.strategy,
        lambda part: input_pipeline.evaluation_dataset(
            validation,
            contract.VALIDATION_SPLIT,
            inputs=info.inputs,
            output_stride=info.output_stride,
            batch_size=batch_size,
            features=(),
            part=part,
            teacher_inputs=teacher.info.inputs if teacher else "",
        ),
    )
    compare = TeacherAgreement(trainer.strategy, trainer.model, teacher.model) if teacher else None
    return Validation(trainer, batches, compare, batch_norms)
