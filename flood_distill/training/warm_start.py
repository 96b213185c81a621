"""Starts a network from the best weights of another run: a student from its teacher, a run from an earlier one."""

import keras
import numpy as np

from flood_distill.errors import UserError
from flood_distill.model_info import ModelInfo
from flood_distill.models import layers
from flood_distill.training import model_files, pretrained

SCRATCH = "scratch"
TEACHER = "teacher"


def source(initial_weights: str, teacher_model_dir: str) -> str:
    """Returns the model_dir whose weights to start from; empty for none.

    Args:
        initial_weights: ``scratch``; ``teacher``, which is scratch where there is no teacher; or a model_dir.
        teacher_model_dir: of the teacher, or empty.
    """
    return {SCRATCH: "", TEACHER: teacher_model_dir}.get(initial_weights, initial_weights)


def load(model: keras.Model, info: ModelInfo, model_dir: str) -> str:
    """Gives a network the best weights and batch-norm statistics of another run, where the shapes allow.

    The first convolution takes the channels of the bands that both have, by name; a band that the other network does
    not know keeps its initial weights. What only one of the two has is left alone. Nothing is assigned unless the rest
    fits.

    Args:
        model: a network of this package.
        info: its description.
        model_dir: of the other run.

    Returns:
        One line on what was taken.

    Raises:
        UserError: if there is no such run, or a variable has another shape there.
    """
    other, other_info = model_files.load_best(model_dir)
    ours, theirs = layers.checkpoint_names(model), layers.checkpoint_names(other)
    shared = [name for name in ours if name in theirs]
    values = {name: keras.ops.convert_to_numpy(theirs[name]) for name in shared}
    values[pretrained.FIRST_CONV] = _by_band(
        keras.ops.convert_to_numpy(ours[pretrained.FIRST_CONV]), info, values[pretrained.FIRST_CONV], other_info
    )
    for name, value in values.items():
        if value.shape != tuple(ours[name].shape):
            raise UserError(
                f"train.initial_weights: {name} is {list(value.shape)} in {model_dir} and {list(ours[name].shape)} in "
                "this network; give both the same network.* values"
            )
    for name, value in values.items():
        ours[name].assign(value)
    left = len(ours) - len(shared)
    return f"started from {model_dir} (step {other_info.step}): {len(shared)} variables taken, {left} drawn anew"


def _by_band(kernel: np.ndarray, info: ModelInfo, other_kernel: np.ndarray, other_info: ModelInfo) -> np.ndarray:
    """Returns `kernel` [3, 3, bands, filters] with the other's weights of every band that both networks look at."""
    others = [band.name for band in other_info.input_bands]
    if kernel.shape[-1] != other_kernel.shape[-1]:
        return other_kernel  # does not fit: the caller says so
    taken = kernel.copy()
    for index, band in enumerate(info.input_bands):
        if band.name in others:
            taken[:, :, index] = other_kernel[:, :, others.index(band.name)]
    return taken
