"""A surrogate of rewards with its uncertainty: a Gaussian process over final states of episodes.

A final state is described by the choices made (a decision space has them), by figures that are known without
evaluation (parameters, MACs, predicted latency, features of a graph), or by both.

References:
    Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and 5.4.
    White et al., BANANAS: Bayesian Optimization with Neural Architectures, AAAI 2021, arXiv:1910.11858.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError

Array = NDArray[np.float64]

MOST: Final = 400
"""Evaluations that a process is fitted to at most; the cost grows with the cube."""


@dataclass(frozen=True)
class Points:
    """Final states of n episodes.

    Attributes:
        choices: What was decided, shape (n, d); d is 0 where there are no decisions.
        known: Figures known beforehand, shape (n, k).
    """

    choices: NDArray[np.int64]
    known: Array

    @classmethod
    def of(cls, features: Sequence[Mapping[str, Any]], *, names: Sequence[str]) -> Points:
        """From what environments say of final states.

        Args:
            features: Of each state ``choices``, a list or None, and ``known``, a figure by name.
            names: Figures to take.
        """
        n = len(features)
        choices = np.array([f["choices"] or () for f in features], dtype=np.int64).reshape(n, -1 if n else 0)
        known = np.array([[f["known"][name] for name in names] for f in features], dtype=np.float64)
        return cls(choices, known.reshape(n, len(names)))

    def __len__(self) -> int:
        return len(self.known)

    def __getitem__(self, index: Any) -> Points:
        return Points(self.choices[index], self.known[index])

    def standardized(self, shift: Array, scale: Array) -> Points:
        """With figures shifted and scaled."""
        return Points(self.choices, (self.known - shift) / scale)


@dataclass(frozen=True)
class Kernel:
    """Covariance of rewards at two points, and the variance of noise.

    ``choice * exp(-d / reach) + linear * <x, x'> / k + smooth * exp(-|x - x'|^2 / 2k)`` for points that differ in d
    choices and have k standardized figures x and x'. The first part holds interactions of any number of decisions, the
    weaker the more of them take part.
    """

    choice: float
    reach: float
    linear: float
    smooth: float
    noise: float

    def between(self, a: Points, b: Points) -> Array:
        """Covariances, shape (n of a, n of b)."""
        found = np.zeros((len(a), len(b)))
        if self.choice and a.choices.shape[1]:
            found += self.choice * np.exp(-_differences(a.choices, b.choices) / self.reach)
        if a.known.shape[1] and (self.linear or self.smooth):
            products = a.known @ b.known.T / a.known.shape[1]
            found += self.linear * products
            if self.smooth:
                own = [(x.known**2).mean(axis=1) for x in (a, b)]
                found += self.smooth * np.exp(products - (own[0][:, None] + own[1][None]) / 2)
        return found

    def at(self, a: Points) -> Array:
        """Prior variances, shape (n,)."""
        found = np.zeros(len(a))
        if a.choices.shape[1]:
            found += self.choice
        if a.known.shape[1]:
            found += self.smooth + self.linear * (a.known**2).mean(axis=1)
        return found


def kernels(*, choices: bool, known: bool, scale: float = 1.0) -> list[Kernel]:
    """The kernels that the evidence chooses from, for points with choices, with figures, or with both."""
    parts = [(0.0, 0.0), (0.3, 0.0), (0.3, 0.5), (1.0, 1.0)] if known else [(0.0, 0.0)]
    found = []
    for reach in (1.0, 2.0, 4.0) if choices else (1.0,):
        for linear, smooth in parts:
            if not choices and not linear:
                continue
            for noise in (0.05, 0.2, 0.5):
                weights = (1.0 - 0.5 * (linear > 0)) * choices, linear, smooth, noise
                choice, linear_, smooth_, noise_ = (scale * w for w in weights)
                found.append(Kernel(choice, reach, linear_, smooth_, noise_))
    return found


class GaussianProcess:
    """A regression of scores on points, with the kernel of highest evidence.

    Args:
        points: Where scores are known.
        scores: Scores, shape (n,), of mean 0 and deviation about 1.
        among: Kernels to choose from; by default those that suit the points.
    """

    def __init__(self, points: Points, scores: Array, *, among: Sequence[Kernel] | None = None) -> None:
        assert len(points) == len(scores) > 0
        self.shift = points.known.mean(axis=0)
        spread = points.known.std(axis=0)
        self.scale = np.where(spread > 1e-9, spread, np.inf)  # what never differs tells nothing
        self._points = points.standardized(self.shift, self.scale)
        if among is None:
            among = kernels(choices=points.choices.shape[1] > 0, known=points.known.shape[1] > 0)
        fits = [self._fit(kernel, scores) for kernel in among]
        self.evidence, self.kernel, self._root, self._weights = max(fits, key=lambda fit: fit[0])

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Means and standard deviations of the scores at points, without noise: both of shape (n,)."""
        points = points.standardized(self.shift, self.scale)
        across = np.linalg.solve(self._root, self.kernel.between(self._points, points))
        variance = self.kernel.at(points) - (across**2).sum(axis=0)
        return across.T @ self._weights, np.sqrt(np.maximum(variance, 1e-9))

    def _fit(self, kernel: Kernel, scores: Array) -> tuple[float, Kernel, Array, Array]:
        covariance = kernel.between(self._points, self._points) + kernel.noise * np.eye(len(scores))
        root = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
        weights = np.asarray(np.linalg.solve(root, scores), dtype=np.float64)
        evidence = -0.5 * float(weights @ weights) - float(np.log(np.diag(root)).sum())
        return evidence, kernel, root, weights


class Surrogate:
    """What rewards of unknown points are likely to be, on the scale of normal scores.

    Rewards enter by their ranks, so that neither their unit nor a few networks that fail altogether matter.

    Args:
        points: Points evaluated.
        rewards: Their rewards.
        prior: Expectation from elsewhere. Only what the rewards say beyond it is learned, and their scale is that of
            its expectations at the same points.

    Raises:
        ConfigError: If a reward is not finite.
    """

    def __init__(self, points: Points, rewards: Sequence[float], *, prior: Surrogate | None = None) -> None:
        values = np.asarray(rewards, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ConfigError("a surrogate cannot learn from rewards that are not finite")
        chosen = _informative(values)
        points, values = points[chosen], values[chosen]
        self._prior = prior
        if prior is None:
            self._process = GaussianProcess(points, normal_scores(values))
            return
        expected, _ = prior.predict(points)
        scores = np.sort(expected)[np.argsort(np.argsort(values, kind="stable"), kind="stable")]
        has = {"choices": points.choices.shape[1] > 0, "known": points.known.shape[1] > 0}
        among = [kernel for scale in (0.03, 0.1, 0.3) for kernel in kernels(**has, scale=scale)]
        self._process = GaussianProcess(points, scores - expected, among=among)

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Means and standard deviations, both of shape (n,)."""
        means, deviations = self._process.predict(points)
        return (means, deviations) if self._prior is None else (means + self._prior.predict(points)[0], deviations)


def normal_scores(values: Array) -> Array:
    """What the ranks of values would be under a normal distribution; equal values share one score."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of equal values, from 1
    scores = [NormalDist().inv_cdf((rank - 0.5) / len(values)) for rank in ranks]
    return np.array(scores)[place.reshape(-1)]


def _informative(rewards: Array) -> NDArray[np.int64]:
    """Places of the rewards to learn from: all, or beyond `MOST` the best half of so many and the newest others."""
    n = len(rewards)
    if n <= MOST:
        return np.arange(n)
    best = np.argsort(-rewards, kind="stable")[: MOST // 2]
    others = np.setdiff1d(np.arange(n), best)
    return np.sort(np.concatenate([best, others[-math.ceil(MOST / 2) :]]))


def _differences(a: NDArray[np.int64], b: NDArray[np.int64]) -> Array:
    """Number of choices in which each pair differs, shape (n of a, n of b)."""
    found = np.zeros((len(a), len(b)))
    for mine, other in zip(a.T, b.T, strict=True):
        found += mine[:, None] != other[None]
    return found
