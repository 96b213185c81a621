"""Exported SavedModels through OpenVINO, which on CPUs is faster than TensorFlow, most of all in bfloat16."""

import functools
from collections.abc import Callable, Mapping

import numpy as np
from absl import logging
from etils import epath

from flood_distill import contract, model_info, object_store
from flood_distill.errors import UserError

_DEVICE = "CPU"
_MAX_COMPILED = 4  # shapes kept at once: each holds its own copy of the weights
_HINTS = {contract.FLOAT32: "f32", contract.BFLOAT16: "bf16"}


def load(folder: epath.Path, info: model_info.ModelInfo) -> Callable[..., Mapping[str, np.ndarray]]:
    """Reads a SavedModel; every image size is compiled when it first comes.

    Fixed sizes are a seventh faster in bfloat16, and the positions of the align-corners resize, which bfloat16 cannot
    hold, become constants before anything is rounded. A batch smaller than one that came before is filled up rather
    than compiled again.

    Args:
        folder: holds saved_model.pb; local.
        info: its description. Its precision is the arithmetic used: OpenVINO's own choice would be bfloat16.

    Returns:
        A function from the SavedModel's inputs by name, float32 [batch, height, width, bands], to its outputs by name.

    Raises:
        UserError: if OpenVINO is not installed or `folder` is in an object store.
    """
    try:
        import openvino
    except ImportError as error:
        raise UserError("--engine=openvino: not installed; pip install 'flood_distill[openvino]'") from error
    object_store.local_only("--model", folder)
    core = openvino.Core()
    converted = core.read_model(str(folder))  # ten times faster than openvino.convert_model
    hint = _hint(core, info.precision)

    @functools.lru_cache(_MAX_COMPILED)
    def compiled(batch: int, height: int, width: int) -> openvino.CompiledModel:
        model = converted.clone()
        model.reshape({port: [batch, height, width, port.partial_shape[-1].get_length()] for port in model.inputs})
        return core.compile_model(model, _DEVICE, {"INFERENCE_PRECISION_HINT": hint})

    largest: dict[tuple[int, int], int] = {}  # batch by image size

    def serve(**images: np.ndarray) -> dict[str, np.ndarray]:
        batch, *size, _ = images[info.imagery.s1_input].shape
        largest[tuple(size)] = room = max(batch, largest.get(tuple(size), 0))
        results = compiled(room, *size)({name: _filled_up(image, room) for name, image in images.items()})
        return {port.get_any_name(): value[:batch] for port, value in results.items()}

    return serve


def _hint(core, precision: str) -> str:
    """Returns OpenVINO's word for the precision; float32, with a warning, where the processor has no bfloat16."""
    if precision == contract.BFLOAT16 and "BF16" not in core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"):
        logging.warning("This processor has no bfloat16 arithmetic; OpenVINO computes in float32 instead.")
        precision = contract.FLOAT32
    return _HINTS[precision]


def _filled_up(images: np.ndarray, batch: int) -> np.ndarray:
    """Appends images of zeros to [images, height, width, bands] up to the batch."""
    return np.pad(images, [(0, batch - len(images)), (0, 0), (0, 0), (0, 0)])
