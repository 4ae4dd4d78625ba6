"""What may be known of a problem's networks before any is evaluated: for baselines that ask by ``env_method``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from rlnas.envs.build_problem import BuildProblem
from rlnas.envs.morph_problem import MorphProblem
from rlnas.envs.table_problem import TableProblem
from rlnas.errors import ConfigError, unknown_name
from rlnas.spaces import Assignment, DecisionSpace
from rlnas.spaces.dearest import dearest_first
from rlnas.spaces.largest import largest_first as largest_edits

Plan = tuple[int, ...]
"""Actions of an episode, without the STOP after them."""


def largest_first(problem: Any, cost: str, seed: int = 0) -> Iterator[Plan]:
    """Episodes whose networks keep the limits, the largest first, each network once.

    Args:
        cost: ``"macs"`` or ``"n_params"``; of a table any column, such as ``"latency_ms"``.
        seed: Decides between networks of the same size, of which a table may have many.

    Raises:
        ConfigError: If the cost is not known, or the problem has no such order.
    """
    if isinstance(problem, MorphProblem):
        return largest_edits(problem.space, cost, seed=seed)
    if isinstance(problem, BuildProblem):
        _check_form(problem, "the largest network")
        space = problem.space
        return (plan_of(space.networks.decisions, found) for found in dearest_first(space, cost, seed=seed))
    table = _table(problem, "the largest network")
    if cost not in table.columns:
        raise ConfigError(unknown_name("column of the table", cost, table.columns))
    sizes = np.where(table.feasible.allowed, table.columns[cost], -np.inf).ravel()
    order = np.lexsort((np.random.default_rng(seed).random(sizes.size), -sizes))[: table.feasible.count]
    return (plan_of(table.space, table.space.assignment(int(number))) for number in order)


def sample_feasible(problem: Any, generator: np.random.Generator) -> Plan:
    """An episode that ends in a random network within the limits, each as likely as any other.

    Raises:
        ConfigError: If the networks of the problem cannot be counted.
        LimitError: If they cannot be drawn, for too few keep the limits.
    """
    if isinstance(problem, BuildProblem):
        _check_form(problem, "a random network of all")
        return plan_of(problem.space.networks.decisions, problem.space.within.sample(generator))
    table = _table(problem, "a random network of all")
    return plan_of(table.space, table.feasible.sample(generator))


def plan_of(space: DecisionSpace, assignment: Assignment) -> Plan:
    """The actions that take these decisions one after the other."""
    return tuple(space.layout.action(slot, choice) for slot, choice in enumerate(assignment))


PLANS: Final[dict[str, Callable[..., Any]]] = {"largest_first": largest_first, "sample_feasible": sample_feasible}
"""Methods of the batched environment for Stable-Baselines3, called with its problem."""


def _table(problem: Any, what: str) -> TableProblem:
    _check_form(problem, what)
    assert isinstance(problem, TableProblem)
    return problem


def _check_form(problem: Any, what: str) -> None:
    """Raise if episodes do not take one decision after the other."""
    form = problem.form if isinstance(problem, TableProblem) else None
    form = problem.space.form if isinstance(problem, BuildProblem) else form
    if form != "build":
        raise ConfigError(
            f"{what} is known beforehand only where decisions are taken one after the other (form='build')"
        )
