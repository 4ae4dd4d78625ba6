"""What is common to editing and building: networks are evaluated by a service and paid by a reward."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from statistics import fmean
from typing import Any

from rlnas.envs.protocols import Late, Outcome, PaidSpace
from rlnas.envs.shaping import make_shaping
from rlnas.errors import ConfigError
from rlnas.evaluation import (
    Candidate,
    Evaluation,
    Evaluator,
    Layer,
    Metrics,
    OnResult,
    Service,
    evaluate_control,
    evaluate_reference,
    full,
)
from rlnas.graph import Graph
from rlnas.layout import Layout
from rlnas.network import Network
from rlnas.rewards import History, Reference, Reward


class NetworkProblem(ABC):
    """Turns ended episodes into rewards; the start network is made and judged when the first one ends.

    Args:
        space: Start network, what episodes may do, and limits.
        service: Evaluates candidates.
        make_start: Gives the trained start network, of the space's start graph.
        make_reward: Called with ``reference=`` the start network's figures, gives the reward.
        seed: Seed of the start network's own evaluations.
        start_evaluations: How often the start network is evaluated.
        control: Make rewards relative to the start network trained on, without an edit, for as many epochs as the
            candidate's evaluation took; differs where candidates are trained for different lengths.
        step_reward: When episodes are paid, one of `rlnas.envs.shaping.STEP_REWARDS`.
        discount: That of the learner, where every step is paid; 1 by default.

    Attributes:
        on_result: Called with (index in its batch, evaluation) as each result comes in; for progress displays.
        history: What episodes were paid for so far, for rewards that look back; a search begins with an empty one.
        shaping: What steps are paid beside the end; None if only the end is.

    Raises:
        ConfigError: If `rlnas.envs.shaping.make_shaping` does.
    """

    def __init__(
        self,
        *,
        space: PaidSpace,
        service: Service | Layer,
        make_start: Callable[[], Network],
        make_reward: Callable[..., Reward],
        seed: int = 0,
        start_evaluations: int = 8,
        control: bool = False,
        step_reward: str = "end",
        discount: float | None = None,
    ) -> None:
        self.space: PaidSpace = space
        self.service = service
        self.seed = seed
        self._make_start = make_start
        self._make_reward = make_reward
        self._start_evaluations = start_evaluations
        self._control = control
        self._controls: dict[float, Reward] = {}
        self.on_result: OnResult | None = None
        self.history = History()
        self._promoted: str | None = None
        self._late: dict[int, Late] = {}
        self.shaping = make_shaping(self, step_reward, discount)

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return self.space.layout

    @property
    def max_steps(self) -> int:
        """Edits of an episode at most."""
        return self.space.max_steps

    @property
    @abstractmethod
    def origin(self) -> str:
        """Name of what episodes begin with and choose from."""

    @abstractmethod
    def begin(self) -> Any:
        """A new episode."""

    @abstractmethod
    def candidate(self, episode: Any) -> Candidate:
        """The network that an episode made."""

    @abstractmethod
    def candidate_of(self, record: Mapping[str, Any]) -> Candidate:
        """The network that the record of an evaluation describes.

        Raises:
            StoreError: If its start network is missing.
        """

    @abstractmethod
    def made(self, episode: Any) -> dict[str, Any]:
        """How an episode made its network, for the record."""

    @abstractmethod
    def standing(self, episode: Any) -> tuple[Candidate, Candidate] | None:
        """The network that an episode has made so far, and the one it began with; None if they are the same."""

    @property
    def start_candidate(self) -> Candidate:
        """The first start network, as a candidate."""
        return Candidate(self.service.starts.get(self.first_start_id).graph, self.first_start_id)

    @property
    def start_id(self) -> str:
        """Content hash of the network that episodes start from."""
        return self.first_start_id if self._promoted is None else self._promoted

    @cached_property
    def first_start_id(self) -> str:
        """Content hash of the trained start network, before any promotion."""
        begun = time.time()
        start_id = self.service.starts.add(self._make_start())
        self.service.training_intervals.append((begun, time.time()))
        return start_id

    @cached_property
    def reference(self) -> Reference:
        """The first start network's figures, from several evaluations; promotions leave them as they are."""
        return evaluate_reference(full(self.service), self.start_candidate, seed=self.seed, n=self._start_evaluations)

    @cached_property
    def cost(self) -> str:
        """The cost that counts, one of `rlnas.rewards.COSTS`; known before anything is trained."""
        return self._make_reward(reference=Reference((0.5,), 1.0, 1, 1)).cost

    @cached_property
    def reward(self) -> Reward:
        """The reward relative to the start network."""
        return self._make_reward(reference=self.reference)

    def reward_for(self, metrics: Metrics | None) -> Reward:
        """The reward that a network is paid by: that of the control with as much training, if there is one."""
        passes = None if metrics is None or not self._control else self._passes(metrics)
        if passes in (None, self.reference.epochs):
            return self.reward
        assert passes is not None
        if passes not in self._controls:
            control = evaluate_control(
                self.service, self.first_start_id, seed=self.seed, n=self._start_evaluations, epochs=passes
            )
            self._controls[passes] = self._make_reward(reference=control)
        return self._controls[passes]

    def _passes(self, metrics: Metrics) -> float | None:
        """Passes over training data since the first start network, those before a promotion included."""
        had = self.reference.inherited_epochs
        if metrics.epochs is None or metrics.inherited_epochs is None or had is None:
            return metrics.epochs
        return metrics.epochs + max(0.0, metrics.inherited_epochs - had)

    def worth(self, metrics: Metrics) -> float:
        """The reward of a network."""
        return self.reward_for(metrics)(metrics)

    def value(self, graph: Graph, metrics: Metrics | None) -> float:
        """What an architecture with these metrics is worth by itself, limits that it breaks included."""
        return self._over_limit(graph, metrics, self.reward_for(metrics)(metrics))

    def _over_limit(self, graph: Graph, metrics: Metrics | None, paid: float) -> float:
        excess = self.space.limits.excess(graph)
        if metrics is None or excess <= 1.0:
            return paid
        return self.reward_for(metrics).over_limit(paid, math.log(excess))

    @property
    def needs_latency(self) -> bool:
        """Whether rewards need measured latency; known before anything is trained."""
        return self._make_reward(reference=Reference((0.5,), 1.0, 1, 1)).needs_latency

    @property
    def controls(self) -> list[Reference]:
        """With ``control``: the start network trained on without an edit, for each length that was needed."""
        if not self._control:
            return []
        known = [self.reference, *(reward.reference for reward in self._controls.values())]
        return sorted(known, key=lambda reference: reference.epochs or 0.0)

    @property
    def evaluator(self) -> Evaluator:
        """What judges the candidates."""
        return self.service.evaluator

    @cached_property
    def start_reward(self) -> float:
        """Reward of the first start network at its mean accuracy."""
        known, graph = self.reference, self.service.starts.get(self.first_start_id).graph
        metrics = Metrics.of_graph(graph, accuracy=fmean(known.accuracies), cost_s=0.0)
        return self.reward(replace(metrics, latency_ms=known.latency_ms))

    def start_from(self, start_id: str) -> None:
        """Let episodes start from a network that was promoted before, or from the first start network.

        Raises:
            StoreError: If it is not in the library.
        """
        self._promoted = start_id

    def score(self, episodes: Sequence[Any], *, seed: int) -> list[Outcome]:
        """Evaluate the networks of ended episodes together.

        A network that breaks a limit is not trained, unless limits are enforced by a penalty. Where the mask enforces
        them, only illegal actions can leave an episode with one.
        """
        self.reward  # noqa: B018  (trains the start network, if that is still to be done)
        inside = [e.graph is not None and self.evaluates(e.graph) for e in episodes]
        candidates = [self.candidate(e) for e, ok in zip(episodes, inside, strict=True) if ok]
        found = iter(self._evaluate(self.service, candidates, seed))
        return [
            self._outcome(episode, next(found) if ok else None, seed, self.start_id)
            for episode, ok in zip(episodes, inside, strict=True)
        ]

    def score_early(
        self, episodes: Sequence[Any], *, seed: int, lag: int
    ) -> tuple[list[Outcome | Late], list[tuple[int, Outcome]]]:
        """Like `score`, but up to ``lag`` evaluations, of this batch and earlier ones, may still be in work in the end.

        Returns:
            One entry for each episode; and what arrived of earlier batches, by number.

        Raises:
            ConfigError: If `check_lag` does.
        """
        self.check_lag()
        self.reward  # noqa: B018  (trains the start network, if that is still to be done)
        assert isinstance(self.service, Service)
        inside = [e.graph is not None and self.evaluates(e.graph) for e in episodes]
        candidates = [self.candidate(e) for e, ok in zip(episodes, inside, strict=True) if ok]
        numbers = iter(self.service.submit(candidates, seed=seed))
        known: list[Outcome | Late] = [
            Late(next(numbers), e, self.start_id, seed) if ok else self._outcome(e, None, seed, self.start_id)
            for e, ok in zip(episodes, inside, strict=True)
        ]
        own = {entry.number: index for index, entry in enumerate(known) if isinstance(entry, Late)}
        self._late |= {entry.number: entry for entry in known if isinstance(entry, Late)}
        arrived: list[tuple[int, Outcome]] = []
        for number, outcome in self._collect(self.service, lag):
            if number in own:
                known[own[number]] = outcome
            else:
                arrived.append((number, outcome))
        return known, arrived

    def check_lag(self) -> None:
        """Raise if a learner cannot go on before all evaluations of its batch are done.

        Raises:
            ConfigError: If the reward needs measured latency, a layer chooses whom to evaluate, there are controls, or
                every step is paid.
        """
        if not isinstance(self.service, Service) or self.needs_latency or self._control or self.shaping is not None:
            raise ConfigError(
                "evaluation.lag needs a reward without latency (which is measured when nothing is in work), such as "
                "reward.cost=macs, paid at the end alone (reward.step=end), and neither screen nor halving (which "
                "compare whole batches) nor control"
            )

    def finish(self) -> list[Outcome]:
        """Wait for all evaluations that are late; gives their outcomes."""
        return [outcome for _, outcome in self._collect(full(self.service), 0)] if self._late else []

    def _collect(self, service: Service, lag: int) -> list[tuple[int, Outcome]]:
        found = service.collect(self._late, lag=lag, measure=False, on_result=self.on_result)
        late = {number: self._late.pop(number) for number in sorted(found)}
        return [(n, self._outcome(w.episode, found[n], w.seed, w.start_id)) for n, w in late.items()]

    def judge(self, candidates: Sequence[Candidate], *, seed: int) -> list[tuple[Evaluation, float]]:
        """Evaluate candidates that did not come from episodes, to the end: each with its reward."""
        reward = self.reward
        return [(e, reward(e.metrics)) for e in self._evaluate(full(self.service), candidates, seed)]

    def _evaluate(self, service: Service | Layer, candidates: Sequence[Candidate], seed: int) -> list[Evaluation]:
        return service.evaluate(candidates, seed=seed, on_result=self.on_result) if candidates else []

    def evaluates(self, graph: Graph) -> bool:
        """Whether a network of that architecture is evaluated."""
        return self.space.enforce == "penalty" or self.space.limits.met_by(graph)

    def _outcome(self, episode: Any, evaluation: Evaluation | None, seed: int, start_id: str) -> Outcome:
        metrics = evaluation.metrics if evaluation is not None else None
        reward = self.reward_for(metrics)
        value = self.value(episode.graph, metrics)
        paid = self._over_limit(episode.graph, metrics, reward(metrics, self.history))
        excess = self.space.limits.excess(episode.graph)
        if reward.looks_back:
            self.history.add(reward.facts(metrics) if excess <= 1.0 else None)
        status: str
        reason: str | None
        if evaluation is None or (metrics is not None and excess > 1.0):
            status, reason = "infeasible", f"breaks the limits {self.space.limits}"
        elif metrics is not None and not reward.feasible(metrics):
            status, reason = "infeasible", "over the limit on measured latency"
        else:
            status, reason = evaluation.status, evaluation.reason
        graph = episode.graph
        record = {
            "accuracy": metrics.accuracy if metrics else None,
            "latency_ms": metrics.latency_ms if metrics else None,
            "epochs": metrics.epochs if metrics else None,
            "inherited_epochs": metrics.inherited_epochs if metrics else None,
            "n_params": graph.n_params,
            "macs": graph.macs,
            "peak_memory_bytes": graph.peak_memory_bytes,
            "reward": value,
            "status": status,
            "reason": reason,
            "cached": evaluation.cached if evaluation else False,
            "graph_key": graph.key,
            "cache_key": evaluation.cache_key if evaluation else "",
            "start_id": start_id,
            **self.made(episode),
            "seed": seed,
        }
        info = {
            "evaluation": record,
            "reward_vector": reward.vector(metrics) if metrics else None,
            "actions": [int(a) for a in episode.actions],
            "seed": seed,
        }
        if evaluation is None and self.space.enforce == "reject":
            info["rejected"] = True
        return Outcome(paid, info)

    def _unmade(self, episode: Any, reason: str, seed: int, start_id: str) -> Outcome:
        """What an episode without a network is worth: as little as one that breaks a limit."""
        value, paid = self.reward(None), self.reward(None, self.history)
        if self.reward.looks_back:
            self.history.add(None)
        names = ("accuracy", "latency_ms", "epochs", "inherited_epochs", "n_params", "macs", "peak_memory_bytes")
        record = {
            **dict.fromkeys(names),
            "reward": value,
            "status": "infeasible",
            "reason": reason,
            "cached": False,
            "graph_key": "",
            "cache_key": "",
            "start_id": start_id,
            **self.made(episode),
            "seed": seed,
        }
        actions = [int(a) for a in episode.actions]
        info = {"evaluation": record, "reward_vector": None, "actions": actions, "seed": seed}
        return Outcome(paid, info | ({"rejected": True} if self.space.enforce == "reject" else {}))

    def close(self) -> None:
        """Release worker processes and the store."""
        self.service.close()
