from __future__ import annotations

import math

import numpy as np
import pytest

from rlnas.controllers.surrogate import MOST, GaussianProcess, Kernel, Points, Surrogate, normal_scores
from rlnas.errors import ConfigError


def decided(rows: list[list[int]], known: list[list[float]] | None = None) -> Points:
    names = [str(i) for i in range(len(known[0]))] if known else []
    figures = [dict(zip(names, k, strict=True)) for k in known] if known else [{} for _ in rows]
    return Points.of([{"choices": r, "known": k} for r, k in zip(rows, figures, strict=True)], names=names)


def test_the_kernel_by_hand() -> None:
    """Two choices apart, and figures (1, 0) and (0, 2) of two."""
    a, b = decided([[0, 1, 2]], [[1.0, 0.0]]), decided([[0, 0, 0]], [[0.0, 2.0]])
    kernel = Kernel(choice=0.5, reach=2.0, linear=0.3, smooth=0.7, noise=0.1)
    expected = 0.5 * math.exp(-2 / 2) + 0.3 * 0 + 0.7 * math.exp(-(1 + 4) / (2 * 2))
    assert kernel.between(a, b)[0, 0] == pytest.approx(expected)
    assert kernel.at(b)[0] == pytest.approx(0.5 + 0.3 * 4 / 2 + 0.7)
    assert kernel.at(b)[0] == pytest.approx(kernel.between(b, b)[0, 0])


def test_prediction_by_the_formula_of_a_gaussian_process() -> None:
    kernel = Kernel(choice=1.0, reach=1.0, linear=0.0, smooth=0.0, noise=0.2)
    process = GaussianProcess(decided([[0], [1]]), np.array([1.0, -1.0]), among=[kernel])
    means, deviations = process.predict(decided([[0], [2]]))
    e = math.exp(-1)
    covariance = np.array([[1.2, e], [e, 1.2]])
    weights = np.linalg.solve(covariance, [1.0, -1.0])
    assert means == pytest.approx([weights @ [1, e], weights @ [e, e]])
    left = 1 - np.array([e, e]) @ np.linalg.solve(covariance, [e, e])
    assert deviations[1] == pytest.approx(math.sqrt(left))
    assert deviations[0] < deviations[1]


def test_normal_scores_are_those_of_the_ranks() -> None:
    scores = normal_scores(np.array([5.0, -100.0, 0.9, 0.9]))
    assert scores[0] == -scores[1] and scores[2] == scores[3]
    assert scores == pytest.approx([1.1503, -1.1503, 0.0, 0.0], abs=1e-4)


def test_it_learns_choices_that_go_together() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(4, size=(260, 4))
    pairs = rng.normal(size=(4, 4))
    worth = pairs[rows[:, 0], rows[:, 1]] + rng.normal(size=4)[rows[:, 2]]
    points = decided(rows.tolist())
    means, _ = Surrogate(points[:200], worth[:200].tolist()).predict(points[200:])
    assert np.corrcoef(means, worth[200:])[0, 1] > 0.9


def test_it_learns_figures_whatever_their_unit() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(60, 2)) * [1e6, 1e-3] + [1e6, 0]
    worth = (x[:, 0] - 1e6) / 1e6 - ((x[:, 1] - 0.0005) / 0.0005) ** 2
    points = Points(np.zeros((60, 0), dtype=np.int64), x)
    means, _ = Surrogate(points[:40], worth[:40].tolist()).predict(points[40:])
    assert np.corrcoef(means, worth[40:])[0, 1] > 0.9


def test_a_network_that_fails_does_not_drown_the_others() -> None:
    rows = [[i] for i in range(8)] * 2
    rewards = [float(i) for i in range(8)] * 2
    rewards[3] = -1e9
    means, _ = Surrogate(decided(rows), rewards).predict(decided([[7], [1]]))
    assert means[0] > 0 > means[1]


def test_with_a_prior_the_difference_is_learned() -> None:
    """Elsewhere a higher number is better; here the same, but that choice 5 of the first decision is bad."""
    everything = [[i, j] for i in range(6) for j in range(6)]
    prior = Surrogate(decided(everything), [float(i + j) for i, j in everything])
    here = [[5, 0], [5, 2], [5, 4], [0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [2, 4], [4, 2], [0, 5], [3, 1]]
    worth = [float(i + j) - (9 if i == 5 else 0) for i, j in here]
    means, _ = Surrogate(decided(here), worth, prior=prior).predict(decided([[5, 5], [4, 5]]))
    before, _ = prior.predict(decided([[5, 5], [4, 5]]))
    assert before[0] > before[1] and means[0] < means[1]


def test_points_without_anything_known_of_them() -> None:
    assert len(Points.of([], names=["a"])) == 0


def test_rewards_that_are_not_finite() -> None:
    with pytest.raises(ConfigError, match="not finite"):
        Surrogate(decided([[0], [1]]), [0.0, math.nan])


def test_of_many_rewards_the_best_and_the_newest_are_learned() -> None:
    n = MOST + 100
    rewards = [1.0] * 5 + [0.0] * (n - 5)
    points = Points(np.zeros((n, 0), dtype=np.int64), np.arange(n, dtype=np.float64)[:, None])
    surrogate = Surrogate(points, rewards)
    kept = surrogate._process._points.known * surrogate._process.scale + surrogate._process.shift
    assert len(kept) == MOST
    assert {0, 1, 2, 3, 4, n - 1} <= set(np.rint(kept[:, 0]).astype(int))
