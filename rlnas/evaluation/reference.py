"""The start network: trained once from scratch, then evaluated several times like any other candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rlnas.errors import EvaluationError
from rlnas.evaluation.build import fresh_network
from rlnas.evaluation.metrics import Candidate
from rlnas.evaluation.service import Service
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.rewards import Reference
from rlnas.tasks import Task


def train_start(start: Graph | Network, task: Task, *, seed: int, epochs: float, **recipe: Any) -> Network:
    """Train a network on the training split.

    Args:
        start: An architecture, which gets fresh weights, or a network, which keeps its own.
        seed: Decides fresh weights and the order of the samples.
        epochs: Passes over the training inputs; 0 leaves the network as it is.
        **recipe: Further arguments of `TrainingEvaluator`.

    Raises:
        EvaluationError: If the training diverges, or the network does not fit the task.
    """
    network = start if isinstance(start, Network) else fresh_network(start, seed=seed)
    if epochs == 0:
        return network
    found = TrainingEvaluator(task, epochs=epochs, **recipe).evaluate(network, seed=seed)
    if found.trained is None:
        raise EvaluationError(f"the start network cannot be trained: {found.reason}; try a lower learning rate")
    return found.trained


def evaluate_start(service: Service, start_id: str, *, seed: int, n: int = 5) -> Reference:
    """Evaluate a start network with ``n`` seeds, from ``seed`` upward, through the service: rewards are relative to it.

    Raises:
        EvaluationError: If one of the evaluations fails.
    """
    return evaluate_reference(service, Candidate(service.starts.get(start_id).graph, start_id), seed=seed, n=n)


def evaluate_reference(service: Service, candidate: Candidate, *, seed: int, n: int = 5) -> Reference:
    """Evaluate the network that rewards are relative to, as `evaluate_start` does.

    Raises:
        EvaluationError: If one of the evaluations fails.
    """
    found = service.evaluate([candidate] * n, seed=range(seed, seed + n))
    for evaluation in found:
        if evaluation.metrics is None:
            raise EvaluationError(f"the start network cannot be evaluated: {evaluation.reason}")
    metrics = [evaluation.metrics for evaluation in found if evaluation.metrics is not None]
    past = metrics[0]
    reference = Reference.from_metrics(metrics)
    return replace(reference, epochs=past.epochs, inherited_epochs=past.inherited_epochs)
