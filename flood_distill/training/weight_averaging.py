"""The exponential moving average of a run's weights, kept by Keras's optimizer, in place of the weights themselves."""

import contextlib
from collections.abc import Iterator

import keras


def decay(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the decay of the average that `optimizer` keeps; 0 if it keeps none."""
    keeper = _keeper(optimizer)
    return keeper.ema_momentum if keeper.use_ema else 0.0


@contextlib.contextmanager
def averaged(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Inside, `model` holds the averages of its trainable weights, if `optimizer` keeps them; then its own again.

    The moving statistics of batch norms stay those of the weights themselves, unless they are measured inside.
    """
    if not decay(optimizer) or not int(_keeper(optimizer).iterations.numpy()):  # before the first step there is none
        yield
        return
    kept = [variable.numpy() for variable in model.trainable_variables]
    _keeper(optimizer).finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, kept, strict=True):
            variable.assign(value)


def _keeper(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer that makes the steps: the one inside a `LossScaleOptimizer`."""
    return getattr(optimizer, "inner_optimizer", optimizer)
