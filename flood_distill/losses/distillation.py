"""Cross-entropy between the teacher's and the student's class probabilities."""

import keras
from keras import ops

from flood_distill import contract
from flood_distill.losses.log_probabilities import log_probabilities


def distillation(
    student_logits: keras.KerasTensor,
    teacher_logits: keras.KerasTensor,
    valid: keras.KerasTensor,
    temperature: float = 1.0,
    weights: keras.KerasTensor | None = None,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the sum of -T^2 sum_k p_teacher log p_student over valid pixels and their weight, each per example.

    Section 3.2 of the paper at T = 1. Its gradient is that of the KL divergence, from which it differs by the teacher's
    entropy, a constant. The factor T^2 keeps the gradient's size when T changes (Hinton et al. 2015, section 2).

    Args:
        student_logits: float32 [batch, height, width, classes].
        teacher_logits: float32 [batch, height, width, classes]; no gradient flows into them.
        valid: bool [batch, height, width], pixels that count; nothing of the others does, be it NaN.
        temperature: T, by which both logits are divided; positive.
        weights: float32 [batch, height, width] of the pixels, in the sum and in its divisor; None for 1.

    Returns:
        Weighted sum float32 [batch], weight (the number of valid pixels where each weighs 1) float32 [batch].

    Raises:
        ValueError: for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be positive")
    valid = ops.cast(valid, "bool")
    teacher = log_probabilities(ops.stop_gradient(teacher_logits) / temperature, valid)
    student = log_probabilities(student_logits / temperature, valid)
    weights = ops.cast(valid, "float32") if weights is None else ops.where(valid, weights, 0.0)
    losses = -sum(ops.exp(log_teacher) * log_student for log_teacher, log_student in zip(teacher, student, strict=True))
    return temperature**2 * ops.sum(losses * weights, axis=(1, 2)), ops.sum(weights, axis=(1, 2))


def hard_labels(teacher_logits: keras.KerasTensor, valid: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the class that the teacher holds likeliest; water where it holds water as likely as dry.

    Args:
        teacher_logits: float32 [batch, height, width, 2]; no gradient flows into them.
        valid: bool [batch, height, width].

    Returns:
        int32 [batch, height, width], `contract.IGNORE_LABEL` where not valid.
    """
    dry, water = (ops.stop_gradient(teacher_logits)[..., kind] for kind in (contract.DRY, contract.WATER))
    labels = ops.where(water >= dry, contract.WATER, contract.DRY)
    return ops.cast(ops.where(valid, labels, contract.IGNORE_LABEL), "int32")
