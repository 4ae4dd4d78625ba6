"""A problem without training: the accuracy is a fixed function of the architecture."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rlnas.envs import MorphProblem, make_problem
from rlnas.evaluation import Evaluation, Metrics
from rlnas.network import Network


@dataclass
class GraphEvaluator:
    """More parameters are better, up to a point; what was evaluated is kept in ``seen``."""

    deterministic: ClassVar[bool] = True
    score: ClassVar[str] = "validation"
    seen: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> str:
        return json.dumps({"evaluator": "graph"})

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        self.seen.append(network.graph.key)
        noise = (seed % 1000) / 1e5
        accuracy = 0.6 + 0.3 * min(network.graph.n_params / 4000, 1.0) + noise
        return Evaluation(Metrics.of_graph(network.graph, accuracy=accuracy, cost_s=0.0), trained=network)


def fake_problem(**settings: Any) -> MorphProblem:
    """A problem on digits with a `GraphEvaluator`; the start network is hardly trained."""
    return make_problem(evaluator=GraphEvaluator(), start_epochs=0.1, start_evaluations=5, **settings)
