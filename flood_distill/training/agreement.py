"""How far a student is from its teacher, measured with the function that is its loss."""

import keras
import tensorflow as tf

from flood_distill import contract
from flood_distill.losses import distillation
from flood_distill.training import mixed_precision
from flood_distill.training.training_csv import TEACHER_AGREEMENT, TEACHER_DISTANCE


class TeacherAgreement:
    """Compares the two networks batch by batch, over the pixels that Sentinel-1 and 2 are valid at.

    The distance is `losses.distillation` at temperature 1 in every run, so that runs can be compared.

    Args:
        strategy: under whose scope the student was made.
        student: image -> logits [batch, height, width, 2].
        teacher: teacher image -> logits [batch, height, width, 2].
    """

    def __init__(self, strategy: tf.distribute.Strategy, student: keras.Model, teacher: keras.Model):
        self._strategy = strategy
        self._student = student
        self._teacher = teacher

    @tf.function
    def sums(self, batch: dict) -> tf.Tensor:
        """Returns the summed distance, the pixels with the same class, and all pixels of one global batch.

        Args:
            batch: `contract.IMAGE`, `contract.TEACHER_IMAGE` and `contract.VALID`, distributed.

        Returns:
            float64 [3].
        """
        with mixed_precision.float32_arithmetic(self._student):
            per_replica = self._strategy.run(self._replica_sums, args=(batch,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    def _replica_sums(self, batch: dict) -> tf.Tensor:
        student = self._student(batch[contract.IMAGE], training=False)
        teacher = tf.cast(self._teacher(batch[contract.TEACHER_IMAGE], training=False), tf.float32)
        valid = batch[contract.VALID]
        distances, counts = distillation.distillation(student, teacher, valid)
        same = valid & (_water(student) == _water(teacher))
        sums = tf.reduce_sum(distances), tf.math.count_nonzero(same, dtype=tf.float32), tf.reduce_sum(counts)
        return tf.cast(tf.stack(sums), tf.float64)


def means(sums: tf.Tensor) -> dict[str, float]:
    """Returns the columns of training.csv for the sums over all batches; none where no pixel is valid."""
    distance, same, count = (float(value) for value in sums)
    return {TEACHER_DISTANCE: distance / count, TEACHER_AGREEMENT: same / count} if count else {}


def _water(logits: tf.Tensor) -> tf.Tensor:
    return logits[..., contract.WATER] >= logits[..., contract.DRY]
