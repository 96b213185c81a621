"""Arithmetic of a training step: float32, or mixed with 16 bits for activations and products."""

import contextlib
from collections.abc import Iterator

import keras

from flood_distill import contract
from flood_distill.errors import UserError

# Of the frozen teacher beside a student of each precision: float16 would need its own look at overflow.
TEACHER_PRECISION = {
    contract.FLOAT32: contract.FLOAT32,
    contract.MIXED_BFLOAT16: contract.BFLOAT16,
    contract.MIXED_FLOAT16: contract.FLOAT32,
}


def check(precision: str) -> None:
    """Raises UserError unless `precision` is one of `contract.TRAINING_PRECISIONS`."""
    if precision not in contract.TRAINING_PRECISIONS:
        raise UserError(f"train.precision={precision!r}: not one of {', '.join(contract.TRAINING_PRECISIONS)}")


@contextlib.contextmanager
def policy(precision: str) -> Iterator[None]:
    """Layers that are made inside compute in `precision`; their weights stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def float32_arithmetic(model: keras.Model) -> Iterator[None]:
    """A pass through `model` that is traced or run inside computes in float32, with the same weights."""
    before = [layer.dtype_policy for layer in model.layers]
    try:
        for layer in model.layers:
            layer.dtype_policy = contract.FLOAT32
        yield
    finally:
        for layer, kept in zip(model.layers, before, strict=True):
            layer.dtype_policy = kept


def loss_scaling(optimizer: keras.optimizers.Optimizer, precision: str) -> keras.optimizers.Optimizer:
    """Returns the optimizer, for ``mixed_float16`` wrapped so that small gradients do not vanish.

    Keras's `LossScaleOptimizer` multiplies the loss by up to 2 ** 15 and more, divides the gradients by it, and skips a
    step whose gradients overflow (Micikevicius et al., *Mixed Precision Training*, 2018, section 3.2). bfloat16 has the
    exponents of float32 and needs none.
    """
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == contract.MIXED_FLOAT16 else optimizer
