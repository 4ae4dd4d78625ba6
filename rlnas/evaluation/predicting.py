"""What a surrogate is used for: an evaluator that predicts, and a ranker that learns as the search goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.build import check_fits
from rlnas.evaluation.metrics import Candidate, Evaluation, Metrics
from rlnas.evaluation.service import Service
from rlnas.evaluation.surrogate import LEAST, Surrogate, graph_features, training_rows
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.tasks import Task

VERSION = 1


@dataclass(frozen=True)
class SurrogateEvaluator:
    """Predicts what a network would reach; the network's weights play no part.

    The metrics have the scores ``predicted_accuracy`` and ``predicted_accuracy_std``, and no ``accuracy``: a prediction
    is none. A surrogate that has learnt more is another evaluator, with a recipe of its own.

    Attributes:
        task: What the networks are for.
        surrogate: The fitted regression.
    """

    deterministic: ClassVar[bool] = True

    task: Task
    surrogate: Surrogate | None = None

    @cached_property
    def recipe(self) -> str:
        """Canonical JSON of what decides the result."""
        known = None if self.surrogate is None else self.surrogate.fingerprint
        return json.dumps({"evaluator": "surrogate", "version": VERSION, "surrogate": known}, sort_keys=True)

    def work(self, graph: Graph) -> float:
        """Nothing is computed with the network."""
        return 0.0

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Predict a network's accuracy; the seed plays no part.

        Raises:
            EvaluationError: If the network does not fit the task, or there is no surrogate.
        """
        check_fits(network.graph, self.task)
        if self.surrogate is None:
            raise EvaluationError("this evaluator needs a surrogate that has learnt: Surrogate.of_records(...)")
        started = time.perf_counter()
        (found,) = self.surrogate.predict([graph_features(network.graph)])
        scores = {"predicted_accuracy": found.mean, "predicted_accuracy_std": found.std}
        cost_s = time.perf_counter() - started
        return Evaluation(Metrics.of_graph(network.graph, accuracy=None, cost_s=cost_s, scores=scores))


class SurrogateRanker:
    """Orders candidates by an optimistic guess of their accuracy, learnt anew from the store before each batch.

    Args:
        service: Whose evaluations it learns from: those of its task and its evaluator.
        optimism: Standard deviations that are added to the predicted mean, so that the unknown is tried too.
        least: Networks that must have been evaluated before it says anything.

    Raises:
        ConfigError: If a number is out of range.
    """

    name: ClassVar[str] = "surrogate"
    deterministic: ClassVar[bool] = False

    def __init__(self, service: Service, *, optimism: float = 1.0, least: int = 20) -> None:
        if not 0 <= optimism < float("inf"):
            raise ConfigError(f"optimism={optimism} must be at least 0")
        if least < LEAST:
            raise ConfigError(f"least={least} must be at least {LEAST}")
        self._service = service
        self._optimism = optimism
        self._least = least
        self._features: dict[str, dict[str, float]] = {}

    @property
    def recipe(self) -> str:
        """Canonical JSON of how it learns."""
        recipe = {"ranker": "surrogate", "version": VERSION, "optimism": self._optimism, "least": self._least}
        return json.dumps(recipe, sort_keys=True)

    def work(self, graph: Graph) -> float:
        """Nothing is computed with the network."""
        return 0.0

    def rank(self, candidates: Sequence[Candidate], *, seeds: Sequence[int]) -> list[float] | None:
        """Predicted accuracies with the optimism added; None while too few networks have been evaluated."""
        service = self._service
        rows, accuracies = training_rows(
            service.store.rows(), task_key=service.task.key, recipe=service.evaluator.recipe, cache=self._features
        )
        if len(rows) < self._least:
            return None
        asked = [self._features.setdefault(c.graph.key, graph_features(c.graph)) for c in candidates]
        found = Surrogate(rows, accuracies).predict(asked)
        return [prediction.mean + self._optimism * prediction.std for prediction in found]
