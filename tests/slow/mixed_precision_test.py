"""Mixed precision: 16 bits where it pays, float32 where it counts."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from flood_distill import contract
from flood_distill.errors import UserError
from flood_distill.training import mixed_precision, network, objectives, strategies, trainer

SIZE = 33
TINY = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "batch_norm_momentum": 0.9}
COMPUTE = {"mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


def _batch(batch_size=4):
    """Images whose first band is high where the label is water."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (batch_size, 3, 3)).repeat(SIZE // 3, 1).repeat(SIZE // 3, 2).astype(np.int32)
    images = np.stack([0.2 + 0.6 * (labels == 1), rng.random(labels.shape)], axis=-1).astype(np.float32)
    return {contract.IMAGE: images, contract.LABEL: labels}


def _trainer(precision):
    strategy = strategies.make_strategy("cpu")
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network.build(TINY, precision=precision)
        optimizer = mixed_precision.loss_scaling(keras.optimizers.SGD(0.05, momentum=0.9), precision)
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    return trainer.Trainer(strategy, model, optimizer, objectives.supervised_objective, decay, seed=0)


def _loss(one, num_steps):
    batches = iter(tf.data.Dataset.from_tensors(_batch()).repeat())
    metrics, bad_step = one.train_steps(batches, tf.constant(num_steps, tf.int64))
    assert int(bad_step) == 0
    return float(metrics[trainer.LOSS])


@pytest.mark.parametrize("precision", COMPUTE)
def test_losses_fall_and_validation_is_float32(precision):
    one = _trainer(precision)
    before = _loss(one, 1)
    assert before == pytest.approx(np.log(2), abs=0.03)  # two classes, untrained; the loss is not the scaled one
    _loss(one, 20)
    assert _loss(one, 1) < 0.7 * before
    assert {variable.dtype for variable in one.model.trainable_variables} == {"float32"}
    batch = _batch()
    traced = one.evaluate_step.get_concrete_function(batch).graph
    dtypes = {node.attr["T"].type for node in traced.as_graph_def().node if node.op == "Conv2D"}
    assert dtypes == {tf.float32.as_datatype_enum}
    twin = network.build(TINY)
    twin.set_weights(one.model.get_weights())
    water = np.argmax(twin(batch[contract.IMAGE], training=False), axis=-1)
    scored = batch[contract.LABEL] >= 0
    true_positives = np.sum((water == 1) & (batch[contract.LABEL] == 1) & scored)
    assert abs(int(one.evaluate_step(batch)[0, 0]) - true_positives) <= 2  # pixels on the boundary of the classes


@pytest.mark.parametrize("precision", COMPUTE)
def test_only_image_and_logits_are_float32(precision):
    model = network.build(TINY, precision=precision)
    compute = {layer.name: layer.compute_dtype for layer in model.layers}
    float32 = {name for name, dtype in compute.items() if dtype == "float32"}
    assert float32 - {contract.IMAGE} == {"logits-semantic", "logits-resize"}
    assert set(compute.values()) == {"float32", COMPUTE[precision]}
    assert keras.config.dtype_policy().name == "float32"  # of whatever is built next


def test_overflowing_gradients_are_skipped_and_the_scale_is_halved():
    one = _trainer("mixed_float16")
    one.optimizer.dynamic_scale.assign(2.0**126)
    before = [variable.numpy() for variable in one.model.trainable_variables]
    _loss(one, 1)
    assert float(one.optimizer.dynamic_scale) == 2.0**125
    for old, now in zip(before, one.model.trainable_variables, strict=True):
        np.testing.assert_array_equal(old, now.numpy())


def test_unknown_precision_is_refused():
    with pytest.raises(UserError, match="train.precision='float16': not one of float32, mixed_bfloat16, mixed_float16"):
        mixed_precision.check("float16")
