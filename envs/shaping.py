"""Rewards at every step, from potentials: what a state promises, so that the best policies stay the best.

A step from s to s' pays ``discount * potential(s') - potential(s)`` beside its own reward. The potential of an
episode's first state is 0, and so is that of every ended one: its discounted return is what it would be without.

References:
    Ng, Harada, Russell, Policy Invariance under Reward Transformations, ICML 1999.
    Grzes, Reward Shaping in Episodic Reinforcement Learning, AAMAS 2017: why ended episodes have a potential of 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation import Metrics, Service
from rlnas.graph import Graph
from rlnas.latency import is_deterministic

if TYPE_CHECKING:
    from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode
    from rlnas.envs.network_problem import NetworkProblem
    from rlnas.envs.table_problem import TableProblem
    from rlnas.spaces import Assignment

STEP_REWARDS: Final = ("end", "cost", "evaluated")
"""When an episode is paid: at its end; or at every step too, by its network's cost or by its evaluation."""


class Shaping(Protocol):
    """Gives the states of a problem's episodes their potentials; what a problem has as ``shaping`` if it has one.

    Attributes:
        discount: That of the learner.
    """

    discount: float

    def potentials(self, episodes: Sequence[Any], *, seed: int) -> list[float]:
        """Potential of the state of each episode, less that of its first state.

        Args:
            seed: Of evaluations.
        """
        ...


class Payments:
    """What the steps of an episode are paid, whatever the problem; without a shaping their own reward.

    Args:
        problem: Whose episodes.
    """

    def __init__(self, problem: Any) -> None:
        self.shaping: Shaping | None = getattr(problem, "shaping", None)
        self._last: list[float] | None = None

    def begin(self, n: int) -> None:
        """Episodes begin."""
        self._last = [0.0] * n

    def forget(self) -> None:
        """The episodes go on elsewhere: their potentials are looked up when they are needed."""
        self._last = None

    def before(self, episodes: Sequence[Any], *, seed: int) -> None:
        """Know the potentials of what is about to be left."""
        if self.shaping is not None and self._last is None:
            self._last = self.shaping.potentials(episodes, seed=seed)

    def pay(self, rewards: Sequence[float], episodes: Sequence[Any], *, ended: bool, seed: int) -> list[float]:
        """Rewards of a step that all episodes have taken, each with its own."""
        if self.shaping is None:
            return list(rewards)
        assert self._last is not None
        now = [0.0] * len(episodes) if ended else self.shaping.potentials(episodes, seed=seed)
        discount, before, self._last = self.shaping.discount, self._last, now
        return [r + discount * p - q for r, p, q in zip(rewards, now, before, strict=True)]

    def info(self, index: int) -> dict[str, float]:
        """What a step's info says of it."""
        return {} if self.shaping is None or self._last is None else {"potential": self._last[index]}


class CostPotential:
    """What the network would be paid at its own cost with the start network's accuracy: nothing is evaluated for it.

    Args:
        problem: Whose reward it is.
        discount: That of the learner.

    Raises:
        ConfigError: If the reward needs latency, and that is not known before it is measured.
    """

    def __init__(self, problem: NetworkProblem, *, discount: float) -> None:
        self.problem, self.discount = problem, discount
        meter = problem.service.meter
        self._predict = meter.graph_ms if meter is not None and is_deterministic(meter) else None
        if problem.needs_latency and self._predict is None:
            raise ConfigError(
                "step_reward='cost' pays for costs that are known before anything is measured; latency is with a meter "
                "such as a table or a predictor only"
            )

    def potentials(self, episodes: Sequence[Any], *, seed: int) -> list[float]:
        """See `Shaping`."""
        found = [self.problem.standing(episode) for episode in episodes]
        return [self._worth(pair[0].graph) - self._worth(pair[1].graph) if pair else 0.0 for pair in found]

    def _worth(self, graph: Graph) -> float:
        problem = self.problem
        metrics = Metrics.of_graph(graph, accuracy=fmean(problem.reference.accuracies), cost_s=0.0)
        if self._predict is not None:
            metrics = replace(metrics, latency_ms=self._predict(graph))
        return problem.value(graph, metrics)


