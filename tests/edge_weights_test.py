"""Edge weights: drawn maps, distances against SciPy-free brute force, no-data."""

import numpy as np
import pytest
import tensorflow as tf

from flood_distill.losses.edge_weights import edge_weights

PIXELS = {"W": 1, ".": 0, "?": -1}


def _labels(*rows: str) -> np.ndarray:
    return np.array([[[PIXELS[pixel] for pixel in row] for row in rows]], np.int32)


def _drawn(labels, inner_px, outer_px) -> list[str]:
    """The weights as a map: i inner edge, o outer edge, 1 elsewhere, 0 ignored."""
    weights = np.array(edge_weights(labels, inner_px, outer_px, 3.0, 2.0))[0]
    names = {3.0: "i", 2.0: "o", 1.0: "1", 0.0: "0"}
    return ["".join(names[float(value)] for value in row) for row in weights]


def test_edges_on_both_sides_of_a_straight_shore():
    assert _drawn(_labels("WWWWW....."), 1, 1) == ["1111io1111"]
    assert _drawn(_labels("WWWWW....."), 2, 3) == ["111iiooo11"]


def test_edges_reach_over_corners():
    labels = _labels(
        "......",
        "......",
        "..WW..",
        "..WW..",
        "......",
        "......",
    )
    assert _drawn(labels, 1, 1) == [
        "111111",
        "1oooo1",
        "1oiio1",
        "1oiio1",
        "1oooo1",
        "111111",
    ]


def test_no_data_makes_no_edge():
    assert _drawn(_labels("WWW???...", "WWW???..."), 2, 2) == ["111000111", "111000111"]
    assert _drawn(_labels("WWWWWWWWW"), 2, 2) == ["111111111"]
    assert _drawn(_labels("?????????"), 2, 2) == ["000000000"]


def test_no_edge_reaches_across_no_data():
    # The water is two pixels from dry land as the crow flies, six by way of labelled pixels.
    labels = _labels(
        "W?.",
        "W?.",
        "W?.",
        "WW.",
    )
    assert _drawn(labels, 2, 2) == [
        "101",
        "10o",
        "i0o",
        "iio",
    ]


def test_a_diagonal_gap_between_no_data_lets_the_edge_through():
    # Eight neighbours: the diagonal step from water to land is one step.
    assert _drawn(_labels("W?", "?."), 1, 1) == ["i0", "0o"]


def test_width_zero_makes_no_edge_on_that_side():
    labels = _labels("WWW...")
    assert _drawn(labels, 0, 0) == ["111111"]
    assert _drawn(labels, 1, 0) == ["11i111"]
    assert _drawn(labels, 0, 1) == ["111o11"]


def test_examples_do_not_see_each_other():
    one, other = _labels("WWW..."), _labels("......")
    together = np.array(edge_weights(np.concatenate([one, other]), 2, 2, 3.0, 2.0))
    np.testing.assert_array_equal(together[0], np.array(edge_weights(one, 2, 2, 3.0, 2.0))[0])
    np.testing.assert_array_equal(together[1], np.ones((1, 6)))


def _steps(labels: np.ndarray, source: int) -> np.ndarray:
    """Steps over the eight neighbours from every labelled pixel to the nearest of class `source`, breadth first."""
    distance = np.where(labels == source, 0.0, np.inf)
    queue = [tuple(pixel) for pixel in np.argwhere(labels == source)]
    for row, column in queue:
        for i in range(max(row - 1, 0), min(row + 2, labels.shape[0])):
            for j in range(max(column - 1, 0), min(column + 2, labels.shape[1])):
                if labels[i, j] != -1 and np.isinf(distance[i, j]):
                    distance[i, j] = distance[row, column] + 1
                    queue.append((i, j))
    return distance


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_follow_the_distance_through_labelled_pixels(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.choice([-1, 0, 0, 1, 1], (6, 7))
    labels = np.kron(blocks, np.ones((4, 3), int))[:23, :20]
    expected = np.ones(labels.shape, np.float32)
    expected[(labels == 1) & (_steps(labels, 0) <= 3)] = 5.0
    expected[(labels == 0) & (_steps(labels, 1) <= 2)] = 4.0
    expected[labels == -1] = 0.0
    weights = edge_weights(labels[None].astype(np.int8), 3, 2, 5.0, 4.0)
    np.testing.assert_array_equal(np.array(weights)[0], expected)
    assert {0.0, 4.0, 5.0} <= set(np.unique(expected))


def test_weights_compile_for_unknown_sizes():
    signature = [tf.TensorSpec((None, None, None), tf.int32)]
    compiled = tf.function(lambda labels: edge_weights(labels, 2, 1, 3.0, 2.0), input_signature=signature)
    labels = _labels("WW??..", "WWW...")
    weights = compiled(labels)
    assert weights.dtype == tf.float32
    np.testing.assert_array_equal(weights, edge_weights(labels, 2, 1, 3.0, 2.0))


@pytest.mark.parametrize("widths", [(-1, 0), (0, -2)])
def test_negative_widths_are_refused(widths):
    with pytest.raises(ValueError, match="negative"):
        edge_weights(_labels("W."), *widths, 2.0, 2.0)
