"""The inner loop, written once for every strategy."""

from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from flood_distill import contract
from flood_distill.metrics import confusion
from flood_distill.models import deeplab
from flood_distill.training import mixed_precision
from flood_distill.training.objectives import Objective

LOSS = "loss"  # data term of the global batch, averaged over the weight of its pixels
L2 = "l2"
METRICS = (LOSS, L2)


class Trainer:
    """One training step and one evaluation step under a strategy.

    The loss of a step is sum of the objective over the global batch / weight over the global batch, plus the weight
    decay once: the number of replicas never changes it. Dropout draws from (seed, step), so a resumed run goes on as
    the one that was interrupted.

    Args:
        strategy: under whose scope `model` and `optimizer` were made.
        model: image -> logits [batch, height, width, 2].
        optimizer: a Keras optimizer; it sums gradients over replicas, and may scale the loss.
        objective: (logits, batch) -> per-example (weighted sum, weight).
        regularizer: model -> scalar added to the loss.
        seed: the run's seed.
        jit_compile: compile the step with XLA: gains on GPU and TPU, 8 times slower on CPU.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        regularizer: Callable[[keras.Model], tf.Tensor],
        seed: int,
        jit_compile: bool = False,
    ):
        self.strategy = strategy
        self.model = model
        self.optimizer = optimizer
        self._objective = objective
        self._regularizer = regularizer
        self._seed = seed
        self._dropouts = deeplab.dropout_layers(model)
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            # Keras 3's own counter is no tf.Variable.
            self.step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
        # Outside the scope: every worker has its own, and they agree in `_agree_to_stop`.
        self._asked_to_stop = tf.Variable(False, trainable=False)
        self._stopped = tf.Variable(False, trainable=False)
        self._replica_step = tf.function(self._replica_step, jit_compile=True) if jit_compile else self._replica_step

    @tf.function
    def train_steps(self, iterator: Iterator, num_steps: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Runs up to `num_steps` steps; stops after the first whose loss is not finite, or when asked to.

        Returns:
            The mean of each metric over the steps (float32 scalars), and the number of the step, counted from 1 over
            the whole run, whose loss was NaN or infinite (int64 scalar; 0 if none was).
        """
        first_step = self.step.read_value()
        sums = {name: tf.zeros([]) for name in METRICS}
        bad_step = tf.zeros([], tf.int64)
        for _ in tf.range(num_steps):
            metrics = self._global_step(next(iterator))
            sums = {name: sums[name] + metrics[name] for name in METRICS}
            if not tf.math.is_finite(metrics[LOSS] + metrics[L2]):
                bad_step = self.step.read_value()
                break
            if self._agree_to_stop():
                self._stopped.assign(True)
                break
        steps_made = tf.cast(self.step.read_value() - first_step, tf.float32)
        return {name: sums[name] / steps_made for name in METRICS}, bad_step

    def ask_to_stop(self) -> None:
        """Makes `train_steps` end after the step that it is in, on all workers; from any thread."""
        self._asked_to_stop.assign(True)

    @property
    def stopped(self) -> bool:
        """Whether `train_steps` has ended because this or another worker was asked to stop."""
        return bool(self._stopped.numpy())

    @tf.function
    def evaluate_step(self, batch: dict) -> tf.Tensor:
        """Returns tp, fp, fn, tn of one global batch over its scored pixels, int64 [4]; in float32 arithmetic."""
        with mixed_precision.float32_arithmetic(self.model):
            per_replica = self.strategy.run(self._replica_counts, args=(batch,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.learning_rate.numpy())

    def _global_step(self, batch: dict) -> dict[str, tf.Tensor]:
        self._seed_dropout()
        per_replica = self.strategy.run(self._replica_step, args=(batch,))
        self.step.assign_add(1)
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica[name], axis=None) for name in METRICS
        }

    def _agree_to_stop(self) -> tf.Tensor:
        """Whether any worker was asked to: a step that only some of them make never ends."""
        asked = tf.cast(self._asked_to_stop.read_value(), tf.int32)
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            asked = self.strategy.run(tf.identity, args=(asked,))
            asked = self.strategy.reduce(tf.distribute.ReduceOp.SUM, asked, axis=None)
        return asked > 0

    def _replica_step(self, batch: dict) -> dict[str, tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        with tf.GradientTape() as tape:
            logits = self.model(batch[contract.IMAGE], training=True)
            weighted_sum, weight = self._objective(logits, batch)
            global_weight = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(weight))
            data_loss = tf.math.divide_no_nan(tf.reduce_sum(weighted_sum), global_weight)
            l2 = self._regularizer(self.model) / replica.num_replicas_in_sync
            loss = self.optimizer.scale_loss(data_loss + l2)
        gradients = tape.gradient(loss, self.model.trainable_variables)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return {LOSS: data_loss, L2: l2}

    def _replica_counts(self, batch: dict) -> tf.Tensor:
        logits = self.model(batch[contract.IMAGE], training=False)
        water = logits[..., contract.WATER] >= logits[..., contract.DRY]
        return tf.cast(tf.reduce_sum(confusion.confusion_counts(water, batch[contract.LABEL]), axis=0), tf.int64)

    def _seed_dropout(self) -> None:
        for index, layer in enumerate(self._dropouts):
            state = layer.seed_generator.state
            state.assign(tf.cast(tf.stack([self._seed * len(self._dropouts) + index, self.step]), state.dtype))
