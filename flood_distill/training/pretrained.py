"""Weights of public TF1 checkpoints in our networks, by variable name, and ours in checkpoints of the same names.

Made for the ImageNet, COCO and VOC checkpoints of Xception-65 of tensorflow/models, research/deeplab
(g3doc/model_zoo.md). Layouts are alike, so nothing is transposed.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.models import layers
from flood_distill.training import tf1_checkpoints

# core/feature_extractor.py, _preprocess_zero_mean_unit_range: what the public weights expect.
INPUT_RANGE = (-1.0, 1.0)

FIRST_CONV = "xception_65/entry_flow/conv1_1/weights"  # [3, 3, input channels, 32]
GLOBAL_STEP = "global_step"
INPUT_RANGE_NAME = "flood_distill/input_range"  # float32 [2], only in checkpoints of ours

_ENCODER = "encoder"
_LOGITS = "logits"
_GROUPS = {
    _ENCODER: re.compile(r"xception_65/"),
    "ASPP": re.compile(r"(image_pooling|aspp\d+(_depthwise|_pointwise)?|concat_projection)/"),
    "decoder stage": re.compile(r"decoder/(feature_projection|decoder_conv)\d+(_(?P<stage>\d+))?[_/]"),
    _LOGITS: re.compile(r"logits/semantic/"),
}
_NOT_WEIGHTS = {
    "the step counter": re.compile(rf"{GLOBAL_STEP}$"),
    "the range of the input": re.compile(rf"{INPUT_RANGE_NAME}$"),
    "the classifier of ImageNet": re.compile(r"xception_65/logits/"),
    "state of the optimizer": re.compile(r".*/(Momentum|RMSProp|Adam)(_\d+)?$|beta\d_power$"),
    "moving averages of weights": re.compile(r".*/ExponentialMovingAverage$"),
}
_SHOWN = 3  # names in an error


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of the variables of a checkpoint and of a network.

    Attributes:
        checkpoint: its prefix.
        loaded: names of the variables that were taken as they are.
        adapted: variable -> what was done with it.
        left_out: variable of the checkpoint -> why it was not taken.
        initial: variables of the network that keep their initial values.
    """

    checkpoint: str
    loaded: tuple[str, ...]
    adapted: dict[str, str]
    left_out: dict[str, str]
    initial: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"pretrained weights of {self.checkpoint}",
                f"  loaded: {_numbers(_group(name) for name in self.loaded)}",
                *(f"  adapted: {name}: {what}" for name, what in self.adapted.items()),
                f"  left out: {_numbers(self.left_out.values())}",
                f"  initialised anew: {_numbers(_group(name) for name in self.initial)}",
            ]
        )


