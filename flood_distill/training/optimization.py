"""Optimizer and learning-rate schedule (appendix B)."""

import gin
import keras

from flood_distill.errors import UserError


@gin.configurable
def poly_schedule(
    num_steps: int, *, base_learning_rate: float = gin.REQUIRED, power: float = 0.9
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Polynomial decay to zero: lr(step) = base_learning_rate * (1 - step / num_steps) ** power (appendix B)."""
    return keras.optimizers.schedules.PolynomialDecay(
        base_learning_rate, decay_steps=num_steps, end_learning_rate=0.0, power=power
    )


@gin.configurable
def momentum_optimizer(
    num_steps: int, *, momentum: float = 0.9, weight_average_decay: float = 0.0
) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent with momentum 0.9 (appendix B) and `poly_schedule`.

    Keras multiplies the gradient by the learning rate before it enters the velocity, TF1's MomentumOptimizer after:
    the two differ only by how fast the rate changes over some ten steps.

    Args:
        num_steps: of the run.
        momentum: of the velocity.
        weight_average_decay: d of a moving average a of the weights w, a <- d a + (1 - d) w after every step, which is
            what is validated and kept as best; 0 for the weights themselves, as in the paper.

    Raises:
        UserError: for a decay outside [0, 1).
    """
    if not 0 <= weight_average_decay < 1:
        raise UserError(f"momentum_optimizer.weight_average_decay={weight_average_decay}: give a number in [0, 1)")
    average = {"use_ema": True, "ema_momentum": weight_average_decay} if weight_average_decay else {}
    return keras.optimizers.SGD(poly_schedule(num_steps), momentum=momentum, **average)
