"""A problem without training: the accuracy is a fixed function of the architecture."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from rlnas.envs import MorphProblem, make_problem
from rlnas.evaluation import Evaluation, Metrics
from rlnas.latency import Latency
from rlnas.network import Network, example_inputs


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


class OnePass:
    """A meter whose latency is what a clock says of one forward pass: quick, and never the same twice."""

    deterministic: ClassVar[bool] = False
    description: ClassVar[Mapping[str, Any]] = {"meter": "one_pass"}

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """One pass of each network."""
        return [self._measure(network) for network in networks]

    def state(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """There is nothing to go on from."""

    def _measure(self, network: Network) -> Latency:
        module, inputs = network.module().eval(), example_inputs(network.graph, 1, generator=torch.Generator())
        begun = time.perf_counter()
        with torch.inference_mode():
            module(inputs)
        return Latency.from_samples([1e3 * (time.perf_counter() - begun)])


def fake_problem(**settings: Any) -> MorphProblem:
    """A problem on digits with a `GraphEvaluator`; the start network is hardly trained."""
    return make_problem(evaluator=GraphEvaluator(), start_epochs=0.1, start_evaluations=5, **settings)
