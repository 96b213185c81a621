"""Scores with the arithmetic in sight."""

import math

import numpy as np
import pytest

from flood_distill import statistics
from flood_distill.statistics import ChipResult, Counts


def test_scored_pixels_need_a_label_and_both_bands():
    labels = np.array([1, 0, -1, 1, 1])
    s1 = np.zeros((5, 2), np.float32)
    s1[3, 0] = s1[4, 1] = np.nan
    assert statistics.scored_pixels(labels, s1).tolist() == [True, True, False, False, False]


def test_count():
    water = np.array([1, 1, 0, 0, 1, 0], bool)
    labels = np.array([1, 0, 1, 0, -1, -1])
    scored = labels != -1
    assert statistics.count(water, labels, scored) == Counts(tp=1, fp=1, fn=1, tn=1)


RESULTS = [
    ChipResult("a_1", "a", Counts(tp=6, fp=2, fn=2, tn=90), num_without_s2=25),  # IoU 6 / 10
    ChipResult("a_2", "a", Counts(tp=0, fp=0, fn=0, tn=50)),  # no water at all: 1
    ChipResult("b_1", "b", Counts(tp=1, fp=0, fn=3, tn=46)),  # IoU 1 / 4
    ChipResult("b_2", "b", Counts()),  # nothing to score
]


def test_scores_of_all_chips():
    scores = statistics.scores(RESULTS)
    assert (scores["num_chips"], scores["num_unscorable"]) == (3, 1)
    assert [scores[key] for key in ("tp", "fp", "fn", "tn")] == [7, 2, 5, 186]
    assert scores["iou_pooled"] == 7 / (7 + 2 + 5)
    assert scores["iou_per_chip"] == pytest.approx((0.6 + 1.0 + 0.25) / 3)
    assert scores["precision"] == 7 / 9
    assert scores["recall"] == 7 / 12
    assert scores["f1"] == 2 * 7 / (2 * 7 + 2 + 5)


def test_per_event():
    events = statistics.per_event(RESULTS)
    assert list(events) == ["a", "b"]
    assert events["a"]["iou_pooled"] == 6 / 10
    assert events["a"]["iou_per_chip"] == pytest.approx((0.6 + 1) / 2)
    assert (events["b"]["num_chips"], events["b"]["num_unscorable"], events["b"]["recall"]) == (1, 1, 1 / 4)


def test_unscorable_chips_are_listed_and_the_share_without_s2_is_of_scored_pixels():
    assert statistics.unscorable(RESULTS) == ["b_2"]
    assert statistics.share_without_s2(RESULTS) == 25 / (100 + 50 + 50)


def test_a_chip_without_water_counts_one_only_if_the_prediction_agrees():
    assert statistics.chip_iou(Counts(tn=9)) == 1
    assert statistics.chip_iou(Counts(tn=8, fp=1)) == 0
    assert math.isnan(statistics.chip_iou(Counts()))


def test_nothing_over_nothing_is_not_a_number():
    scores = statistics.scores([])
    assert scores["num_chips"] == 0
    assert all(math.isnan(scores[key]) for key in ("iou_pooled", "iou_per_chip", "precision", "recall", "f1"))
    dry = statistics.scores([ChipResult("c", "c", Counts(tn=9))])
    assert math.isnan(dry["iou_pooled"])
    assert dry["iou_per_chip"] == 1


def test_best_threshold_and_of_equals_the_nearest_to_a_half():
    counts = np.array([[8, 2, 0, 0], [6, 0, 2, 0], [8, 2, 0, 0], [0, 0, 0, 9]])  # IoU 0.8, 0.75, 0.8, none
    assert statistics.best_threshold(counts, (0.1, 0.5, 0.7, 0.9)) == (0.8, 0.7)
    assert statistics.best_threshold(counts[3:], (0.9,)) == (0.0, 0.9)
