"""Xception-65, the modified aligned Xception of DeepLab v3+ (research/deeplab/core/xception.py)."""

import dataclasses
import functools
from collections.abc import Iterator

import keras

from flood_distill.models import layers

ROOT = "xception_65"
EPSILON = 1e-3  # core/xception.py, xception_arg_scope
OUTPUT_STRIDES = (8, 16, 32)
MIN_SIZE_PX = 33
NUM_MIDDLE_UNITS = 16


@dataclasses.dataclass(frozen=True)
class Unit:
    """One Xception module.

    Attributes:
        scope: without the root and ``xception_module``.
        channels: of its three separable convolutions.
        stride: of the third depthwise, at output stride 32.
        skip: ``conv`` (1x1 convolution and batch norm of the raw input), ``sum`` (raw input) or ``none``.
        tap_stride: nominal stride of the decoder tap after its second pointwise; 0 if it has none.
        activate_inside: ReLU after every batch norm; otherwise ReLU before every depthwise.
    """

    scope: str
    channels: tuple[int, int, int]
    stride: int = 1
    skip: str = "conv"
    tap_stride: int = 0
    activate_inside: bool = False


ENTRY_UNITS = (
    Unit("entry_flow/block1/unit_1", (128, 128, 128), stride=2, tap_stride=2),
    Unit("entry_flow/block2/unit_1", (256, 256, 256), stride=2, tap_stride=4),
    Unit("entry_flow/block3/unit_1", (728, 728, 728), stride=2, tap_stride=8),
)
MIDDLE_UNIT = Unit("middle_flow/block1/unit_{}", (728, 728, 728), skip="sum")
EXIT_UNITS = (
    Unit("exit_flow/block1/unit_1", (728, 1024, 1024), stride=2, tap_stride=16),
    Unit("exit_flow/block2/unit_1", (1536, 1536, 2048), skip="none", activate_inside=True),
)


@dataclasses.dataclass(frozen=True)
class Endpoints:
    """What the backbone offers.

    Attributes:
        features: [batch, ceil(height / output_stride), ceil(width / output_stride), 2048], after ReLU.
        taps: stride -> [batch, ceil(height / stride), ceil(width / stride), channels], batch norm outputs **before**
            ReLU, for strides 2, 4, 8 and 16 up to the output stride.
    """

    features: keras.KerasTensor
    taps: dict[int, keras.KerasTensor]


def xception65(
    inputs: keras.KerasTensor,
    *,
    output_stride: int = 16,
    multi_grid: tuple[int, int, int] = (1, 1, 1),
    width_multiplier: float = 1.0,
    num_middle_units: int = NUM_MIDDLE_UNITS,
    batch_norm_momentum: float = 0.9997,
    synchronized_batch_norm: bool = False,
    batch_norm_layer: type[keras.layers.BatchNormalization] = keras.layers.BatchNormalization,
    seed: int | None = None,
) -> Endpoints:
    """Builds the backbone on `inputs`.

    Args:
        inputs: float32 [batch, height, width, channels]; height and width at least 33, odd or even, or unknown.
        output_stride: 8, 16 or 32; blocks beyond it keep their size and dilate instead (atrous convolution).
        multi_grid: factors on the rates of the last block's three convolutions.
        width_multiplier: factor on all channel counts.
        num_middle_units: 16 in the paper.
        batch_norm_momentum: 0.9997 in the reference; 0.9 to 0.99 for short runs.
        synchronized_batch_norm: statistics over all replicas (TensorFlow backend only).
        batch_norm_layer: class of the batch norms, for a faster one of the same arithmetic.
        seed: of the initial weights; None draws from Keras's global generator.

    Raises:
        ValueError: for another output stride or too small an input.
    """
    _check(inputs, output_stride)
    norm = functools.partial(
        layers.batch_norm,
        layer=batch_norm_layer,
        momentum=batch_norm_momentum,
        epsilon=EPSILON,
        synchronized=synchronized_batch_norm,
    )
    shared = {"norm": norm, "initializer": layers.truncated_normal(layers.BACKBONE_STDDEV), "seed": seed}
    conv = functools.partial(layers.conv, **shared)
    separable = functools.partial(
        layers.separable_conv, depthwise=functools.partial(layers.depthwise_conv, **shared), pointwise=conv
    )
    scaled = functools.partial(layers.scaled_channels, width_multiplier=width_multiplier)

    hidden = conv(inputs, scaled(32), f"{ROOT}/entry_flow/conv1_1", kernel_size=3, strides=2, activate=True)
    hidden = conv(hidden, scaled(64), f"{ROOT}/entry_flow/conv1_2", kernel_size=3, activate=True)
    taps = {}
    for unit, rate in _placed_units(_units(num_middle_units), output_stride):
        rates = [rate * grid for grid in multi_grid] if unit.activate_inside else [rate] * 3
        unit = dataclasses.replace(unit, channels=tuple(scaled(channels) for channels in unit.channels))
        hidden, tap = _xception_module(hidden, unit, rates, conv=conv, separable=separable)
        if 0 < unit.tap_stride <= output_stride:
            taps[unit.tap_stride] = tap
    return Endpoints(hidden, taps)


def _check(inputs: keras.KerasTensor, output_stride: int) -> None:
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output_stride={output_stride} is not one of {OUTPUT_STRIDES}")
    _, height, width, _ = inputs.shape
    if any(size is not None and size < MIN_SIZE_PX for size in (height, width)):
        raise ValueError(f"input size {height}x{width} px is too small: Xception-65 needs at least {MIN_SIZE_PX} px")


def _units(num_middle_units: int) -> tuple[Unit, ...]:
    middle = [
        dataclasses.replace(MIDDLE_UNIT, scope=MIDDLE_UNIT.scope.format(number + 1))
        for number in range(num_middle_units)
    ]
    return (*ENTRY_UNITS, *middle, *EXIT_UNITS)


def _placed_units(units: tuple[Unit, ...], output_stride: int) -> Iterator[tuple[Unit, int]]:
    """Yields each unit with the stride it keeps and its rate.

    A unit that loses its stride still runs at the old rate; the rate grows from the next unit on
    (stack_blocks_dense of the reference).
    """
    stride, rate = 2, 1
    for unit in units:
        if stride < output_stride:
            stride *= unit.stride
            yield unit, 1
        else:
            yield dataclasses.replace(unit, stride=1), rate
            rate *= unit.stride


def _xception_module(
    inputs: keras.KerasTensor, unit: Unit, rates: list[int], *, conv, separable
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the module's output and its tap: the second pointwise's batch norm, before ReLU."""
    scope = f"{ROOT}/{unit.scope}/xception_module"
    hidden, tap = inputs, None
    for number, (channels, rate) in enumerate(zip(unit.channels, rates, strict=True), start=1):
        name = f"{scope}/separable_conv{number}"
        if not unit.activate_inside:
            hidden = layers.relu(hidden, f"{name}_depthwise/input")
        strides = unit.stride if number == 3 else 1
        hidden = separable(hidden, channels, name, strides=strides, rate=rate, activate=unit.activate_inside)
        tap = hidden if number == 2 else tap
    if unit.skip == "none":
        return hidden, tap
    shortcut = inputs
    if unit.skip == "conv":
        shortcut = conv(inputs, unit.channels[-1], f"{scope}/shortcut", strides=unit.stride)
    return keras.layers.Add(name=layers.layer_name(f"{scope}/add"))([hidden, shortcut]), tap