def load(model: keras.Model, checkpoint: str, part: str = contract.PRETRAINED_WHOLE) -> Report:
    """Gives a network the weights of a checkpoint; nothing is assigned unless everything fits.

    The whole backbone must be there and be that of the network. Of the head (ASPP, every decoder stage, logits) each
    piece is taken that both have: an ImageNet checkpoint has none, the public ones have one decoder stage. Logits of
    another number of classes stay as they are, and a first convolution of another number of channels is adapted
    (`adapted_first_conv`).

    Args:
        model: a network of this package, whose `input_range` is `input_range(checkpoint)`.
        checkpoint: as `tf1_checkpoints.find` takes it.
        part: ``whole``, or ``encoder`` for the backbone only.

    Raises:
        UserError: for a part that is none of these, no checkpoint, or one that is not of this network: a variable too
            many, too few or of another shape.
    """
    if part not in contract.PRETRAINED_PARTS:
        raise UserError(f"part {part!r} of a pretrained checkpoint: not one of {', '.join(contract.PRETRAINED_PARTS)}")
    reader = tf1_checkpoints.Reader(tf1_checkpoints.find(checkpoint))
    variables = layers.checkpoint_names(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    left_out = {name: reason for name in reader.shapes if (reason := _reason(name, reader.shapes, shapes, part))}
    taken = [name for name in reader.shapes if name not in left_out]
    _check_names(reader, shapes, taken, part)
    _check_shapes(reader, shapes, taken)
    values = reader.tensors(taken)
    adapted = {}
    for name in taken:
        if values[name].shape != shapes[name]:
            values[name] = adapted_first_conv(values[name], shapes[name][2])
            adapted[name] = _adaptation(reader.shapes[name][2], shapes[name][2])
    for name, value in values.items():
        variables[name].assign(value)
    return Report(
        checkpoint=reader.prefix,
        loaded=tuple(name for name in taken if name not in adapted),
        adapted=adapted,
        left_out=left_out,
        initial=tuple(name for name in shapes if name not in values),
    )


def adapted_first_conv(kernel: np.ndarray, num_channels: int) -> np.ndarray:
    """Returns the first convolution for another number of input channels.

    Channels are repeated in turn, cut to the number and multiplied by old / new, which keeps the size of the response
    (timm, `adapt_input_conv`; segmentation_models_pytorch, `patch_first_conv`).

    Args:
        kernel: float32 [3, 3, channels, filters].
        num_channels: wanted.

    Returns:
        float32 [3, 3, num_channels, filters].
    """
    old = kernel.shape[2]
    return kernel[:, :, np.arange(num_channels) % old] * np.float32(old / num_channels)


def input_range(checkpoint: str) -> tuple[float, float]:
    """Returns the range of the input that the weights of a checkpoint expect: [-1, 1] unless it is one of ours.

    Raises:
        UserError: if there is no checkpoint.
    """
    reader = tf1_checkpoints.Reader(tf1_checkpoints.find(checkpoint))
    if INPUT_RANGE_NAME not in reader.shapes:
        return INPUT_RANGE
    low, high = reader.tensors([INPUT_RANGE_NAME])[INPUT_RANGE_NAME].tolist()
    return low, high


def save(model: keras.Model, prefix: str, input_range: Iterable[float], step: int = 0) -> None:
    """Writes the weights of a network as a TF1 checkpoint with the reference's names.

    Args:
        model: a network of this package.
        prefix: such as ``DIR/model.ckpt``.
        input_range: what the weights expect; the network's argument of that name.
        step: training step, which the reference reads as `global_step`.
    """
    tensors = {name: keras.ops.convert_to_numpy(value) for name, value in layers.checkpoint_names(model).items()}
    tensors[GLOBAL_STEP] = np.array(step, np.int64)
    tensors[INPUT_RANGE_NAME] = np.array(list(input_range), np.float32)
    tf1_checkpoints.write(tensors, prefix)


def _group(name: str) -> str | None:
    """Returns what a variable belongs to: ``encoder``, ``ASPP``, ``decoder stage N`` or ``logits``; None if unknown."""
    for group, pattern in _GROUPS.items():
        if match := pattern.match(name):
            return f"{group} {match['stage'] or 0}" if "stage" in match.groupdict() else group
    return None


def _reason(name: str, theirs: Mapping[str, tuple], ours: Mapping[str, tuple], part: str) -> str | None:
    """Returns why a variable of the checkpoint is not taken; None if it must be."""
    for reason, pattern in _NOT_WEIGHTS.items():
        if pattern.match(name):
            return reason
    group = _group(name)
    if group in (None, _ENCODER):
        return None
    if part == contract.PRETRAINED_ENCODER:
        return "the head, not asked for"
    if group not in {_group(other) for other in ours}:
        return f"{group}, which the network has not"
    if group == _LOGITS and name in ours and theirs[name][-1] != ours[name][-1]:
        return f"{group} of {theirs[name][-1]} classes, the network has {ours[name][-1]}"
    return None


def _check_names(reader: tf1_checkpoints.Reader, ours: Mapping[str, tuple], taken: Iterable[str], part: str) -> None:
    """Raises UserError for variables that only one side has, though both have others of their group."""
    there = {_group(name) for name in reader.shapes}
    if _ENCODER not in there:
        raise UserError(
            f"{reader.prefix}: no variable under xception_65/; give a DeepLab checkpoint with the Xception-65 backbone"
        )
    unknown = [name for name in taken if name not in ours]
    if unknown:
        raise UserError(
            f"{reader.prefix}: {_few(unknown)}: not in the network; network.num_middle_units and the head have to be "
            "the checkpoint's"
        )
    expected = {_ENCODER} if part == contract.PRETRAINED_ENCODER else there
    missing = [name for name in ours if _group(name) in expected and name not in reader.shapes]
    if missing:
        raise UserError(
            f"{reader.prefix}: {_few(missing)}: not in the checkpoint; network.num_middle_units and the head have to "
            "be the checkpoint's"
        )


def _check_shapes(reader: tf1_checkpoints.Reader, ours: Mapping[str, tuple], taken: Iterable[str]) -> None:
    for name in taken:
        theirs, wanted = reader.shapes[name], ours[name]
        if name == FIRST_CONV and len(theirs) == 4:
            theirs, wanted = (_without_channels(shape) for shape in (theirs, wanted))
        if theirs != wanted:
            raise UserError(
                f"{reader.prefix}: {name} is {list(reader.shapes[name])} there and {list(ours[name])} in the network; "
                "network.width_multiplier and network.decoder_strides have to be the checkpoint's, or load the encoder "
                "only"
            )


def _without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:2], *shape[3:])


def _adaptation(old: int, new: int) -> str:
    return f"{old} input channels repeated to {new}, times {old}/{new}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _numbers(kinds: Iterable[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in collections.Counter(kinds).items()) or "nothing"
