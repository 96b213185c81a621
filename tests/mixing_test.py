"""Which source an example comes from: exact shares, closed-form counts."""

import pytest
import tensorflow as tf

from flood_distill import mixing
from flood_distill.errors import UserError


def drawn(num_drawn, weights):
    sources = [mixing.source_of(index, weights) for index in range(num_drawn)]
    return [sources.count(source) for source in range(len(weights))]


def test_equal_weights_alternate_so_that_every_even_batch_is_half_and_half():
    sources = [mixing.source_of(index, (1, 1)) for index in range(64)]
    assert sources[:6] == [1, 0, 1, 0, 1, 0]
    for first in range(0, 64, 4):
        assert sum(sources[first : first + 4]) == 2


@pytest.mark.parametrize(
    "weights", [(1,), (1, 1), (252, 23260), (4384, 23260), (7, 1), (1, 1, 1), (5, 3, 2), (1, 9, 4)]
)
def test_counts_are_what_one_draws(weights):
    for num_drawn in (0, 1, 2, 3, 10, 57, 200):
        assert mixing.counts(num_drawn, weights) == drawn(num_drawn, weights)
        assert sum(mixing.counts(num_drawn, weights)) == num_drawn


def test_one_round_draws_every_example_once():
    # 5 + 3 + 2 = 10 examples: ten draws take each exactly once.
    assert drawn(10, (5, 3, 2)) == [5, 3, 2]
    assert mixing.counts(27644, (4384, 23260)) == [4384, 23260]


def test_two_sources_stay_within_one_example_of_their_share():
    weights = (252, 23260)
    for num_drawn in range(0, 5000, 7):
        share = num_drawn * 252 / 23512
        assert abs(mixing.counts(num_drawn, weights)[0] - share) < 1


def test_three_equal_sources_share_every_batch_of_three():
    sources = [mixing.source_of(index, (1, 1, 1)) for index in range(30)]
    for first in range(0, 30, 3):
        assert sorted(sources[first : first + 3]) == [0, 1, 2]


def test_tensors_give_the_same_as_integers():
    index = tf.range(100, dtype=tf.int64) + 10**9
    chosen = mixing.source_of(index, (4384, 23260, 252))
    assert chosen.dtype == tf.int64
    assert chosen.numpy().tolist() == [mixing.source_of(10**9 + i, (4384, 23260, 252)) for i in range(100)]


def test_weights_by_size_and_equal():
    assert mixing.weights("size", [10, 30]) == (10, 30)
    assert mixing.weights("equal", [10, 30]) == (1, 1)
    with pytest.raises(UserError, match="mixing='random': not one of size, equal"):
        mixing.weights("random", [10, 30])
