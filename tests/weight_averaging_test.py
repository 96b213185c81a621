"""The moving average of weights: its arithmetic, that it is what is validated and kept, that a resumed run has it."""

from unittest import mock

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import model_info
from flood_distill.errors import UserError
from flood_distill.training import (
    checkpoints,
    loop,
    mixed_precision,
    optimization,
    run_log,
    source_losses,
    strategies,
    training_csv,
    weight_averaging,
)

DECAY = 0.75


@pytest.fixture(autouse=True)
def _schedule():
    gin.clear_config()
    gin.parse_config("poly_schedule.base_learning_rate = 0.1")
    yield
    gin.clear_config()


class TinyTrainer:
    """One layer that follows the gradient of its mean square; the parts of `Trainer` that a loop and a state use."""

    stopped = False

    def __init__(self, decay=DECAY, precision="float32", strategy=None):
        self.strategy = strategy or tf.distribute.OneDeviceStrategy("/cpu:0")
        keras.utils.set_random_seed(0)
        with self.strategy.scope():
            self.model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
            optimizer = optimization.momentum_optimizer(10, weight_average_decay=decay)
            self.optimizer = mixed_precision.loss_scaling(optimizer, precision)
            self.optimizer.build(self.model.trainable_variables)
            self.step = tf.Variable(0, dtype=tf.int64, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    @tf.function
    def _step(self):
        def replica_step():
            with tf.GradientTape() as tape:
                loss = self.optimizer.scale_loss(tf.reduce_mean(self.model(tf.ones([4, 3])) ** 2))
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)

        self.strategy.run(replica_step)
        self.step.assign_add(1)

    def train_steps(self, iterator, num_steps):
        for _ in range(int(num_steps)):
            self._step()
        return {"loss": 0.0, "l2": 0.0, "empty": 0.0, "learning_rate": 0.1}, 0

    def learning_rate(self):
        return 0.1

    def weights(self):
        return [variable.numpy() for variable in self.model.trainable_variables]


def _averages(trainer):
    with weight_averaging.averaged(trainer.model, trainer.optimizer):
        return trainer.weights()


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_arithmetic(precision, strategy):
    trainer = TinyTrainer(precision=precision, strategy=strategies.make_strategy(strategy))
    expected = None
    for _ in range(4):
        trainer.train_steps(None, 1)
        before = trainer.weights()
        # a <- d a + (1 - d) w; the first average is the first weights.
        expected = (
            before
            if expected is None
            else [DECAY * average + (1 - DECAY) * weight for average, weight in zip(expected, before, strict=True)]
        )
        for ours, theirs in zip(_averages(trainer), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        for after, weight in zip(trainer.weights(), before, strict=True):
            np.testing.assert_array_equal(after, weight)
    assert np.abs(expected[0] - before[0]).max() > 0.01
    assert weight_averaging.decay(trainer.optimizer) == DECAY


def test_without_a_decay_and_before_the_first_step_the_weights_are_their_own():
    for trainer, num_steps in ((TinyTrainer(decay=0.0), 2), (TinyTrainer(), 0)):
        trainer.train_steps(None, num_steps)
        for inside, outside in zip(_averages(trainer), trainer.weights(), strict=True):
            np.testing.assert_array_equal(inside, outside)
    plain = TinyTrainer(decay=0.0)
    assert weight_averaging.decay(plain.optimizer) == 0
    assert not any("average" in variable.path for variable in plain.optimizer.variables)


def test_averaging_changes_no_step():
    plain, averaged = TinyTrainer(decay=0.0), TinyTrainer()
    for trainer in (plain, averaged):
        trainer.train_steps(None, 5)
    for one, other in zip(plain.weights(), averaged.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_own_weights_come_back_when_validation_fails():
    trainer = TinyTrainer()
    trainer.train_steps(None, 3)
    before = trainer.weights()
    with pytest.raises(KeyError), weight_averaging.averaged(trainer.model, trainer.optimizer):
        raise KeyError
    np.testing.assert_array_equal(trainer.weights()[0], before[0])


def _info():
    settings = {"task": "supervised", "inputs": "s1", "network": {"output_stride": 16}, "source": "real", "seed": 0}
    return model_info.ModelInfo(name="t", train_datasets=[], dataset="sen1floods11/hand", **settings)


def test_averages_are_validated_and_kept_as_best_and_resumed(tmp_path):
    whole, validated = TinyTrainer(), []

    def run(trainer, folder, num_steps):
        def validate():
            validated.append(trainer.weights()[0])
            return {training_csv.VALIDATION_IOU: 0.1 * len(validated), training_csv.VALIDATION_THRESHOLD: 0.5}

        state = checkpoints.RunState(trainer, str(folder), _info(), 2)
        step, log = state.restore(), run_log.RunLog(str(folder), 0)
        cadence = loop.Cadence(num_steps, report_every=2, validate_every=2, checkpoint_every=2)
        watch, losses = mock.Mock(), source_losses.SourceLosses(mock.Mock(), ["one"])
        whole = loop.Loop(trainer, state, log, cadence, 4, validate, watch, losses, list, str(folder), "t")
        return whole.run(iter(()), step)

    model_info.write(_info(), tmp_path)
    run(whole, tmp_path, 2)
    np.testing.assert_array_equal(validated[-1], _averages(whole)[0])
    best = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(tmp_path / "best")))
    names = [name for name in best.get_variable_to_shape_map() if best.get_variable_to_shape_map()[name] == [3, 2]]
    assert names
    for name in names:
        np.testing.assert_array_equal(best.get_tensor(name), _averages(whole)[0])

    resumed = TinyTrainer()
    assert run(resumed, tmp_path, 4) == 4
    whole.train_steps(None, 2)
    for trainer_weights in (TinyTrainer.weights, _averages):
        for one, other in zip(trainer_weights(whole), trainer_weights(resumed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_decay_outside_its_range_is_named():
    with pytest.raises(UserError, match=r"momentum_optimizer.weight_average_decay=1: give a number in \[0, 1\)"):
        optimization.momentum_optimizer(10, weight_average_decay=1)
