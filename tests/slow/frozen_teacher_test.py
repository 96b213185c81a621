"""The frozen teacher of a distillation: batch norms folded, no gradients kept for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny_models

from flood_distill import contract
from flood_distill.models import folding
from flood_distill.training import network, objectives

SIZE = 33
STUDENT = {"num_channels": 2, "width_multiplier": 0.05, "num_middle_units": 1, "dropout_rate": 0.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    model = tiny_models.write_model_dir(tmp_path_factory.mktemp("teacher") / "T", contract.INPUT_S1_S2)
    model.trainable = False
    return model


def _batch():
    rng = np.random.default_rng(0)
    images = rng.random((2, SIZE, SIZE, 6), dtype=np.float32)
    labels = rng.integers(-1, 2, (2, SIZE, SIZE)).astype(np.int32)
    batch = {contract.IMAGE: images[..., :2], contract.TEACHER_IMAGE: images, contract.LABEL: labels}
    return batch | {contract.VALID: labels >= 0}


def test_folded_teacher_says_what_the_teacher_says(teacher):
    images = _batch()[contract.TEACHER_IMAGE]
    folded = folding.fold_batch_norms(teacher)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    expected = np.array(teacher(images, training=False))
    assert expected.std() > 0.1  # it has something to say
    np.testing.assert_allclose(folded(images, training=False), expected, atol=1e-4 * np.abs(expected).max())


def test_teacher_adds_no_gradient_operation(teacher):
    student = network.build(STUDENT)

    def num_operations(objective):
        @tf.function
        def gradients(batch):
            with tf.GradientTape() as tape:
                weighted, weight = objective(student(batch[contract.IMAGE], training=True), batch)
                loss = tf.reduce_sum(weighted) / tf.reduce_sum(weight)
            return tape.gradient(loss, student.trainable_variables)

        nodes = [node.op for node in gradients.get_concrete_function(_batch()).graph.as_graph_def().node]
        return {kind: sum(kind in node for node in nodes) for kind in ("Conv2DBackprop", "NativeBackprop", "NormGrad")}

    folded = folding.fold_batch_norms(teacher)
    supervised = num_operations(objectives.supervised_objective)
    assert min(supervised.values()) > 10
    assert num_operations(objectives.distillation_objective(folded)) == supervised
