"""Callbacks that every controller takes: what the tracker learns of each evaluation, and checkpoints after updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers.base import Controller
from rlnas.tracking import Tracker

LOGGED = ("accuracy", "latency_ms", "n_params", "macs", "reward", "status")
BEST = ("reward", "accuracy", "latency_ms", "n_params")


class EvaluationCallback(BaseCallback):
    """Tells a tracker of every evaluation, in the order of the episodes; the step is the number of evaluations.

    It also passes on at once what Stable-Baselines3 recorded in an update, which else would wait for the next rollout.

    Args:
        tracker: Gets ``eval/*``, ``best/*`` and ``search/*``, and one event ``evaluation`` an episode.
        on_evaluation: Called with each event's data, after the tracker.
        finish: Called at the end of training: waits for evaluations that are late, and gives their episodes' infos.

    Attributes:
        evaluations: Episodes evaluated so far.
        best: The data of the evaluation of highest reward with status ``ok``; None before the first.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        on_evaluation: Callable[[dict[str, Any]], None] | None = None,
        finish: Callable[[], list[dict[str, Any]]] | None = None,
    ) -> None:
        super().__init__()
        self._tracker = tracker
        self._finish = finish
        self._on_evaluation = on_evaluation
        self.evaluations = 0
        self.best: dict[str, Any] | None = None
        self._infeasible = 0
        self._graphs: dict[str, None] = {}

    def state(self) -> dict[str, Any]:
        """Counts and the best so far, as JSON values."""
        return {
            "evaluations": self.evaluations,
            "infeasible": self._infeasible,
            "graphs": list(self._graphs),
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.evaluations = int(state["evaluations"])
        self._infeasible = int(state["infeasible"])
        self._graphs = dict.fromkeys(state["graphs"])
        self.best = state["best"]

    def _on_step(self) -> bool:
        for _, _, info in self.locals["infos"][0].get("arrived", ()):
            self._record(info)
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            if done and "late" not in info:
                self._record(info)
        return True

    def _on_rollout_start(self) -> None:
        self._flush()

    def _on_training_end(self) -> None:
        for info in self._finish() if self._finish is not None else ():
            self._record(info)
        self._flush()

    def _record(self, info: dict[str, Any]) -> None:
        self.evaluations += 1
        data = {"evaluation": self.evaluations, **info["evaluation"], "actions": [int(a) for a in info["actions"]]}
        self._graphs[data["graph_key"]] = None
        self._infeasible += data["status"] == "infeasible"
        if data["status"] == "ok" and (self.best is None or data["reward"] > self.best["reward"]):
            self.best = data
        values = {f"eval/{key}": data.get(key) for key in LOGGED}
        if self.best is not None:
            values |= {f"best/{key}": self.best.get(key) for key in BEST}
        values |= {
            "search/evaluations": self.evaluations,
            "search/distinct": len(self._graphs),
            "search/infeasible": self._infeasible,
        }
        self._tracker.log({key: value for key, value in values.items() if value is not None}, step=self.evaluations)
        self._tracker.event("evaluation", data)
        if self._on_evaluation is not None:
            self._on_evaluation(data)

    def _flush(self) -> None:
        if self.logger.name_to_value:
            self.logger.dump(step=self.model.num_timesteps)


class PromoteCallback(BaseCallback):
    """Lets a trained network become the start of all further episodes, between two rollouts.

    It goes before the `CheckpointCallback`, whose checkpoints then hold the new start.

    Args:
        promote: Called before each rollout but the first; promotes a network, or returns False.
    """

    def __init__(self, promote: Callable[[], bool]) -> None:
        super().__init__()
        self._promote = promote
        self._rollouts = 0

    def _on_training_start(self) -> None:
        self._rollouts = 0

    def _on_rollout_start(self) -> None:
        if self._rollouts and self._promote():
            assert isinstance(self.model, Controller)
            self.model.start_changed()
            self.model._last_obs = self.training_env.reset()  # type: ignore[assignment]
        self._rollouts += 1

    def _on_step(self) -> bool:
        return True


class CheckpointCallback(BaseCallback):
    """Saves after every update: before each rollout but the first, and at the end of training.

    A training that another callback stopped in the middle of a rollout is not saved again: its last checkpoint stands,
    from which that rollout is played anew.

    Args:
        save: Writes the checkpoint.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        super().__init__()
        self._save = save
        self._rollouts = 0
        self._playing = False

    def _on_training_start(self) -> None:
        self._rollouts = 0

    def _on_rollout_start(self) -> None:
        if self._rollouts:
            self._save()
        self._rollouts += 1
        self._playing = True

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._playing = False

    def _on_training_end(self) -> None:
        if self._rollouts and not self._playing:
            self._save()
