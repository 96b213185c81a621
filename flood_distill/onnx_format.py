"""The exported model as ONNX, for those who serve without TensorFlow."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from flood_distill.errors import UserError

ONNX_FILE = "model.onnx"
OPSET = 17  # of ONNX 1.12: onnxruntime 1.12 and later, OpenVINO, TensorRT


def check_installed() -> None:
    """Refuses to start work that could not be ended.

    Raises:
        UserError: if tf2onnx or onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError("--format=onnx: not installed; pip install 'flood_distill[onnx]'") from error


def save(
    predict_fn: Callable[..., dict[str, tf.Tensor]], specifications: dict[str, tf.TensorSpec], folder: Path
) -> None:
    """Writes model.onnx with the inputs and outputs of the SavedModel's serving_default.

    Args:
        predict_fn: inputs by name -> outputs by name.
        specifications: the inputs.
        folder: not there yet.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)

    def positional(*images: tf.Tensor) -> dict[str, tf.Tensor]:
        return predict_fn(**dict(zip(specifications, images, strict=True)))

    folder.mkdir()
    tf2onnx.convert.from_function(
        tf.function(positional),
        tuple(specifications.values()),
        opset=OPSET,
        custom_op_handlers={"SelectV2": (_select, [])},
        output_path=str(folder / ONNX_FILE),
    )


def _select(context, node, name: str, arguments: list) -> None:
    """Makes ONNX's Where of tf.where: tf2onnx multiplies by 0 and 1 instead, which does not get rid of NaN."""
    del context, name, arguments
    node.type = "Where"


def serving_function(folder: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Returns what model.onnx serves through onnxruntime: inputs by name -> outputs by name."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / ONNX_FILE), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def serve(**images: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, images), strict=True))

    return serve
