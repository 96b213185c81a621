"""The losses as the training step calls them: gin values on one side, pure functions on the other."""

from collections.abc import Callable

import gin
import keras

from flood_distill import augmentation, contract
from flood_distill.losses import cross_entropy, distillation, edge_weights, weight_decay

# (logits, batch) -> (weighted sum [batch], weight [batch])
Objective = Callable[[object, dict], tuple[object, object]]


@gin.configurable
def supervised_objective(
    logits,
    batch: dict,
    *,
    inner_width_px: int = 2,
    outer_width_px: int = 2,
    inner_weight: float = 2.0,
    outer_weight: float = 2.0,
):
    """Pixel cross-entropy with edge weights in numerator and divisor (section 3.1; widths and weights are ours).

    Args:
        logits: float32 [batch, height, width, 2].
        batch: holds `contract.LABEL`, int32 [batch, height, width], -1 where it must not count.
        inner_width_px: width of the inner edge, the water next to dry ground.
        outer_width_px: width of the outer edge, the dry ground next to water.
        inner_weight: weight of the inner edge; pixels away from edges weigh 1.
        outer_weight: weight of the outer edge.

    Returns:
        (weighted sum of the loss [batch], sum of the weights [batch]).
    """
    labels = batch[contract.LABEL]
    weights = edge_weights.edge_weights(labels, inner_width_px, outer_width_px, inner_weight, outer_weight)
    return cross_entropy.cross_entropy(logits, labels, weights)


@gin.configurable
def distillation_objective(logits, batch: dict, *, teacher: keras.Model, temperature: float = 1.0):
    """Cross-entropy of the student's probabilities under the teacher's (section 3.2), no edge weights.

    Args:
        logits: the student's, float32 [batch, height, width, 2].
        batch: holds `contract.TEACHER_IMAGE` and `contract.VALID`.
        teacher: frozen; runs with training=False.
        temperature: divides both logits; 1 in the paper.

    Returns:
        (sum of the loss over valid pixels [batch], number of valid pixels [batch]).
    """
    teacher_logits = teacher(batch[contract.TEACHER_IMAGE], training=False)
    if contract.TEACHER_ROWS in batch:  # the teacher saw the clean tile, the student a crop of it
        teacher_logits = augmentation.warp_logits(
            teacher_logits, batch[contract.TEACHER_ROWS], batch[contract.TEACHER_COLUMNS]
        )
    return distillation.distillation(logits, teacher_logits, batch[contract.VALID], temperature)


@gin.configurable
def l2_weight_decay(model: keras.Model, *, rate: float = gin.REQUIRED):
    """rate * sum(w ** 2) / 2 over the kernels that the reference decays (appendix B; see losses/weight_decay.py)."""
    return weight_decay.weight_decay(model, rate)
