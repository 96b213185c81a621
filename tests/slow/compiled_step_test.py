"""Training steps compiled by XLA, as for a TPU, agree with the plain ones. Half a minute of compilation a task."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from flood_distill import contract
from flood_distill.models import folding
from flood_distill.training import network, objectives, strategies, trainer

SIZE = 33
STUDENT = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "dropout_rate": 0.0}


def _batch():
    """Eight images of nine flat patches and some noise: their means differ, or batch norms would amplify rounding."""
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (8, 3, 3)).repeat(SIZE // 3, 1).repeat(SIZE // 3, 2).astype(np.int32)
    patches = rng.random((8, 3, 3, 6), dtype=np.float32).repeat(SIZE // 3, 1).repeat(SIZE // 3, 2)
    images = 0.8 * patches + 0.2 * rng.random(patches.shape, dtype=np.float32)
    return {
        contract.IMAGE: images[..., :2],
        contract.LABEL: labels,
        contract.TEACHER_IMAGE: images,
        contract.VALID: labels >= 0,
    }


def _objective(task, folder):
    if task == "supervised":
        return objectives.supervised_objective
    teacher = tiny_models.write_model_dir(folder / "T", contract.INPUT_S1_S2)
    return objectives.distillation_objective(folding.fold_batch_norms(teacher))


def _step(objective, jit_compile):
    """Returns the loss of the first step and its gradient."""
    strategy = strategies.make_strategy("cpu")
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = network.build(STUDENT)
        optimizer = keras.optimizers.SGD(1.0)  # moves the weights by minus the gradient
    decay = functools.partial(objectives.l2_weight_decay, rate=1e-4)
    one = trainer.Trainer(strategy, model, optimizer, objective, decay, seed=0, jit_compile=jit_compile)
    before = _weights(model)
    steps = one.train_steps.get_concrete_function(_batches(), tf.constant(1, tf.int64))
    functions = steps.graph.as_graph_def().library.function
    assert any(function.attr["_XlaMustCompile"].b for function in functions) == jit_compile
    metrics, _ = one.train_steps(_batches(), tf.constant(1, tf.int64))
    return float(metrics[trainer.LOSS]), before - _weights(model)


def _batches():
    return iter(tf.data.Dataset.from_tensors(_batch()))


def _weights(model):
    return np.concatenate([np.ravel(variable.numpy()) for variable in model.trainable_variables])


@pytest.mark.parametrize("task", ["supervised", "distillation"])
def test_compiled_step_is_the_plain_step(task, tmp_path):
    objective = _objective(task, tmp_path)
    loss, gradient = _step(objective, jit_compile=False)
    compiled_loss, compiled_gradient = _step(objective, jit_compile=True)
    assert compiled_loss == pytest.approx(loss, abs=1e-5)
    norm, compiled_norm = np.linalg.norm(gradient), np.linalg.norm(compiled_gradient)
    assert gradient @ compiled_gradient / (norm * compiled_norm) > 0.999
    assert compiled_norm == pytest.approx(norm, rel=0.01)
