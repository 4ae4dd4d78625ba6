"""Intervals: textbook numbers, scipy's, and coverage."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.report import Estimate, mean_interval, paired_difference, wilson_interval
from rlnas.report.statistics import t_quantile


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
