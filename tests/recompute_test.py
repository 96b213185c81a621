"""A step that computes blocks again is the step that keeps them."""

import keras
import pytest
import recomputed_step

from flood_distill.training import fused_batch_norm, recompute


def _small(synchronized):
    """Has what Xception has (tests/slow/recompute_test.py): units with a residual, branches, batch norms, dropout."""
    keras.utils.set_random_seed(1)

    def convolved(inputs, name):
        features = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name=name)(inputs)
        norm = fused_batch_norm.FusedBatchNormalization(momentum=0.9, synchronized=synchronized, name=f"{name}-norm")
        return norm(features)

    image = keras.Input((None, None, 2))
    stem = keras.layers.ReLU()(convolved(image, "stem"))
    unit = keras.layers.ReLU(name="flow-unit_1-relu")(convolved(stem, "flow-unit_1-conv"))
    unit = keras.layers.Add(name="flow-unit_1-add")([convolved(unit, "flow-unit_1-conv2"), stem])
    branches = [keras.layers.ReLU()(convolved(unit, f"branch{number}")) for number in range(2)]
    features = keras.layers.Dropout(0.5)(keras.layers.Concatenate()([*branches, stem]))
    return keras.Model(image, keras.layers.Conv2D(2, 1)(keras.layers.ReLU()(convolved(features, "last"))))


@pytest.mark.parametrize("strategy", ["cpu", "mirrored"])
def test_gradients_averages_and_dropout_are_those_of_the_plain_step(strategy):
    recomputed_step.assert_same_step(_small, strategy)


def test_batch_norms_of_keras_are_refused():
    image = keras.Input((None, None, 2))
    plain = keras.Model(image, keras.layers.BatchNormalization(name="norm")(image))
    with pytest.raises(ValueError, match="norm: only batch norms of FusedBatchNormalization"):
        recompute.recomputing(plain)
