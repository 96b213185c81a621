"""Optimizer and learning-rate schedule (appendix B)."""

import gin
import keras


@gin.configurable
def poly_schedule(
    num_steps: int, *, base_learning_rate: float = gin.REQUIRED, power: float = 0.9
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Polynomial decay to zero: lr(step) = base_learning_rate * (1 - step / num_steps) ** power (appendix B)."""
    return keras.optimizers.schedules.PolynomialDecay(
        base_learning_rate, decay_steps=num_steps, end_learning_rate=0.0, power=power
    )


@gin.configurable
def momentum_optimizer(num_steps: int, *, momentum: float = 0.9) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent with momentum 0.9 (appendix B) and `poly_schedule`.

    Keras multiplies the gradient by the learning rate before it enters the velocity, TF1's MomentumOptimizer after:
    the two differ only by how fast the rate changes over some ten steps.
    """
    return keras.optimizers.SGD(poly_schedule(num_steps), momentum=momentum)
