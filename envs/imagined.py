"""Episodes that are only imagined: the same states, masks and ends, and nothing is evaluated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rlnas.envs.build_problem import BuildProblem
from rlnas.envs.network_problem import NetworkProblem
from rlnas.envs.protocols import Episode, Late, Outcome, Problem
from rlnas.envs.table_problem import TableProblem
from rlnas.errors import ConfigError
from rlnas.evaluation.surrogate import graph_features
from rlnas.layout import Layout
from rlnas.rewards import COSTS


class ImaginedProblem:
    """Plays another problem's episodes without evaluating them.

    Every episode earns 0. What is known of its end without evaluation is in its info: ``key``, equal for equal ends;
    ``feasible``, whether it meets the limits; and ``features``: ``choices``, the numbers of what was chosen, where
    there are decisions, and ``known``, figures by name, the same names for all episodes.

    Args:
        problem: The problem; its start network is read anew whenever an episode begins.

    Raises:
        ConfigError: If it is of a kind whose ends cannot be described.
    """

    def __init__(self, problem: Problem) -> None:
        if not isinstance(problem, TableProblem | NetworkProblem):
            raise ConfigError(
                f"a {type(problem).__name__} cannot be imagined: nothing describes the ends of its episodes"
            )
        self.problem = problem

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return self.problem.layout

    @property
    def max_steps(self) -> int:
        """Steps of an episode at most."""
        return self.problem.max_steps

    @property
    def origin(self) -> str:
        """That of the problem."""
        return self.problem.origin

    def begin(self) -> Episode:
        """A new episode."""
        return self.problem.begin()

    def score(self, episodes: Sequence[Any], *, seed: int) -> list[Outcome]:
        """Describe ended episodes."""
        if isinstance(self.problem, TableProblem):
            described = [_of_table(self.problem, episode) for episode in episodes]
        else:
            described = [_of_graph(self.problem, episode) for episode in episodes]
        return [Outcome(0.0, d | {"actions": list(e.actions)}) for d, e in zip(described, episodes, strict=True)]

    def score_early(
        self, episodes: Sequence[Any], *, seed: int, lag: int
    ) -> tuple[list[Outcome | Late], list[tuple[int, Outcome]]]:
        """Nothing is late here."""
        return list(self.score(episodes, seed=seed)), []

    def finish(self) -> list[Outcome]:
        """Nothing is late here."""
        return []

    def close(self) -> None:
        """Nothing is open here; the problem stays as it is."""


def _of_table(problem: TableProblem, episode: Any) -> dict[str, Any]:
    chosen = episode.assignment
    columns = {name: problem.columns[name] for name in COSTS if name in problem.columns}
    whole = len(chosen) == len(problem.space)
    feasible = whole and problem.feasible.meets(chosen)
    known = {f"log_{name}": _log(float(values[chosen])) if whole else 0.0 for name, values in columns.items()}
    choices = [*chosen, *[-1] * (len(problem.space) - len(chosen))]
    return {
        "key": ",".join(f"{name}={choice}" for name, choice in problem.space.choices(chosen).items()),
        "feasible": feasible,
        "features": {"choices": choices, "known": known},
    }


def _of_graph(problem: NetworkProblem, episode: Any) -> dict[str, Any]:
    graph = episode.graph
    if graph is None:  # illegal actions left decisions open
        known = dict.fromkeys(graph_features(problem.space.start), 0.0)
        return {"key": "", "feasible": False, "features": {"choices": _training(problem, episode), "known": known}}
    training = _training(problem, episode)
    return {
        "key": graph.key if training is None else f"{graph.key} {training}",
        "feasible": problem.space.limits.met_by(graph),
        "features": {"choices": training, "known": graph_features(graph)},
    }


def _training(problem: NetworkProblem, episode: Any) -> list[int] | None:
    """Numbers of what is chosen of training, which the graph does not show; None where nothing is decided of it."""
    if not isinstance(problem, BuildProblem) or not problem.space.networks.training:
        return None
    begin, end = problem.space.networks.n_architecture, len(problem.space.networks.decisions)
    chosen = episode.assignment[begin:]
    return [*chosen, *[-1] * (end - begin - len(chosen))]


def _log(value: float) -> float:
    """Logarithm of a cost; 0 where it is not known or not positive."""
    return math.log(value) if value > 0 and math.isfinite(value) else 0.0
