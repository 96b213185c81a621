"""Xception's step that computes blocks again is the step that keeps them."""

import keras
import recomputed_step

from flood_distill.training import network


def _xception(synchronized):
    keras.utils.set_random_seed(1)
    arguments = network.network(2, width_multiplier=0.1, num_middle_units=1, batch_norm_momentum=0.9, dropout_rate=0.5)
    return network.build(arguments, synchronized)


def test_gradients_averages_and_dropout_are_those_of_the_plain_step():
    recomputed_step.assert_same_step(_xception, "cpu")
