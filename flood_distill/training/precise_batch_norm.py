"""Population statistics of batch norms, measured instead of averaged along the way."""

from collections.abc import Iterable

import keras
import tensorflow as tf

from flood_distill import contract
from flood_distill.training import mixed_precision


class PreciseBatchNorm:
    """Replaces the moving statistics of a network by its statistics over given batches, with the current weights.

    Wu and Johnson, *Rethinking "Batch" in BatchNorm*, 2021, section 3: moving averages lag behind the weights, and
    those of small crops are not those of whole tiles, because near a border convolutions see padding.

    Args:
        strategy: under whose scope `model` was made.
        model: image -> logits; its batch norms are updated in a training=True pass.
        batches: distributed global batches that hold `contract.IMAGE` of the size that the network will meet; as many
            and the same ones each time.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: keras.Model, batches: Iterable[dict]):
        self._strategy = strategy
        self._model = model
        self._batches = batches
        self._norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]

    def measure(self) -> None:
        """Sets the moving mean and variance of every batch norm to those of all pixels of all batches."""
        totals = [[0.0, 0.0] for _ in self._norms]
        num_batches = 0
        for batch in self._batches:
            self._clear()
            self._forward(batch)
            num_batches += 1
            for total, norm in zip(totals, self._norms, strict=True):
                # From zero, one update leaves (1 - momentum) times the statistics of the batch.
                mean = norm.moving_mean.numpy() / (1.0 - norm.momentum)
                variance = norm.moving_variance.numpy() / (1.0 - norm.momentum)
                total[0] += mean
                total[1] += variance + mean**2
        for (mean, square), norm in zip(totals, self._norms, strict=True):
            norm.moving_mean.assign(mean / num_batches)
            norm.moving_variance.assign(square / num_batches - (mean / num_batches) ** 2)

    def _clear(self) -> None:
        for norm in self._norms:
            norm.moving_mean.assign(tf.zeros_like(norm.moving_mean))
            norm.moving_variance.assign(tf.zeros_like(norm.moving_variance))

    @tf.function
    def _forward(self, batch: dict) -> None:
        with mixed_precision.float32_arithmetic(self._model):
            self._strategy.run(lambda images: self._model(images, training=True), args=(batch[contract.IMAGE],))
