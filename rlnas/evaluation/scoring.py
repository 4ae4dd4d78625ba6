"""The evaluator that trains nothing: zero-cost scores of the architecture."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.build import check_fits, plain_copy
from rlnas.evaluation.fitting import seeded
from rlnas.evaluation.metrics import Evaluation, Metrics
from rlnas.evaluation.zero_cost import PASSES, SCORES, Probe, needed_scores
from rlnas.graph import Graph
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.tasks import Task

VERSION = 1


@dataclass(frozen=True)
class ZeroCostEvaluator:
    """Scores a network's architecture at fresh initialization, on a batch of training inputs.

    The weights that the network comes with play no part. The metrics have ``scores`` and no ``accuracy``, so that no
    reward can take one for the other; use scores to choose what another evaluator trains.

    Attributes:
        task: Data and loss.
        scores: Names out of `rlnas.evaluation.zero_cost.SCORES` and `VOTES`; of a vote, the scores that it joins.
        batch_size: Training inputs to look at, drawn anew for each seed.

    Raises:
        ConfigError: If a score is not known, or the batch too small.
    """

    task: Task
    scores: Sequence[str] = ("az_nas",)
    batch_size: int = 64

    def __post_init__(self) -> None:
        if isinstance(self.scores, str) or not self.scores:
            raise ConfigError(f"scores={self.scores!r} must be a list of names, such as ['az_nas']")
        object.__setattr__(self, "scores", tuple(self.scores))
        if self.batch_size < 2:
            raise ConfigError(f"batch_size={self.batch_size} must be at least 2")
        self.names  # noqa: B018  (validates)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the single scores."""
        return needed_scores(self.scores)

    @property
    def deterministic(self) -> bool:
        """True if all scores are."""
        return all(SCORES[name].deterministic for name in self.names)

    @cached_property
    def recipe(self) -> str:
        """Canonical JSON of what decides the result."""
        recipe = {"evaluator": "zero_cost", "version": VERSION, "scores": sorted(self.names), "batch": self.batch_size}
        return json.dumps(recipe, sort_keys=True)

    def work(self, graph: Graph) -> float:
        """Multiply-accumulates that one evaluation takes; passes that several scores need count once."""
        passes = frozenset[str]().union(*(SCORES[name].passes for name in self.names))
        times = sum(n * (self._batch if batch else 1) for n, batch in (PASSES[p] for p in passes))
        return float(times * graph.macs)

    @property
    def _batch(self) -> int:
        return min(self.batch_size, len(self.task.train))

    @cached_property
    def _data(self) -> tuple[Tensor, Tensor]:
        return plain_copy(self.task.train.inputs), plain_copy(self.task.train.targets)

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Score the network's graph.

        Args:
            seed: Decides the batch, the fresh weights and what else is drawn.

        Raises:
            EvaluationError: If the network does not fit the task, or a score is not defined for it.
        """
        graph, task = network.graph, self.task
        check_fits(graph, task)
        started = time.perf_counter()
        with torch_threads(1), seeded(seed):
            inputs, targets = self._data
            chosen = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[: self._batch]
            batch = inputs.index_select(0, chosen), targets.index_select(0, chosen)
            found = score(Probe(graph, *batch, loss=task.loss, seed=seed), self.names)
        return Evaluation(Metrics.of_graph(graph, accuracy=None, cost_s=time.perf_counter() - started, scores=found))


def score(probe: Probe, names: tuple[str, ...]) -> dict[str, float]:
    """The scores of those names.

    Raises:
        EvaluationError: If one is not defined for the network, or is no finite number.
    """
    found = {}
    for name in names:
        found[name] = value = SCORES[name].compute(probe)
        if not math.isfinite(value):
            raise EvaluationError(f"the score {name} is {value}: the network's values at initialization overflow")
    return found
