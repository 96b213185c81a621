"""Training and scoring of a network of this package with JAX: the step, validation, the best weights."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import keras
import numpy as np
from tqdm import tqdm

from flood_distill import contract, statistics
from flood_distill.losses import weight_decay

Objective = Callable[[jax.Array, dict, object], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a training is made with; values of the gin configurables of the same names.

    Attributes:
        num_steps: optimizer steps.
        validate_every: steps between two validations.
        thresholds: of which each validation takes the best.
        base_learning_rate: of the first step; falls to 0.
        power: of the polynomial that it falls by.
        momentum: of the velocity.
        decay_rate: weight decay.
        seed: of weights, order, augmentation and dropout.
    """

    num_steps: int
    validate_every: int
    thresholds: Sequence[float]
    base_learning_rate: float
    power: float
    momentum: float
    decay_rate: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Best:
    """The best weights of a training, which the model holds: their step, pooled validation IoU and threshold."""

    step: int
    iou: float
    threshold: float


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Whole tiles to predict and score.

    Attributes:
        images: float32 [chips, height, width, bands], padded as the network needs.
        labels: int8 [chips, tile height, tile width], -1 where a pixel is not scored.
    """

    images: np.ndarray
    labels: np.ndarray


Predict = Callable[[Sequence, Tiles], np.ndarray]


def train(
    model: keras.Model,
    data: dict[str, jax.Array],
    make_batch: Callable[[dict, jax.Array, jax.Array], dict],
    batches: Iterable[np.ndarray],
    objective: Objective,
    frozen: object,
    predict: Predict,
    validation: Tiles,
    settings: Settings,
    name: str,
) -> Best:
    """Trains `model`, which then holds its best weights.

    Args:
        model: image -> logits; holds the weights to start from.
        data: the training chips, arrays [chips, ...].
        make_batch: (data, which chips, key) -> batch with `contract.IMAGE`.
        batches: which chips make each batch.
        objective: (logits, batch, frozen) -> weighted sum and weight of each example.
        frozen: arrays that the objective needs, such as a teacher's weights.
        predict: from `predictor`, for this model.
        validation: chooses the best weights.
        settings: see there.
        name: beside the progress bar.

    Raises:
        FloatingPointError: if the loss is not finite.
    """
    optimizer = _optimizer(settings)
    optimizer.build(model.trainable_variables)
    state = [*weights(model), _values(optimizer.variables)]
    step = _make_step(model, optimizer, make_batch, objective, settings.decay_rate)
    best, best_state, loss = Best(0, -1.0, contract.WATER_THRESHOLD), state[:2], jnp.zeros(())
    started = time.perf_counter()
    bar = tqdm(zip(range(1, settings.num_steps + 1), batches, strict=False), total=settings.num_steps, desc=name)
    for number, chips in bar:
        key = jax.random.fold_in(jax.random.key(settings.seed), number)
        state, loss = step(state, frozen, data, jnp.asarray(chips), key)
        if number % settings.validate_every and number < settings.num_steps:
            continue
        if not np.isfinite(loss):
            raise FloatingPointError(f"{name}: loss is {loss} at step {number}; lower poly_schedule.base_learning_rate")
        probability = predict(state[:2], validation)
        counts = [counts_at(probability, validation.labels, threshold) for threshold in settings.thresholds]
        iou, threshold = statistics.best_threshold(np.array(counts), settings.thresholds)
        if iou > best.iou:
            best, best_state = Best(number, iou, threshold), state[:2]
        rate = number / (time.perf_counter() - started)
        bar.set_postfix_str(f"loss {loss:.4f}, IoU {iou:.4f}, best {best.iou:.4f} at {best.step}, {rate:.1f} steps/s")
    _assign(model, best_state)
    return best


def predictor(model: keras.Model, batch_size: int = 16) -> Predict:
    """Returns (trainable, other weights), tiles -> float32 [chips, tile height, tile width], probability of water."""

    @jax.jit
    def water(state, images):
        logits, _ = model.stateless_call(*state, images, training=False)
        return jax.nn.softmax(logits)[..., contract.WATER]

    def predict(state: Sequence, tiles: Tiles) -> np.ndarray:
        missing = -len(tiles.images) % batch_size  # one shape, one compilation
        images = np.concatenate([tiles.images, np.repeat(tiles.images[:1], missing, axis=0)])
        made = [water(state, images[at : at + batch_size]) for at in range(0, len(images), batch_size)]
        height, width = tiles.labels.shape[1:]
        return np.concatenate(made)[: len(tiles.images), :height, :width]

    return predict


def weights(model: keras.Model) -> list[list[jax.Array]]:
    """Returns the trainable and the other weights of a network."""
    return [_values(model.trainable_variables), _values(model.non_trainable_variables)]


def counts_at(probability: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """Returns tp, fp, fn, tn."""
    found = statistics.count(probability >= threshold, labels, labels != contract.IGNORE_LABEL)
    return dataclasses.astuple(found)


def _optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """As flood_distill/training/optimization.py makes it."""
    schedule = keras.optimizers.schedules.PolynomialDecay(
        settings.base_learning_rate, settings.num_steps, end_learning_rate=0.0, power=settings.power
    )
    return keras.optimizers.SGD(schedule, momentum=settings.momentum)


def _make_step(model, optimizer, make_batch, objective: Objective, decay_rate: float) -> Callable:
    def loss_of(trainable, others, batch, frozen):
        logits, others = model.stateless_call(trainable, others, batch[contract.IMAGE], training=True)
        sums, total = objective(logits, batch, frozen)
        with keras.StatelessScope(state_mapping=zip(model.trainable_variables, trainable, strict=True)):
            decay = weight_decay.weight_decay(model, decay_rate)
        return jnp.sum(sums) / jnp.maximum(jnp.sum(total), 1.0) + decay, others

    def step(state, frozen, data, chips, key):
        trainable, others, slots = state
        batch = make_batch(data, chips, key)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, others), gradients = gradient(trainable, others, batch, frozen)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return [trainable, others, slots], loss

    return jax.jit(step)


def _values(variables: Sequence[keras.Variable]) -> list[jax.Array]:
    return [variable.value for variable in variables]


def _assign(model: keras.Model, state: Sequence[Sequence[jax.Array]]) -> None:
    for variables, values in zip((model.trainable_variables, model.non_trainable_variables), state, strict=True):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
