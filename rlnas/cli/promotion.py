"""A search that moves on: now and then the best network so far, as trained, becomes the start of what follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlnas.envs import MorphProblem
from rlnas.errors import SpaceError
from rlnas.tracking import Tracker


class Promoter:
    """Promotes the best evaluation since the last promotion, if it is better than the one promoted then.

    Args:
        problem: Whose start changes.
        tracker: Gets an event ``promote`` each time.
        every: Evaluations from one promotion to the next; None for never.
    """

    def __init__(self, problem: MorphProblem, tracker: Tracker, *, every: int | None) -> None:
        self._problem = problem
        self._tracker = tracker
        self._every = every
        self._evaluations = 0
        self._best: dict[str, Any] | None = None
        self._level: float | None = None

    def add(self, evaluation: Mapping[str, Any]) -> None:
        """Count one more evaluation."""
        self._evaluations += 1
        if evaluation["status"] != "ok" or not evaluation["edits"]:
            return
        if self._best is None or evaluation["reward"] > self._best["reward"]:
            self._best = dict(evaluation)

    def promote(self) -> bool:
        """Promote if it is time and there is a better network; False if the start stays."""
        if self._every is None or self._evaluations < self._every:
            return False
        best, level = self._best, self._problem.start_reward if self._level is None else self._level
        self._evaluations, self._best = 0, None
        if best is None or best["reward"] <= level:
            return False
        service, before = self._problem.service, self._problem.start_id
        network = service.trained(best["cache_key"])
        if network is None:
            network = service.retrain(self._problem.candidate_of(best), seed=best["seed"]).trained
            assert network is not None
        event = {name: best[name] for name in ("evaluation", "cache_key", "reward", "accuracy", "n_params", "macs")}
        try:
            start_id = self._problem.promote(network)
        except SpaceError as error:
            self._tracker.event("promote", event | {"start_id": before, "from": before, "refused": str(error)})
            return False
        self._level = best["reward"]
        self._tracker.event("promote", event | {"start_id": start_id, "from": before})
        return True

    def state(self) -> dict[str, Any]:
        """What it knows, as JSON values."""
        known = {"evaluations": self._evaluations, "best": self._best, "level": self._level}
        return known | {"start_id": self._problem.start_id}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave; the problem starts from the same network again."""
        self._evaluations, self._best, self._level = state["evaluations"], state["best"], state["level"]
        self._problem.start_from(state["start_id"])
