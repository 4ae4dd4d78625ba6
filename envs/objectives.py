"""What the entries of ``info["reward_vector"]`` are: their names and ranges, what a failure has, and what counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from rlnas.envs.network_problem import NetworkProblem
from rlnas.envs.table_problem import TableProblem
from rlnas.errors import ConfigError
from rlnas.report import Archive, Axis, Point, Ranges
from rlnas.report.archive import axes_around
from rlnas.rewards import COSTS

Span = tuple[float, float]
"""Lowest and highest value."""


def problem_of(env: gym.Env[Any, Any]) -> Any:
    """The problem that an environment of rlnas's plays; None of another one."""
    return env.get_wrapper_attr("problem") if env.has_wrapper_attr("problem") else None


def spans(problem: Any) -> dict[str, Span]:
    """The objectives of a problem, each to be made large, with the range that its values lie in; nothing is trained.

    Raises:
        ConfigError: If the problem is not one of rlnas's.
    """
    if isinstance(problem, TableProblem):
        return {name: (float(values.min()), float(values.max())) for name, values in _table(problem).items()}
    cost = _paid(problem).cost
    bounds = {bound.cost: bound for bound in problem.space.limits.bounds}
    low, high = -math.inf, 0.0
    if cost in bounds and cost != "latency_ms" and problem.space.enforce != "penalty":  # predictions bound no latency
        most, least = bounds[cost].high, bounds[cost].low
        low, high = -math.inf if most is None else -most, 0.0 if least is None else -least
    return {"accuracy": (0.0, 1.0), f"minus_{cost}": (low, high)}


def failure(problem: Any) -> dict[str, float]:
    """The vector that stands for an episode without one: the worst of a table, or a start network that is never right.

    Raises:
        ConfigError: If the problem is not one of rlnas's.
    """
    if isinstance(problem, TableProblem):
        return {name: low for name, (low, _) in spans(problem).items()}
    return _paid(problem).reward.vector(None)


def archive_of(problem: Any, *, reference: Mapping[str, float] | None = None) -> Archive:
    """An empty archive for a problem's evaluations.

    Args:
        reference: Worst value of each objective that counts; the hypervolume is then in the objectives' own units. By
            default it is a share: of what lies between twice the start network's error and none, and between ten times
            its cost and a tenth, by logarithms; of a table, between its worst and its best.

    Raises:
        ConfigError: If an objective is not known, or there is nothing to refer to.
    """
    if reference is not None:
        return Archive([Axis(name, float(worst)) for name, worst in reference.items()])
    if isinstance(problem, TableProblem):
        wide = {name: span for name, span in spans(problem).items() if span[0] < span[1]}
        return Archive([Axis(name, *span, log=name != "score" and span[1] < 0) for name, span in wide.items()])
    start, cost = _paid(problem).reward.reference.facts, problem.cost
    return Archive(axes_around(Ranges.around(Point(start.accuracy, start.cost(cost))), cost=cost))


def _table(problem: TableProblem) -> dict[str, Any]:
    """What is known of the assignments that may be met: an array for each objective."""
    met = problem.feasible.allowed & np.isfinite(problem.scores)
    columns = {f"minus_{cost}": -problem.columns[cost] for cost in COSTS if cost in problem.columns}
    known = {name: values[met & np.isfinite(values)] for name, values in columns.items()}
    paid = np.append(problem.scores[met], problem.failure_reward)
    return {"score": paid} | {name: values for name, values in known.items() if values.size}


def _paid(problem: Any) -> NetworkProblem:
    if not isinstance(problem, NetworkProblem):
        raise ConfigError(
            "what the environment's rewards are made of is not known here: say it, with objectives= or reference="
        )
    return problem
