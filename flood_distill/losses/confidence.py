"""How sure a teacher is of each pixel, as a weight: it does not know where it is blind, under cloud and in shadow."""

import keras
from keras import ops

from flood_distill.losses.log_probabilities import log_probabilities

ENTROPY = "entropy"
MAX_PROBABILITY = "max_probability"
MEASURES = (ENTROPY, MAX_PROBABILITY)


def confidence_weights(
    teacher_logits: keras.KerasTensor, valid: keras.KerasTensor, measure: str, power: float = 1.0
) -> keras.KerasTensor:
    """Returns a weight a pixel: 1 where the teacher is certain, 0 where all classes are equally likely to it.

    With p the teacher's probabilities of K classes at temperature 1:

    * ``entropy``: (1 + sum_k p_k log p_k / log K) ** power, one less the share of the largest possible entropy;
    * ``max_probability``: ((K max_k p_k - 1) / (K - 1)) ** power; for two classes |2 p - 1| ** power.

    For two classes entropy is the milder of the two near certainty and the harder near doubt: p = 0.9 weighs 0.53 and
    0.8, p = 0.6 weighs 0.03 and 0.2. Both are ours, the paper weighs every pixel alike.

    Args:
        teacher_logits: float32 [batch, height, width, classes]; no gradient flows into them.
        valid: bool [batch, height, width], pixels that count; nothing of the others does, be it NaN.
        measure: ``entropy`` or ``max_probability``.
        power: 0 makes every weight 1; more than 1 tells sure from unsure more sharply. Not negative.

    Returns:
        float32 [batch, height, width] in [0, 1], 0 where not valid.

    Raises:
        ValueError: for another measure or a negative power.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure={measure!r} is not one of {', '.join(MEASURES)}")
    if power < 0:
        raise ValueError(f"power={power} must not be negative")
    valid = ops.cast(valid, "bool")
    logs = log_probabilities(ops.stop_gradient(teacher_logits), valid)
    certainty = _MEASURES[measure](logs)
    return ops.where(valid, ops.clip(certainty, 0.0, 1.0) ** power, 0.0)


def _one_less_entropy(logs: list[keras.KerasTensor]) -> keras.KerasTensor:
    return 1.0 + sum(ops.exp(log) * log for log in logs) / ops.log(float(len(logs)))


def _scaled_maximum(logs: list[keras.KerasTensor]) -> keras.KerasTensor:
    largest = ops.exp(ops.amax(ops.stack(logs), axis=0))
    return (len(logs) * largest - 1.0) / (len(logs) - 1.0)


_MEASURES = {ENTROPY: _one_less_entropy, MAX_PROBABILITY: _scaled_maximum}
