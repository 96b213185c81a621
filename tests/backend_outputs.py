"""What the network and the losses give on the Keras backend of this process; no TensorFlow unless it is that backend.

KERAS_BACKEND=jax python tests/backend_outputs.py INPUTS.npz OUTPUTS.npz
"""

import sys
from unittest import mock

import keras
import numpy as np
from keras import ops

from flood_distill import contract
from flood_distill.losses import confidence, cross_entropy, distillation, edge_weights, lovasz, weight_decay
from flood_distill.metrics import confusion
from flood_distill.models import deeplab, layers

# Dropout draws other numbers on every backend.
NETWORK = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "dropout_rate": 0.0}
IMAGE, LABELS, TEACHER = "image", "labels", "teacher_logits"
GRADIENT = "gradient"


def compute(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns evaluation logits, pixel weights, losses, counts of right and wrong pixels, and the gradient.

    Args:
        inputs: `IMAGE` float32 [batch, height, width, 2], `LABELS` int32 [batch, height, width], `TEACHER` float32
            [batch, height, width, 2], and the network's variables by checkpoint name.
    """
    image, labels, teacher = (ops.convert_to_tensor(inputs[name]) for name in (IMAGE, LABELS, TEACHER))
    with mock.patch.object(layers, "truncated_normal", return_value=_zeros):
        model = deeplab.deeplab_v3_plus(**NETWORK, input_range=(-1.0, 1.0))

    def losses(logits):
        valid = ops.not_equal(labels, contract.IGNORE_LABEL)
        weights = edge_weights.edge_weights(labels, 2, 1, 3.0, 2.0)
        sure = [confidence.confidence_weights(teacher, valid, measure, 2.0) for measure in confidence.MEASURES]
        return {
            "supervised": cross_entropy.cross_entropy(logits, labels, weights),
            "distilled": distillation.distillation(logits, teacher, valid, 2.0, sum(sure)),
            "hard": cross_entropy.cross_entropy(logits, distillation.hard_labels(teacher, valid)),
            "lovasz": lovasz.lovasz_water(logits, labels),
        }, {"edge_weights": weights, **dict(zip(confidence.MEASURES, sure, strict=True))}

    def total():
        named, _ = losses(model(image, training=True))
        ratios = [ops.sum(loss) / ops.sum(weight) for loss, weight in named.values()]
        return sum(ratios) + weight_decay.weight_decay(model, 1e-3)

    def evaluated():
        logits = model(image, training=False)
        named, weights = losses(logits)
        return {
            "logits": logits,
            **weights,
            **{name: loss for name, (loss, _) in named.items()},
            "counts": confusion.confusion_counts(logits[..., contract.WATER] > logits[..., contract.DRY], labels),
        }

    backend = keras.backend.backend()
    _assign(model, inputs)
    outputs = _jitted(evaluated) if backend == "jax" else evaluated()
    gradients = _GRADIENTS[backend](total, model.trainable_variables)
    outputs[GRADIENT] = np.concatenate([np.ravel(ops.convert_to_numpy(gradient)) for gradient in gradients])
    return {name: ops.convert_to_numpy(value) for name, value in outputs.items()}


def _zeros(seed):
    """JAX compiles the draw of every shape anew, and all that is drawn gets replaced."""
    return keras.initializers.Zeros()


def _assign(model: keras.Model, values: dict[str, np.ndarray]) -> None:
    for name, variable in layers.checkpoint_names(model).items():
        variable.assign(values[name])


def _jitted(function):
    import jax

    return jax.jit(function)()


def _tensorflow_gradients(function, variables):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = function()
    return tape.gradient(value, [variable.value for variable in variables])


def _jax_gradients(function, variables):
    import jax

    def of_values(values):
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return function()

    return jax.jit(jax.grad(of_values))([variable.value for variable in variables])


def _torch_gradients(function, variables):
    function().backward()
    return [variable.value.grad for variable in variables]


_GRADIENTS = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients, "torch": _torch_gradients}


if __name__ == "__main__":
    np.savez(sys.argv[2], **compute(dict(np.load(sys.argv[1]))))
    assert keras.backend.backend() == "tensorflow" or "tensorflow" not in sys.modules
