"""Intervals whose resamples can be counted on paper."""

import math

import numpy as np
import pytest

from flood_distill import bootstrap
from flood_distill.errors import UserError
from flood_distill.statistics import ChipResult, Counts


def chip(name, tp, fp, fn, tn=0):
    return ChipResult(name, "e", Counts(tp, fp, fn, tn))


def test_two_chips_have_three_resamples():
    """Both of a: 6 / 10; both of b: 1 / 4; one of each: 7 / 14. The extremes come up a quarter of the time each."""
    one = bootstrap.sample([[chip("a", 6, 2, 2), chip("b", 1, 0, 3)]])
    assert bootstrap.interval(one) == bootstrap.Interval(7 / 14, 1 / 4, 6 / 10)
    per_chip = bootstrap.interval(one, bootstrap.IOU_PER_CHIP)
    assert (per_chip.value, per_chip.low, per_chip.high) == pytest.approx(((0.6 + 0.25) / 2, 0.25, 0.6))


def test_interval_of_a_mean_is_that_of_the_normal_law():
    """Per-chip IoU of n chips, half of them 1 and half 0: 0.5 +- 1.96 * 0.5 / sqrt(n)."""
    num = 400
    results = [chip(f"{number:03d}", number % 2, 0, (number + 1) % 2) for number in range(num)]
    one = bootstrap.interval(bootstrap.sample([results]), bootstrap.IOU_PER_CHIP)
    half = 1.96 * 0.5 / math.sqrt(num)
    assert one.value == 0.5
    assert [one.low, one.high] == pytest.approx([0.5 - half, 0.5 + half], abs=0.004)


def test_seeds_are_averaged_chip_by_chip_before_chips_are_drawn():
    runs = [[chip("a", 6, 2, 2), chip("b", 0, 0, 4)], [chip("b", 2, 0, 2), chip("a", 8, 2, 0)]]  # in any order
    one = bootstrap.sample(runs)
    assert one.chip_ids == ("a", "b")
    assert one.counts.tolist() == [[7, 2, 1, 0], [1, 0, 3, 0]]
    assert one.chip_ious.tolist() == pytest.approx([(0.6 + 0.8) / 2, (0 + 0.5) / 2])
    assert bootstrap.interval(one).value == 8 / 14
    assert bootstrap.interval(one, bootstrap.IOU_PER_CHIP).value == pytest.approx((0.7 + 0.25) / 2)


def test_a_difference_is_paired():
    """Chips differ by 0.8, methods by 0.1 on every chip: the paired interval is a point, the single ones are wide."""
    worse = bootstrap.sample([[chip("a", 1, 0, 9), chip("b", 9, 0, 1), chip("c", 5, 0, 5)]])
    better = bootstrap.sample([[chip("a", 2, 0, 8), chip("b", 10, 0, 0), chip("c", 6, 0, 4)]])
    gain = bootstrap.difference(better, worse)
    assert [gain.value, gain.low, gain.high] == pytest.approx([0.1, 0.1, 0.1])
    single = bootstrap.interval(worse)
    assert single.high - single.low > 0.5
    loss = bootstrap.difference(worse, better)
    assert [loss.value, loss.low, loss.high] == pytest.approx([-0.1, -0.1, -0.1])


def test_a_difference_that_one_chip_makes_is_not_certain():
    first = bootstrap.sample([[chip("a", 9, 0, 1), chip("b", 5, 0, 5), chip("c", 5, 0, 5)]])
    second = bootstrap.sample([[chip("a", 5, 0, 5), chip("b", 5, 0, 5), chip("c", 5, 0, 5)]])
    gain = bootstrap.difference(first, second)
    assert gain.value == pytest.approx(4 / 30)
    assert (gain.low, gain.high) == pytest.approx((0, 0.4))  # chip a: never (8 / 27 of the resamples), thrice (1 / 27)


def test_methods_scored_on_other_pixels_are_refused():
    one = bootstrap.sample([[chip("a", 1, 1, 1), chip("b", 1, 1, 1)]])
    for other in ([chip("a", 1, 1, 1)], [chip("a", 1, 1, 1), chip("b", 1, 1, 2)]):
        with pytest.raises(UserError, match="same pixels"):
            bootstrap.difference(one, bootstrap.sample([other]))
        with pytest.raises(UserError, match="same pixels"):
            bootstrap.sample([[chip("a", 1, 1, 1), chip("b", 1, 1, 1)], other])


def test_nothing_to_resample_is_not_a_number():
    single = bootstrap.interval(bootstrap.sample([[chip("a", 3, 1, 0), chip("unscored", 0, 0, 0)]]))
    assert single.value == 3 / 4
    assert np.isnan([single.low, single.high]).all()
    assert math.isnan(bootstrap.interval(bootstrap.sample([[]])).value)
    # One chip of two has water: a quarter of the resamples have none, hence no IoU, and are left out.
    half_dry = bootstrap.interval(bootstrap.sample([[chip("a", 3, 1, 0), chip("b", 0, 0, 0, tn=9)]]))
    assert (half_dry.value, half_dry.low, half_dry.high) == (3 / 4, 3 / 4, 3 / 4)


def test_same_chips_same_interval_and_blocks_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    results = [chip(f"{number}", *generator.integers(1, 50, 3).tolist()) for number in range(30)]
    once = bootstrap.interval(bootstrap.sample([results]))
    assert bootstrap.interval(bootstrap.sample([results[::-1]])) == once
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 1000)
    assert bootstrap.interval(bootstrap.sample([results])) == once
