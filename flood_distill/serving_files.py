"""What TensorFlow Serving reads beside a SavedModel: warm-up requests, batching, the list of models."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from etils import epath

from flood_distill import files

WARMUP_FILE = "tf_serving_warmup_requests"  # TensorFlow Serving's name, in assets.extra
BATCHING_PARAMETERS_TXT = "batching_parameters.txt"
MODELS_CONFIG = "models.config"
_WARMUP_BATCHES = (1, 4)
_WARMUP_VALUE = -12.0  # dB: land
# Requests of one image size are put together, up to this many images or until the oldest has waited 5 ms.
_BATCHING_PARAMETERS = """max_batch_size { value: 16 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: 2 }
"""
_MODELS = """model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""


def write_warmup(specs: Mapping[str, Mapping[str, tf.TensorSpec]], model_name: str, size_px: int, path: Path) -> bool:
    """Writes requests that a server answers before it says that it is ready.

    Args:
        specs: of the inputs, by signature and name; sizes that are free become `size_px`.
        model_name: in the requests.
        size_px: height and width.
        path: the file.

    Returns:
        Whether it was written: TensorFlow Serving's protocol buffers (extra ``serving``) have to be installed.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        logging.warning("No warm-up requests written: pip install 'flood_distill[serving]'")
        return False
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in specs.items():
            for batch in _WARMUP_BATCHES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = model_name, signature
                for name, spec in inputs.items():
                    request.inputs[name].CopyFrom(_uniform(spec, batch, size_px))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
    return True


def write_server_files(export_dir: epath.Path) -> None:
    """Writes batching_parameters.txt and models.config beside the versions of a model."""
    files.write_text(export_dir / BATCHING_PARAMETERS_TXT, _BATCHING_PARAMETERS)
    files.write_text(export_dir / MODELS_CONFIG, _MODELS.format(name=export_dir.name))


def _uniform(spec: tf.TensorSpec, batch: int, size_px: int):
    """Returns a tensor of one value as a protocol buffer of a few bytes: the last value given stands for the rest."""
    free = (batch, size_px, size_px, None)
    shape = [size or free[axis] for axis, size in enumerate(spec.shape.as_list())]
    proto = tf.make_tensor_proto(np.float32(_WARMUP_VALUE), shape=[1])
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    proto.ClearField("tensor_content")
    proto.float_val[:] = [_WARMUP_VALUE]
    return proto
