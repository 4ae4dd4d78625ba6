"""Intervals: textbook numbers, scipy's, and coverage."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.report import Estimate, mean_interval, paired_difference, wilson_interval
from rlnas.report.statistics import holm, sign_flip_test, t_quantile


def test_t_quantile_table() -> None:
    table = {1: 12.7062047362, 2: 4.3026527297, 3: 3.1824463053, 7: 2.3646242516, 30: 2.0422724563, 999: 1.9623414612}
    for freedom, value in table.items():
        assert t_quantile(0.975, freedom) == pytest.approx(value, abs=1e-8)
        assert t_quantile(0.025, freedom) == -t_quantile(0.975, freedom)
    assert t_quantile(0.5, 4) == pytest.approx(0.0, abs=1e-9)


@given(probability=st.floats(0.001, 0.999), freedom=st.integers(1, 300))
def test_t_quantile_agrees_with_scipy(probability: float, freedom: int) -> None:
    special = pytest.importorskip("scipy.special")
    assert t_quantile(probability, freedom) == pytest.approx(special.stdtrit(freedom, probability), rel=1e-7, abs=1e-9)


def test_mean_interval_by_hand() -> None:
    # mean 2, standard deviation 1, n 3: half width 4.302653 / sqrt(3) = 2.484138
    estimate = mean_interval([1.0, 2.0, 3.0])
    assert estimate.interval is not None
    assert (estimate.mean, estimate.n) == (2.0, 3)
    assert estimate.interval == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert mean_interval([5.0]) == Estimate(5.0, None, 1)
    assert mean_interval([5.0, 5.0]) == Estimate(5.0, (5.0, 5.0), 2)


def test_confidence_is_used() -> None:
    estimate = mean_interval([1.0, 2.0, 3.0], confidence=0.5)
    assert estimate.interval is not None
    assert estimate.interval[1] - 2 == pytest.approx(0.816497 / math.sqrt(3), abs=1e-5)


def test_paired_difference() -> None:
    a, b = [1.0, 2.1, 2.9, 4.0], [0.5, 1.5, 2.5, 3.5]  # differences 0.5, 0.6, 0.4, 0.5
    estimate = paired_difference(a, b)
    # standard deviation 0.0816497, half width 3.182446 * 0.0816497 / 2 = 0.129923
    assert estimate.interval == pytest.approx((0.5 - 0.129923, 0.5 + 0.129923), abs=1e-6)
    assert estimate.excludes_zero and not mean_interval([-1.0, 1.0]).excludes_zero
    assert paired_difference(b, a).excludes_zero
    assert not Estimate(1.0, None, 1).excludes_zero
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0, 2.0], [1.0])


def test_wilson_by_hand() -> None:
    # 8 of 10: (0.8 + 1.920729 / 10) / 1.3841459 = 0.716740; half 1.959964 / 1.3841459 * sqrt(.016 + .00960365)
    estimate = wilson_interval(8, 10)
    assert estimate.mean == 0.8 and estimate.interval == pytest.approx((0.490162, 0.943318), abs=1e-6)
    none, every = wilson_interval(0, 10).interval, wilson_interval(10, 10).interval
    assert none == pytest.approx((0.0, 0.277533), abs=1e-6) and none is not None and none[0] == 0.0
    assert every == pytest.approx((0.722467, 1.0), abs=1e-6) and every is not None and every[1] == 1.0


@given(total=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_share(total: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, total))
    estimate = wilson_interval(correct, total)
    assert estimate.interval is not None
    low, high = estimate.interval
    assert 0 <= low <= correct / total <= high <= 1


def test_mean_interval_covers() -> None:
    random_numbers = random.Random(0)
    covered = 0
    for _ in range(2000):
        interval = mean_interval([random_numbers.gauss(3.0, 2.0) for _ in range(5)]).interval
        assert interval is not None
        covered += interval[0] <= 3.0 <= interval[1]
    assert 0.935 < covered / 2000 < 0.965  # 95 %, give or take three standard errors


def test_sign_flips_by_hand() -> None:
    """Of the eight signs of 1, 2, 3 only +++ and --- have a sum of 6; with 1, -2, 3 also four more reach 2."""
    assert sign_flip_test([1.0, 2.0, 3.0]) == pytest.approx(2 / 8)
    assert sign_flip_test([1.0, -2.0, 3.0]) == pytest.approx(6 / 8)
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test([0.1] * 10) == pytest.approx(2 / 2**10)
    assert sign_flip_test([-0.1] * 10) == pytest.approx(2 / 2**10)


def test_sign_flips_of_many_are_drawn() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, size=60).tolist()
    drawn = sign_flip_test(values)
    exact = mean_interval(values)
    assert exact.interval is not None
    t = abs(exact.mean) / ((exact.interval[1] - exact.mean) / t_quantile(0.975, 59))
    assert drawn == sign_flip_test(values)
    assert t_quantile(1 - drawn / 2, 59) == pytest.approx(t, rel=0.05)  # near Student's for normal values


def test_sign_flips_without_an_effect_are_seldom_small() -> None:
    generator = np.random.default_rng(1)
    small = [sign_flip_test(generator.standard_t(2, size=10).tolist()) <= 0.05 for _ in range(400)]
    assert 0.02 < np.mean(small) < 0.08


def test_holm_by_hand() -> None:
    """The least is multiplied by 3, the next by 2, and none gets below one before it."""
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
