"""The inner loop, written once for every strategy."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from flood_distill import contract
from flood_distill.metrics import confusion
from flood_distill.models import deeplab
from flood_distill.training import mixed_precision
from flood_distill.training.objectives import Objective
from flood_distill.training.recompute import recomputing

LOSS = "loss"  # data term of the global batch, averaged over the weight of its pixels
L2 = "l2"
EMPTY = "empty"  # 1 for a step without any pixel that counts
METRICS = (LOSS, L2, EMPTY)
LEARNING_RATE = "learning_rate"
_BAD = "bad"  # positive where a replica's gradients were not finite


class Trainer:
    """One training step and one evaluation step under a strategy.

    The loss of a step is sum of the objective over the global batch / weight over the global batch, plus the weight
    decay once: the number of replicas never changes it. Dropout draws from (seed, step), so a resumed run goes on as
    the one that was interrupted.

    A batch may be split further into micro-batches, one after the other, for cards that do not hold it at once: sums
    and weights of all of them are added before the division, so loss and gradient are those of the whole batch. Batch
    norms see one micro-batch (of all replicas) at a time: their statistics are those of so many images.

    Args:
        strategy: under whose scope `model` and `optimizer` were made.
        model: image -> logits [batch, height, width, 2].
        optimizer: a Keras optimizer; it sums gradients over replicas, and may scale the loss.
        objective: (logits, batch) -> per-example (weighted sum, weight).
        regularizer: model -> scalar added to the loss.
        seed: the run's seed.
        jit_compile: compile the step with XLA: gains on GPU and TPU, 8 times slower on CPU.
        accumulation_steps: number of micro-batches of a batch.
        max_gradient_norm: gradients of a longer Euclidean norm, over all weights, are scaled to it; 0 never does.
        recompute: keep less of the forward pass and compute it again for the gradients: memory for time.
        thresholds: `evaluate_step` counts water where the probability is at least each of these.
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
        accumulation_steps: int = 1,
        max_gradient_norm: float = 0.0,
        recompute: bool = False,
        thresholds: Sequence[float] = (contract.WATER_THRESHOLD,),
    ):
        self.strategy = strategy
        self.model = model
        self.optimizer = optimizer
        self.thresholds = tuple(thresholds)
        self._objective = objective
        self._regularizer = regularizer
        self._seed = seed
        self._accumulation_steps = accumulation_steps
        self._max_gradient_norm = max_gradient_norm
        self._dropouts = deeplab.dropout_layers(model)
        self._forward = recomputing(model) if recompute else functools.partial(model, training=True)
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            # Keras 3's own counter is no tf.Variable.
            self.step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)
            self._sums = _make_sums(model) if accumulation_steps > 1 else []
        # Outside the scope: every worker has its own, and they agree in `_agree_to_stop`.
        self._asked_to_stop = tf.Variable(False, trainable=False)
        self._stopped = tf.Variable(False, trainable=False)
        if jit_compile:
            for name in ("_replica_step", "_accumulate", "_replica_step_of_sums"):
                setattr(self, name, tf.function(getattr(self, name), jit_compile=True))

    @tf.function
    def train_steps(self, iterator: Iterator, num_steps: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Runs up to `num_steps` steps; stops after the first whose loss or gradients are not finite, or when
        asked to.

        Returns:
            The mean of each metric over the steps and the learning rate of the last (float32 scalars), and the number
            of the step, counted from 1 over the whole run, whose loss or gradients held NaN or infinity (int64 scalar;
            0 if none did).
        """
        first_step = self.step.read_value()
        sums = {name: tf.zeros([]) for name in METRICS}
        bad_step, learning_rate = tf.zeros([], tf.int64), tf.zeros([])
        for _ in tf.range(num_steps):
            learning_rate = tf.convert_to_tensor(self.optimizer.learning_rate)
            metrics, finite = self._global_step(next(iterator))
            sums = {name: sums[name] + metrics[name] for name in METRICS}
            if not finite:
                bad_step = self.step.read_value()
                break
            if self._agree_to_stop():
                self._stopped.assign(True)
                break
        steps_made = tf.cast(self.step.read_value() - first_step, tf.float32)
        means = {name: sums[name] / steps_made for name in METRICS}
        return means | {LEARNING_RATE: learning_rate}, bad_step

    def ask_to_stop(self) -> None:
        """Makes `train_steps` end after the step that it is in, on all workers; from any thread."""
        self._asked_to_stop.assign(True)

    @property
    def stopped(self) -> bool:
        """Whether `train_steps` has ended because this or another worker was asked to stop."""
        return bool(self._stopped.numpy())

    @tf.function
    def evaluate_step(self, batch: dict) -> tf.Tensor:
        """Returns tp, fp, fn, tn of one global batch over its scored pixels; in float32 arithmetic.

        Returns:
            int64 [number of thresholds, 4].
        """
        with mixed_precision.float32_arithmetic(self.model):
            per_replica = self.strategy.run(self._replica_counts, args=(batch,))
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.learning_rate.numpy())

    def _global_step(self, batch: dict) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        if self._accumulation_steps == 1:
            per_replica = self.strategy.run(self._replica_step, args=(batch,))
        else:
            for part in tf.range(self._accumulation_steps, dtype=tf.int64):
                self.strategy.run(self._accumulate, args=(batch, part))
            per_replica = self.strategy.run(self._replica_step_of_sums)
        self.step.assign_add(1)
        total = {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }
        finite = tf.math.is_finite(total[LOSS] + total[L2]) & (total[_BAD] == 0)
        return {name: total[name] for name in METRICS}, finite

    def _agree_to_stop(self) -> tf.Tensor:
        """Whether any worker was asked to: a step that only some of them make never ends."""
        asked = tf.cast(self._asked_to_stop.read_value(), tf.int32)
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            asked = self.strategy.run(tf.identity, args=(asked,))
            asked = self.strategy.reduce(tf.distribute.ReduceOp.SUM, asked, axis=None)
        return asked > 0

    def _replica_step(self, batch: dict) -> dict[str, tf.Tensor]:
        return self._apply(*self._gradients(batch, tf.zeros([], tf.int64)))

    def _accumulate(self, batch: dict, part: tf.Tensor) -> None:
        """Adds what one micro-batch gives to the sums."""
        gradients, weighted_sum, weight = self._gradients(self._micro_batch(batch, part), part)
        for total, value in zip(self._sums, [*gradients, weighted_sum, weight], strict=True):
            total.assign_add(value)

    def _replica_step_of_sums(self) -> dict[str, tf.Tensor]:
        *gradients, weighted_sum, weight = [total.read_value() for total in self._sums]
        metrics = self._apply(gradients, weighted_sum, weight)
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        return metrics

    def _micro_batch(self, batch: dict, part: tf.Tensor) -> dict:
        size = next(iter(batch.values())).shape[0] // self._accumulation_steps
        return {name: tf.reshape(value, [-1, size, *value.shape[1:]])[part] for name, value in batch.items()}

    def _gradients(self, batch: dict, part: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Returns the gradients of the weighted sum over these images, that sum, and the sum of the weights.

        All over the number of pixels, which cancels out: sums over a whole batch would overflow a scaled float16 loss.
        """
        self._seed_dropout(part)
        with tf.GradientTape() as tape:
            logits = self._forward(batch[contract.IMAGE])
            weighted_sums, weights = self._objective(logits, batch)
            num_pixels = tf.cast(tf.reduce_prod(tf.shape(logits)[:-1]), tf.float32)
            weighted_sum = tf.reduce_sum(weighted_sums) / num_pixels
            scaled = self.optimizer.scale_loss(weighted_sum)
        variables = self.model.trainable_variables
        gradients = tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradients, weighted_sum, tf.reduce_sum(weights) / num_pixels

    def _apply(self, gradients: list[tf.Tensor], weighted_sum: tf.Tensor, weight: tf.Tensor) -> dict[str, tf.Tensor]:
        """Steps along the gradients of all replicas; returns this replica's share of the metrics."""
        replica = tf.distribute.get_replica_context()
        global_weight = replica.all_reduce(tf.distribute.ReduceOp.SUM, weight)
        l2, decays = self._decay(replica)
        shares = [gradient * tf.math.divide_no_nan(1.0, global_weight) for gradient in gradients]
        gradients = [share if decay is None else share + decay for share, decay in zip(shares, decays, strict=True)]
        gradients = self._clip(gradients, replica)
        gradients, bad = self._check(gradients, replica)
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return {
            LOSS: tf.math.divide_no_nan(weighted_sum, global_weight),
            L2: l2,
            EMPTY: tf.cast(global_weight == 0, tf.float32) / replica.num_replicas_in_sync,
            _BAD: bad,
        }

    def _decay(self, replica: tf.distribute.ReplicaContext) -> tuple[tf.Tensor, list[tf.Tensor | None]]:
        """Returns this replica's share of the weight decay, and its gradients; None for weights without."""
        with tf.GradientTape() as tape:
            l2 = self._regularizer(self.model) / replica.num_replicas_in_sync
            scaled = self.optimizer.scale_loss(l2)
        return l2, tape.gradient(scaled, self.model.trainable_variables)

    def _clip(self, gradients: list[tf.Tensor], replica: tf.distribute.ReplicaContext) -> list[tf.Tensor]:
        """Keras's own clipping would take the norm of one replica's gradients, before they are added."""
        if not self._max_gradient_norm:
            return gradients
        total = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        longest = self._max_gradient_norm * self._loss_scale()
        factor = tf.minimum(1.0, longest / tf.linalg.global_norm(total))
        return [gradient * factor for gradient in gradients]

    def _check(
        self, gradients: list[tf.Tensor], replica: tf.distribute.ReplicaContext
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns the gradients, and 1.0 if they are bad: not finite, or so long that the sum of squares is not.

        A scaled loss may overflow: the optimizer then leaves out the step and halves the scale, and only below a scale
        of 1 the gradients are to blame. It looks at one replica's gradients, so those of all have to tell.
        """
        bad = 1.0 - tf.cast(tf.math.is_finite(tf.linalg.global_norm(gradients)), tf.float32)
        if not isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            return gradients, bad
        anywhere = replica.all_reduce(tf.distribute.ReduceOp.SUM, bad) > 0
        gradients = [tf.where(anywhere, tf.fill([], float("nan")), gradient) for gradient in gradients]
        return gradients, bad * tf.cast(self._loss_scale() < 1.0, tf.float32)

    def _loss_scale(self) -> tf.Tensor:
        return self.optimizer.scale_loss(tf.ones([]))

    def _replica_counts(self, batch: dict) -> tf.Tensor:
        logits = self.model(batch[contract.IMAGE], training=False)
        difference = logits[..., contract.WATER] - logits[..., contract.DRY]
        masks = [difference >= math.log(threshold / (1 - threshold)) for threshold in self.thresholds]
        counts = [tf.reduce_sum(confusion.confusion_counts(mask, batch[contract.LABEL]), axis=0) for mask in masks]
        return tf.cast(tf.stack(counts), tf.int64)

    def _seed_dropout(self, part: tf.Tensor) -> None:
        """Every image of a step drops its own features: replicas and micro-batches are counted on."""
        replica = tf.distribute.get_replica_context()
        count = self.step * replica.num_replicas_in_sync + tf.cast(replica.replica_id_in_sync_group, tf.int64)
        count = count * self._accumulation_steps + part
        for index, layer in enumerate(self._dropouts):
            state = layer.seed_generator.state
            state.assign(tf.cast(tf.stack([self._seed * len(self._dropouts) + index, count]), state.dtype))


def _make_sums(model: keras.Model) -> list[tf.Variable]:
    """Returns what adds up over micro-batches, on each replica for itself: gradients, weighted sum and weight."""
    shapes = [*(variable.shape for variable in model.trainable_variables), (), ()]
    local = {"synchronization": tf.VariableSynchronization.ON_READ, "aggregation": tf.VariableAggregation.SUM}
    return [tf.Variable(tf.zeros(shape), trainable=False, **local) for shape in shapes]