class EvaluatedPotential:
    """What the network would be paid if the episode ended here: all networks on the way are evaluated.

    Args:
        problem: What evaluates them.
        discount: That of the learner.

    Raises:
        ConfigError: If a layer chooses whom to evaluate.
    """

    def __init__(self, problem: NetworkProblem, *, discount: float) -> None:
        if not isinstance(problem.service, Service):
            raise ConfigError("step_reward='evaluated' goes with neither screen nor halving, which leave networks out")
        self.problem, self.discount = problem, discount

    def potentials(self, episodes: Sequence[Any], *, seed: int) -> list[float]:
        """See `Shaping`."""
        found = [self.problem.standing(episode) for episode in episodes]
        asked = list(dict.fromkeys(candidate for pair in found for candidate in pair or ()))
        known = {candidate: self.problem.value(candidate.graph, None) for candidate in asked}
        asked = [candidate for candidate in asked if self.problem.evaluates(candidate.graph)]
        evaluations = self.problem.service.evaluate(asked, seed=seed) if asked else []
        for candidate, evaluation in zip(asked, evaluations, strict=True):
            known[candidate] = self.problem.value(candidate.graph, evaluation.metrics)
        return [known[pair[0]] - known[pair[1]] if pair else 0.0 for pair in found]


class TablePotential:
    """What a table would pay if the episode ended here, decisions that are still open being as at the start.

    Args:
        problem: The table.
        values: What it would pay for each assignment that meets the limits, an array over the space.
        start: That start.
        queries: True if a value is what the search looks for, so that looking at it counts as a query.
        discount: That of the learner.
    """

    def __init__(
        self,
        problem: TableProblem,
        values: NDArray[np.float64],
        start: Assignment,
        *,
        queries: bool,
        discount: float,
    ) -> None:
        self.problem, self.values, self.start, self.queries, self.discount = problem, values, start, queries, discount

    def potentials(self, episodes: Sequence[BuildEpisode | EditEpisode], *, seed: int) -> list[float]:
        """See `Shaping`."""
        begin = self._worth(self.start)
        wholes = [(*e.assignment, *self.start[len(e.assignment) :]) for e in episodes]
        return [self._worth(whole) - begin for whole in wholes]

    def _worth(self, whole: Assignment) -> float:
        problem = self.problem
        if not problem.feasible.meets(whole):
            return problem.failure_reward
        if self.queries:
            problem.queried.add(problem.space.number(whole))
        value = float(self.values[whole])
        return problem.failure_reward if np.isnan(value) else value


def discount_of(step_reward: str, discount: float | None) -> float | None:
    """The discount of potentials, 1 by default; None where only the end is paid.

    Raises:
        ConfigError: If ``step_reward`` is not known, or does not go with the discount.
    """
    if step_reward not in STEP_REWARDS:
        raise ConfigError(unknown_name("step_reward", step_reward, STEP_REWARDS))
    if step_reward == "end":
        if discount is not None:
            raise ConfigError(f"discount={discount!r} does nothing where only the end is paid (step_reward='end')")
        return None
    discount = 1.0 if discount is None else discount
    if not 0 < discount <= 1:
        raise ConfigError(f"discount={discount!r} must be above 0 and at most 1: that of the learner")
    return discount


def make_shaping(problem: NetworkProblem, step_reward: str, discount: float | None) -> Shaping | None:
    """The shaping of that name, None for ``"end"``.

    Raises:
        ConfigError: If it is not known, or does not go with the discount or the problem.
    """
    discount = discount_of(step_reward, discount)
    if discount is None:
        return None
    kind = CostPotential if step_reward == "cost" else EvaluatedPotential
    return kind(problem, discount=discount)
