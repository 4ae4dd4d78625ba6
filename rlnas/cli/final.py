"""After the search: evaluate the best again, train the winners to the end, score them once on the test split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlnas.cli.budget import identity
from rlnas.cli.config import SearchSettings
from rlnas.envs import NetworkProblem
from rlnas.errors import ExportError, RunError
from rlnas.evaluation import Candidate, Service, TrainingEvaluator, full
from rlnas.interchange import export, onnx_excuse
from rlnas.latency import Latency
from rlnas.network import Network
from rlnas.report.statistics import Estimate, mean_interval
from rlnas.runs import RunDirectory
from rlnas.tasks import Task

FRESH_SEED = 1_000_003
"""Distance between the search's seed and the fresh ones."""


@dataclass(frozen=True)
class Winner:
    """A network that was evaluated again.

    Attributes:
        name: Start network, or whose winner it is.
        candidate: The network.
        operators: What was done to the start network.
        rewards: Rewards under the fresh seeds.
        accuracies: Validation accuracies under the fresh seeds.
    """

    name: str
    candidate: Candidate
    operators: tuple[str, ...]
    rewards: tuple[float, ...]
    accuracies: tuple[float, ...]

    @property
    def reward(self) -> Estimate:
        """Mean reward with its interval."""
        return mean_interval(self.rewards)

    @property
    def accuracy(self) -> Estimate:
        """Mean validation accuracy with its interval."""
        return mean_interval(self.accuracies)


@dataclass(frozen=True)
class Finished:
    """A winner trained to the end.

    Attributes:
        winner: What was trained.
        network: With its final weights.
        test_accuracy: On the test split, scored once.
        latency: Measured side by side with the others.
    """

    winner: Winner
    network: Network
    test_accuracy: float
    latency: Latency


def choose(
    name: str, found: Sequence[dict[str, Any]], *, problem: NetworkProblem, settings: SearchSettings
) -> Winner | None:
    """The best of a search's best evaluations, by the mean of fresh seeds; None if it found no feasible network."""
    distinct: dict[str, dict[str, Any]] = {}
    for evaluation in found:
        if evaluation["status"] == "ok":
            distinct.setdefault(identity(evaluation), evaluation)
    best = sorted(distinct.values(), key=lambda e: (-e["reward"], e["graph_key"]))[: settings.final.candidates]
    winners = [
        judge(name, problem.candidate_of(e), tuple(e["operators"]), problem=problem, settings=settings) for e in best
    ]
    feasible = [winner for winner in winners if winner is not None]
    return max(feasible, key=lambda w: w.reward.mean, default=None)


def judge(
    name: str, candidate: Candidate, operators: tuple[str, ...], *, problem: NetworkProblem, settings: SearchSettings
) -> Winner | None:
    """Evaluate a network under fresh seeds; None if an evaluation fails or breaks a limit."""
    rewards, accuracies = [], []
    for i in range(1, settings.final.seeds + 1):
        evaluation, reward = problem.judge([candidate], seed=settings.seed + i * FRESH_SEED)[0]
        if evaluation.metrics is None or not problem.reward.feasible(evaluation.metrics):
            return None
        assert evaluation.metrics.accuracy is not None  # or it would not be feasible
        rewards.append(reward)
        accuracies.append(evaluation.metrics.accuracy)
    return Winner(name, candidate, operators, tuple(rewards), tuple(accuracies))


def train_to_the_end(
    winners: Sequence[Winner], *, problem: NetworkProblem, settings: SearchSettings, recipe: dict[str, Any]
) -> list[Finished]:
    """Train each winner on training and validation data in the same way, and score it once on the test split.

    The results go into the run's store like all others, so that a stopped run does not score twice.
    """
    search = problem.service
    evaluator = TrainingEvaluator(
        search.task, epochs=settings.final.epochs, fit="train+validation", score="test", **recipe
    )
    service = Service(evaluator, search.task, starts=search.starts, store=search.store, run=full(search).run)
    try:
        candidates = [winner.candidate for winner in winners]
        done = service.evaluate(candidates, seed=settings.seed, on_result=problem.on_result)
        networks: list[Network] = []
        accuracies: list[float] = []
        for winner, evaluation in zip(winners, done, strict=True):
            if evaluation.metrics is None:
                raise RunError(f"training {winner.name} to the end failed: {evaluation.reason}")
            network = evaluation.trained or service.trained(evaluation.cache_key)
            if network is None:
                network = service.retrain(winner.candidate, seed=settings.seed).trained
            assert network is not None and evaluation.metrics.accuracy is not None
            networks.append(network)
            accuracies.append(evaluation.metrics.accuracy)
    finally:
        search.training_intervals.extend(service.training_intervals)
    begun = time.time()
    assert search.meter is not None
    latencies = search.meter.measure(networks)
    search.measuring_intervals.append((begun, time.time()))
    return [Finished(*row) for row in zip(winners, networks, accuracies, latencies, strict=True)]


def write_best(finished: Finished, *, run: RunDirectory, problem: NetworkProblem) -> str | None:
    """Put the final network into ``best/`` with its figures; as ONNX too, where that can be.

    Returns:
        Why there is no ``model.onnx``; None if there is one.
    """
    task, graph, winner = problem.service.task, finished.network.graph, finished.winner
    neat, excuse = _written(finished.network, run.best, task)
    run.write_json(
        run.best / "metrics.json",
        {
            "stage": "final",
            "test_accuracy": finished.test_accuracy,
            "n_test": len(task.test),
            "validation_accuracy": winner.accuracy.mean,
            "reward": winner.reward.mean,
            "latency_ms": finished.latency.ms,
            "latency_interval_ms": [finished.latency.low_ms, finished.latency.high_ms],
            "n_params": graph.n_params,
            "macs": graph.macs,
            "peak_memory_bytes": graph.peak_memory_bytes,
            "graph_key": neat.graph.key,
            "operators": list(winner.operators),
            "edits": [site.to_json() for site in winner.candidate.edits],
            "start_id": winner.candidate.start_id,
            "input": task.input_description,
        },
    )
    return excuse


def _written(network: Network, folder: Path, task: Task) -> tuple[Network, str | None]:
    """Write a network's files; returns it under the names in them, and why it is not there as ONNX."""
    words = {
        "inputs": task.input_description,
        "outputs": f"logits of {task.n_classes} classes, shape (N, {task.n_classes})",
    }
    excuse = onnx_excuse()
    if excuse is None:
        try:
            return export(network, folder, formats=("python", "graph", "onnx"), **words).network, None
        except ExportError as error:
            excuse = str(error)
    return export(network, folder, **words).network, excuse
