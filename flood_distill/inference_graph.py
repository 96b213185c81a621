"""The network as an export holds it: batch norms folded, weights as constants, nothing left of training."""

from collections.abc import Callable

import keras
import tensorflow as tf

from flood_distill import contract
from flood_distill.models import folding


def freeze(network: keras.Model, precision: str = contract.FLOAT32) -> Callable[[tf.Tensor], tf.Tensor]:
    """Folds a network and makes constants of its weights.

    TensorFlow then fuses convolution, bias and ReLU and keeps the kernels in the layout that its convolutions want.
    All callers share one function, so a SavedModel with three signatures holds the weights once.

    Args:
        network: image -> logits; stays as it is.
        precision: ``float32`` or ``bfloat16``: of weights and arithmetic up to the logits.

    Returns:
        A tf.function: image float32 [batch, height, width, channels] of any size -> float32 logits [batch, height,
        width, classes]. It has no variables.
    """
    folded = folding.fold_batch_norms(network, precision, _UnfusedAdd)
    weights = [keras.ops.convert_to_numpy(variable) for variable in folded.non_trainable_variables]
    specification = tf.TensorSpec([None, None, None, folded.input_shape[-1]], tf.float32)

    @tf.function(input_signature=[specification])
    def logits(image: tf.Tensor) -> tf.Tensor:
        return folded.stateless_call([], [tf.constant(weight) for weight in weights], image, training=False)[0]

    return logits


class _UnfusedAdd(keras.layers.Add):
    """A sum that TensorFlow does not fuse into the convolution before it; as fast.

    In TensorFlow 2.21 that fusion fails on a chain of residual units ("remapper failed: Mutation::Apply error"), and
    with it all others of the graph.
    """

    def call(self, inputs):
        """Adds two tensors of one shape; the first is a convolution's."""
        convolved, shortcut = inputs
        return tf.ensure_shape(convolved, convolved.shape) + shortcut
