"""Batch norm for training steps: TensorFlow's fused operation, and one collective a direction across replicas."""

from collections.abc import Callable

import keras
import tensorflow as tf


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with less work; same weights, same arithmetic.

    Keras 3 normalises in a dozen passes over memory. The fused operation takes a third of the time on a CPU, and runs
    in cuDNN on a GPU. For synchronised statistics Keras sends three collectives forward and two back for every layer;
    here it is one each. Inference stays Keras's.

    Attributes:
        holds_averages: whether a training step leaves the moving averages alone.
    """

    holds_averages = False

    def call(self, inputs, training=None, mask=None):
        """Normalises [batch, height, width, channels] in its own dtype, with float32 statistics."""
        if not training or not self.trainable or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        normalize = _over_replicas(self.epsilon) if self.synchronized else self._over_one
        outputs, mean, variance = normalize(inputs, self.gamma.value, self.beta.value)
        if not self.holds_averages:
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
        return outputs

    def _over_one(self, inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, gamma, beta, epsilon=self.epsilon, is_training=True
        )
        # The operation returns n / (n - 1) times the variance it normalised with; Keras keeps the latter.
        count = tf.cast(tf.size(inputs) // inputs.shape[-1], variance.dtype)
        return outputs, mean, variance * (count - 1.0) / tf.maximum(count, 1.0)

    def _move(self, average: keras.Variable, value: tf.Tensor) -> None:
        average.assign(average * self.momentum + value * (1.0 - self.momentum))


def _over_replicas(epsilon: float) -> Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns the normalisation over all replicas: (inputs, gamma, beta) -> outputs, mean, variance."""

    @tf.custom_gradient
    def normalize(inputs: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor):
        x = tf.cast(inputs, tf.float32)
        channels = inputs.shape[-1]
        local_count = tf.cast(tf.size(inputs) // channels, tf.float32)
        total, squares, count = _summed([_sum(x), _sum(tf.square(x)), local_count[None]])
        mean = total / count
        variance = tf.maximum(squares / count - tf.square(mean), 0.0)
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        outputs = tf.cast(x * scale + (beta - mean * scale), inputs.dtype)

        def gradient(d_outputs: tf.Tensor, *_):
            """Mean and variance only feed the moving averages: nothing comes back from them."""
            dy = tf.cast(d_outputs, tf.float32)
            d_beta = _sum(dy)
            d_gamma = (_sum(dy * x) - mean * d_beta) * inverse
            all_beta, all_gamma = _summed([d_beta, d_gamma])
            # gamma inverse (dy - mean(dy) - x^ mean(dy x^)), x^ = (x - mean) inverse: Ioffe and Szegedy 2015, section 3
            slope = -scale * inverse * all_gamma / count
            d_inputs = dy * scale + (x * slope - (scale * all_beta / count + slope * mean))
            return tf.cast(d_inputs, inputs.dtype), d_gamma, d_beta

        return (outputs, mean, variance), gradient

    return normalize


def _sum(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=[0, 1, 2])


def _summed(vectors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the sums of vectors over all replicas, by one collective."""
    sizes = [vector.shape[0] for vector in vectors]
    replica = tf.distribute.get_replica_context()
    return tf.split(replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat(vectors, 0)), sizes)
