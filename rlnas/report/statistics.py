"""Means, shares and differences with their intervals, by plain formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

import numpy as np

CONFIDENCE = 0.95
EXACT = 18
"""Most differences for which all signs are tried."""
DRAWN = 100_000
"""Signs drawn where there are more."""


@dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        mean: The number.
        interval: Its confidence interval; None where a single observation gives none.
        n: Observations behind it.
    """

    mean: float
    interval: tuple[float, float] | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval is not None and (self.interval[0] > 0 or self.interval[1] < 0)


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean with Student's t-interval."""
    assert values, "a mean needs a value"
    n, mean = len(values), fmean(values)
    if n == 1:
        return Estimate(mean, None, 1)
    half = t_quantile((1 + confidence) / 2, n - 1) * stdev(values) / math.sqrt(n)
    return Estimate(mean, (mean - half, mean + half), n)


def paired_difference(a: Sequence[float], b: Sequence[float], *, confidence: float = CONFIDENCE) -> Estimate:
    """Mean of ``a - b`` with Student's t-interval; the k-th of both belong together (the same seed)."""
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], confidence=confidence)


def wilson_interval(correct: int, total: int, *, confidence: float = CONFIDENCE) -> Estimate:
    """Share of right answers with Wilson's score interval, which stays within [0, 1] and holds near its ends.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    assert 0 <= correct <= total and total > 0
    share, z = correct / total, NormalDist().inv_cdf((1 + confidence) / 2)
    shrunk = 1 + z * z / total
    centre = (share + z * z / (2 * total)) / shrunk
    half = z / shrunk * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == total else min(1.0, centre + half)
    return Estimate(share, (low, high), total)


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t-distribution with a whole number of degrees of freedom."""
    assert 0 < probability < 1 and freedom >= 1
    if probability < 0.5:
        return -t_quantile(1 - probability, freedom)
    low, high = 0.0, math.pi / 2  # of theta = atan(t / sqrt(freedom)), in which the distribution is easy
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_central(middle, freedom) < 2 * probability - 1 else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _t_central(theta: float, freedom: int) -> float:
    """P(|t| <= sqrt(freedom) * tan(theta)), a finite series.

    References:
        Abramowitz & Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    cosine = math.cos(theta)
    odd = freedom % 2 == 1
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 if odd else 1, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    total *= math.sin(theta)
    return 2 / math.pi * (theta + total) if odd else total


def sign_flip_test(differences: Sequence[float]) -> float:
    """Two-sided p-value of paired differences: how often random signs give a mean at least as far from zero.

    Exact up to `EXACT` differences; beyond, of `DRAWN` random signs, the observed ones counted among them. Unlike
    Student's, it supposes nothing about how the differences are distributed but that without an effect either sign is
    as likely.

    References:
        Fisher, The Design of Experiments, 1935, section 21.
    """
    values = np.asarray(differences, dtype=np.float64)
    n, seen = len(values), abs(float(values.sum()))
    assert n > 0, "a test needs a difference"
    bar = seen - 1e-9 * max(float(np.abs(values).sum()), 1e-300)
    if n <= EXACT:
        sums = np.zeros(1)
        for value in values[1:]:  # the sign of the first changes only the sign of the sum
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums + values[0]) >= bar))
    signs = np.random.default_rng(0).integers(0, 2, size=(DRAWN, n)) * 2 - 1
    return float((1 + np.sum(np.abs(signs @ values) >= bar)) / (1 + DRAWN))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several: the chance that any of them is that small without an effect.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted
