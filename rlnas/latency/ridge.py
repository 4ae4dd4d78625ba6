"""Latency as a sum of non-negative costs, fitted to relative errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rlnas.latency.features import Features

Array = NDArray[np.float64]

FOLDS: Final = 5
PENALTIES: Final = (1e-5, 1e-4, 1e-3, 1e-2)
TOLERANCE: Final = 1e-12


@dataclass(frozen=True)
class HeldOut:
    """Errors on networks that a fit has not seen, over all folds.

    Attributes:
        mape: Mean absolute error, in per cent.
        spearman: Rank correlation.
        relative_95: Relative error that 95 % of the networks stay below.
    """

    mape: float
    spearman: float
    relative_95: float


def fit(rows: Sequence[Features], ms: Sequence[float]) -> tuple[dict[str, float], HeldOut]:
    """Milliseconds for each unit of each feature, and the errors on held-out networks.

    The fit minimizes the mean square of relative errors with a ridge penalty, no cost below zero: a larger network
    is never predicted to be faster. The penalty is the one with the least error over `FOLDS` folds, which are also what
    the held-out errors are of.
    """
    names = sorted({name for row in rows for name in row})
    matrix = np.array([[row.get(name, 0.0) for name in names] for row in rows])
    target = np.asarray(ms, dtype=np.float64)
    folds = np.arange(len(target)) % FOLDS
    found: list[tuple[float, float, Array]] = []
    for penalty in PENALTIES:
        predicted = np.zeros_like(target)
        for fold in range(FOLDS):
            train = folds != fold
            predicted[~train] = matrix[~train] @ _solve(matrix[train], target[train], penalty)
        found.append((_mape(predicted, target), penalty, predicted))
    _, penalty, predicted = min(found, key=lambda item: item[:2])
    costs = _solve(matrix, target, penalty)
    errors = np.abs(predicted / target - 1)
    held_out = HeldOut(_mape(predicted, target), spearman(predicted, target), float(np.quantile(errors, 0.95)))
    return {name: float(cost) for name, cost in zip(names, costs, strict=True)}, held_out


def predict(costs: Mapping[str, float], row: Features) -> float:
    """Latency of a network; raises KeyError for a feature without a cost."""
    return sum(costs[name] * value for name, value in row.items())


def spearman(a: Array, b: Array) -> float:
    """Rank correlation, equal values sharing their mean rank."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def _mape(predicted: Array, target: Array) -> float:
    return 100 * float(np.mean(np.abs(predicted / target - 1)))


def _solve(matrix: Array, target: Array, penalty: float) -> Array:
    """Non-negative ridge on relative errors, by active sets.

    References:
        Lawson, Hanson, Solving Least Squares Problems, 1974, chapter 23.
    """
    relative = matrix / target[:, None]
    scale = np.sqrt(np.mean(relative**2, axis=0))
    scale[scale == 0] = 1.0
    relative = relative / scale
    gram = relative.T @ relative / len(target) + penalty * np.eye(len(scale))
    pull = relative.mean(axis=0)
    costs, above = np.zeros(len(scale)), np.zeros(len(scale), dtype=bool)
    for _ in range(3 * len(scale)):
        slope = np.where(above, 0.0, pull - gram @ costs)
        if slope.max() <= TOLERANCE:
            break
        above[slope.argmax()] = True
        while True:
            free = np.zeros(len(scale))
            free[above] = np.linalg.solve(gram[np.ix_(above, above)], pull[above])
            below = above & (free <= 0)
            if not below.any():
                costs = free
                break
            step = np.min(costs[below] / (costs[below] - free[below]))
            costs = costs + step * (free - costs)
            above &= costs > TOLERANCE
            costs[~above] = 0.0
    return np.asarray(costs / scale, dtype=np.float64)
