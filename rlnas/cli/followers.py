"""What follows the evaluations of a search: the best network, the hypervolume, what rewards look back on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from rlnas.envs import NetworkProblem
from rlnas.evaluation.build import untrained
from rlnas.evaluation.service import training_seed
from rlnas.interchange import write_model
from rlnas.network import Network
from rlnas.report.pareto import Point, Ranges, front, relative_hypervolume
from rlnas.rewards import History
from rlnas.runs import RunDirectory, write_text
from rlnas.tracking import Tracker


class Follower(Protocol):
    """What looks at every evaluation of a search, and is saved with the search's checkpoints."""

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """Look at one more evaluation."""
        ...

    def state(self) -> Any:
        """What it knows, as JSON values."""
        ...

    def restore(self, state: Any) -> None:
        """Take up what `state` gave."""
        ...


class Payments:
    """Keeps what a search's episodes were paid for, which some rewards look back on; the problem itself notes it.

    Args:
        problem: Whose history it is.
    """

    def __init__(self, problem: NetworkProblem) -> None:
        self._problem = problem

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """The problem has noted it."""

    def state(self) -> Any:
        """The history, as JSON values."""
        return self._problem.history.state()

    def restore(self, state: Any) -> None:
        """Take up what `state` gave."""
        self._problem.history = History.restored(state)


class Hypervolume:
    """Logs ``search/hypervolume``: the share of the ranges around the start network that the evaluations dominate.

    Args:
        problem: Its reward says what the cost is.
        tracker: Where it is logged.
    """

    def __init__(self, problem: NetworkProblem, tracker: Tracker) -> None:
        self._tracker = tracker
        reference = problem.reward.reference
        self._cost = problem.reward.cost
        value = reference.cost(self._cost)
        assert value is not None
        self._ranges = Ranges.around(Point(fmean(reference.accuracies), value))
        self._points: list[Point] = []

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """Count one more evaluation."""
        if evaluation["status"] == "ok":
            points = [*self._points, Point(evaluation["accuracy"], evaluation[self._cost])]
            self._points = [points[i] for i in front(points)]
        covered = relative_hypervolume(self._points, ranges=self._ranges)
        self._tracker.log({"search/hypervolume": covered}, step=evaluation["evaluation"])

    def state(self) -> list[list[float]]:
        """The front so far, as JSON values."""
        return [[point.accuracy, point.cost] for point in self._points]

    def restore(self, state: list[list[float]]) -> None:
        """Take up what `state` gave."""
        self._points = [Point(*pair) for pair in state]


class BestKeeper:
    """Keeps ``best/`` current: the feasible network of the highest reward so far, with its weights.

    Args:
        run: The run.
        problem: What evaluated it.
    """

    def __init__(self, run: RunDirectory, problem: NetworkProblem) -> None:
        self._run = run
        self._problem = problem
        self._metrics = run.best / "metrics.json"
        self._reward = _reward_of(self._metrics)

    def state(self) -> None:
        """What it knows is in the folder."""

    def restore(self, state: None) -> None:
        """What it knows is in the folder."""

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """Write an evaluated network if it is better than what is there."""
        if evaluation["status"] != "ok" or (self._reward is not None and evaluation["reward"] <= self._reward):
            return
        network, service = self._network(evaluation), self._problem.service
        service.protect(evaluation["cache_key"])
        task = service.task
        write_model(
            network,
            self._run.best,
            inputs=task.input_description,
            outputs=f"logits of {task.n_classes} classes, shape (N, {task.n_classes})",
        )
        record = {"stage": "search", "split": "validation", **evaluation, "input": task.input_description}
        write_text(self._metrics, json.dumps(record, indent=1) + "\n")
        self._reward = evaluation["reward"]

    def _network(self, evaluation: Mapping[str, Any]) -> Network:
        """The network as it was trained; as it was before, if its evaluator trains none."""
        service = self._problem.service
        if (known := service.trained(evaluation["cache_key"])) is not None:
            return known
        candidate = self._problem.candidate_of(evaluation)  # known from the store only: again, it gets the same weights
        again = service.retrain(candidate, seed=evaluation["seed"]).trained
        if again is not None:
            return again
        start = service.starts.get(candidate.start_id)
        return untrained(candidate, start, service.task, seed=training_seed(evaluation["cache_key"]))


def _reward_of(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text())["reward"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
