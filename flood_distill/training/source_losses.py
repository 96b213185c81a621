"""The loss on each of several datasets, beside the one of the whole batch: two sums a step and dataset."""

from collections.abc import Sequence

import tensorflow as tf

from flood_distill import contract
from flood_distill.training import training_csv
from flood_distill.training.objectives import Objective


class SourceLosses:
    """An objective that remembers what it gave for the examples of each dataset.

    Make it under the strategy's scope. Every replica adds up its own examples; what is read is the sum over all. The
    loss on one dataset alone is that of the batch, so then nothing is remembered.

    Args:
        objective: (logits, batch) -> per-example (weighted sum, weight).
        datasets: names, in the order in which `contract.DATASET_INDEX` counts them.
    """

    def __init__(self, objective: Objective, datasets: Sequence[str]):
        self.objective = objective
        self._datasets = datasets
        self._sums = tf.Variable(
            tf.zeros([len(datasets), 2]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )

    def __call__(self, logits: tf.Tensor, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the objective does: (weighted sum of the loss [batch], sum of the weights [batch])."""
        weighted_sum, weight = self.objective(logits, batch)
        if len(self._datasets) == 1:
            return weighted_sum, weight
        # Over the pixels of an image, which cancel out: sums of some hundred steps stay exact enough in float32.
        num_pixels = tf.cast(tf.reduce_prod(tf.shape(logits)[1:-1]), tf.float32)
        sums = tf.stop_gradient(tf.stack([weighted_sum, weight], axis=-1)) / num_pixels
        index = batch[contract.DATASET_INDEX]
        self._sums.assign_add(tf.math.unsorted_segment_sum(sums, index, len(self._datasets)))
        return weighted_sum, weight

    def take(self) -> dict[str, float]:
        """Returns the mean loss on each dataset since the last call, by column of training.csv; none for one unseen.

        All workers call it together.
        """
        if len(self._datasets) == 1:
            return {}
        sums = self._sums.numpy()
        self._sums.assign(tf.zeros_like(sums))
        means = zip(self._datasets, sums, strict=True)
        return {training_csv.loss_of(dataset): float(total / weight) for dataset, (total, weight) in means if weight}
