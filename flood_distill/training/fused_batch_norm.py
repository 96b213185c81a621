"""Batch norm by TensorFlow's fused operation, for training steps."""

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with one fused operation a direction; same weights, same arithmetic.

    Keras 3 normalises in a dozen passes over memory. The fused operation takes a third of the time on a CPU, and runs
    in cuDNN on a GPU. Inference and synchronised statistics stay Keras's.
    """

    def call(self, inputs, training=None, mask=None):
        """Normalises [batch, height, width, channels] in its own dtype, with float32 statistics."""
        if not training or not self.trainable or self.synchronized or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, self.gamma.value, self.beta.value, epsilon=self.epsilon, is_training=True
        )
        # The operation returns n / (n - 1) times the variance it normalised with; Keras keeps the latter.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance * (count - 1.0) / tf.maximum(count, 1.0))
        return outputs

    def _move(self, average: keras.Variable, value: tf.Tensor) -> None:
        average.assign(average * self.momentum + value * (1.0 - self.momentum))
