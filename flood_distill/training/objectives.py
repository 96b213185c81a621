"""The losses as the training step calls them: gin values on one side, pure functions on the other."""

import dataclasses
from collections.abc import Callable, Sequence

import gin
import keras

from flood_distill import augmentation, contract
from flood_distill.errors import UserError
from flood_distill.losses import confidence as confidence_lib
from flood_distill.losses import cross_entropy, distillation, edge_weights, lovasz, weight_decay

# (logits, batch) -> (weighted sum [batch], weight [batch])
Objective = Callable[[object, dict], tuple[object, object]]

SOFT, HARD = "soft", "hard"  # what a student learns of its teacher: probabilities, or the likelier class
UNIFORM = "uniform"  # every pixel weighs alike


@gin.configurable
def supervised_objective(
    logits,
    batch: dict,
    *,
    inner_width_px: int = 2,
    outer_width_px: int = 2,
    inner_weight: float = 2.0,
    outer_weight: float = 2.0,
    lovasz_weight: float = 0.0,
):
    """Pixel cross-entropy with edge weights in numerator and divisor (section 3.1; widths and weights are ours).

    Args:
        logits: float32 [batch, height, width, 2].
        batch: holds `contract.LABEL`, int32 [batch, height, width], -1 where it must not count.
        inner_width_px: width of the inner edge, the water next to dry ground.
        outer_width_px: width of the outer edge, the dry ground next to water.
        inner_weight: weight of the inner edge; pixels away from edges weigh 1.
        outer_weight: weight of the outer edge.
        lovasz_weight: of the Lovasz-Softmax loss of water (losses/lovasz.py) beside the cross-entropy; 0 in the paper.

    Returns:
        (weighted sum of the loss [batch], sum of the weights [batch]).
    """
    labels = batch[contract.LABEL]
    weights = edge_weights.edge_weights(labels, inner_width_px, outer_width_px, inner_weight, outer_weight)
    return _with_lovasz(cross_entropy.cross_entropy(logits, labels, weights), logits, labels, lovasz_weight)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The objective of stage 2 with its settings; see `distillation_objective`."""

    teacher: keras.Model
    temperature: float
    teacher_labels: str
    confidence: str
    confidence_power: float
    lovasz_weight: float

    def __call__(self, logits, batch: dict):
        """Returns (weighted sum of the loss [batch], sum of the weights [batch])."""
        valid = batch[contract.VALID]
        teacher_logits = self._teacher_logits(batch)
        weights = None
        if self.confidence != UNIFORM:
            weights = confidence_lib.confidence_weights(teacher_logits, valid, self.confidence, self.confidence_power)
        hard = distillation.hard_labels(teacher_logits, valid)
        if self.teacher_labels == HARD:
            terms = cross_entropy.cross_entropy(logits, hard, weights)
        else:
            terms = distillation.distillation(logits, teacher_logits, valid, self.temperature, weights)
        total, weight = _with_lovasz(terms, logits, hard, self.lovasz_weight)
        if contract.LABEL_WEIGHT in batch:
            labelled, labelled_weight = supervised_objective(logits, batch)
            total = total + batch[contract.LABEL_WEIGHT] * labelled
            weight = weight + batch[contract.LABEL_WEIGHT] * labelled_weight
        return total, weight

    def _teacher_logits(self, batch: dict):
        logits = self.teacher(batch[contract.TEACHER_IMAGE], training=False)
        if contract.TEACHER_ROWS not in batch:
            return logits
        # The teacher saw the clean tile, the student a crop of it.
        return augmentation.warp_logits(logits, batch[contract.TEACHER_ROWS], batch[contract.TEACHER_COLUMNS])


@gin.configurable
def distillation_objective(
    teacher: keras.Model,
    *,
    temperature: float = 1.0,
    teacher_labels: str = SOFT,
    confidence: str = UNIFORM,
    confidence_power: float = 1.0,
    lovasz_weight: float = 0.0,
) -> Distillation:
    """Returns the objective of stage 2: cross-entropy of the student's probabilities under the teacher's (section 3.2).

    Pixels at edges weigh like all others. What `label_weights` adds is `supervised_objective`'s loss of the labelled
    pixels and its weight, both times the weight of their dataset: at weight 1 a labelled pixel counts as much as a
    distilled one, and a teacher that is sure of nothing leaves the labels their size.

    Args:
        teacher: frozen; runs with training=False.
        temperature: divides both logits; 1 in the paper.
        teacher_labels: ``soft``, the teacher's probabilities (the paper), or ``hard``, its likelier class.
        confidence: weight of a pixel: ``uniform`` (the paper), or how sure the teacher is of it, by ``entropy`` or
            ``max_probability`` (losses/confidence.py).
        confidence_power: power of that weight; more than 1 tells sure from unsure more sharply.
        lovasz_weight: of the Lovasz-Softmax loss of water, with the teacher's likelier class as label; 0 in the paper.

    Returns:
        (student's logits float32 [batch, height, width, 2], batch) -> (weighted sum of the loss [batch], sum of the
        weights [batch]). The batch holds `contract.TEACHER_IMAGE` and `contract.VALID`, and where labels count
        `contract.LABEL` and `contract.LABEL_WEIGHT`.

    Raises:
        UserError: for a setting that makes no sense.
    """
    _check_choice("teacher_labels", teacher_labels, (SOFT, HARD))
    _check_choice("confidence", confidence, (UNIFORM, *confidence_lib.MEASURES))
    if temperature <= 0:
        raise UserError(f"distillation_objective.temperature={temperature}: must be positive")
    if teacher_labels == HARD and temperature != 1:
        raise UserError("distillation_objective.temperature: is for soft labels; leave it at 1 with hard ones")
    for name, value in (("confidence_power", confidence_power), ("lovasz_weight", lovasz_weight)):
        if value < 0:
            raise UserError(f"distillation_objective.{name}={value}: must not be negative")
    return Distillation(teacher, temperature, teacher_labels, confidence, confidence_power, lovasz_weight)


@gin.configurable
def label_weights(datasets: Sequence[str], *, hand: float = 0.0, weak: float = 0.0) -> list[float] | None:
    """Returns how much a labelled pixel of each dataset counts in stage 2 beside a distilled one.

    Distillation itself reads no label (section 3.2). These weights are ours, to see what the labels add.

    Args:
        datasets: names of the datasets that the student is trained on.
        hand: weight of pixels with a hand label; 0 in the paper.
        weak: weight of pixels with a weak label; 0 in the paper.

    Returns:
        One number a dataset; None where all are 0 and no label is to be read.

    Raises:
        UserError: for a negative weight.
    """
    if min(hand, weak) < 0:
        raise UserError(f"label_weights.hand={hand}, label_weights.weak={weak}: must not be negative")
    weights = [float(hand if dataset in contract.HAND_LABELED else weak) for dataset in datasets]
    return weights if any(weights) else None


@gin.configurable
def l2_weight_decay(model: keras.Model, *, rate: float = gin.REQUIRED):
    """rate * sum(w ** 2) / 2 over the kernels that the reference decays (appendix B; see losses/weight_decay.py)."""
    return weight_decay.weight_decay(model, rate)


def _with_lovasz(terms: tuple, logits, labels, lovasz_weight: float) -> tuple:
    """Adds the Lovasz loss of each image as often as the weight of its pixels: the step's mean is one over images."""
    total, weight = terms
    if not lovasz_weight:
        return terms
    loss, _ = lovasz.lovasz_water(logits, labels)
    return total + lovasz_weight * weight * loss, weight


def _check_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UserError(f"distillation_objective.{setting}={value!r}: not one of {', '.join(choices)}")
