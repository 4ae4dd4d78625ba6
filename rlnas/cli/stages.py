"""One search by one controller: learn, checkpoint, keep the best network current."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from rlnas.cli.candidates import candidate_of
from rlnas.cli.checkpoints import last_extra, load_checkpoint, save_checkpoint
from rlnas.cli.config import SearchSettings
from rlnas.cli.progress import SearchProgress
from rlnas.cli.promotion import Promoter
from rlnas.controllers import Controller, arguments_of, make_controller
from rlnas.controllers.callbacks import CheckpointCallback, EvaluationCallback, PromoteCallback
from rlnas.controllers.logging import make_logger
from rlnas.envs import EpisodeVecEnv, MorphProblem
from rlnas.interchange import write_model
from rlnas.report.pareto import Point, Ranges, front, relative_hypervolume
from rlnas.rewards import History
from rlnas.runs import RunDirectory, write_text
from rlnas.tracking import TeeTracker, Tracker, Value

STAGES = ("controller", "random")
"""The searches of a run: the controller's own, and random search beside it."""


class StageTracker:
    """Marks each evaluation with the search it belongs to; only the main search's numbers go on to W&B's history.

    Args:
        tracker: Where reports go.
        stage: Name of the search.
        main: False for a baseline.
    """

    def __init__(self, tracker: Tracker, stage: str, *, main: bool) -> None:
        self._tracker = tracker
        self._stage = stage
        self._main = main

    def log(self, values: Mapping[str, Value], *, step: int) -> None:
        """Report numbers of the main search."""
        if self._main:
            self._tracker.log(values, step=step)

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report an event with the search's name."""
        self._tracker.event(kind, {"search": self._stage, **data})

    def close(self) -> None:
        """The tracker under it is closed by its owner."""


def controller_arguments(settings: SearchSettings) -> dict[str, Any]:
    """Arguments that the settings give the controller; what is null is left to its defaults."""
    chosen = settings.controller
    named = {"learning_rate": chosen.learning_rate, "ent_coef": chosen.ent_coef, "n_epochs": chosen.n_epochs}
    given = {name: value for name, value in named.items() if value is not None} | (chosen.arguments or {})
    if chosen.preset is None:
        return given
    preset = arguments_of(chosen.preset, controller=chosen.name)
    if given.get("policy_kwargs") is not None:
        given["policy_kwargs"] = preset.get("policy_kwargs", {}) | given["policy_kwargs"]
    return preset | given


def make_searcher(settings: SearchSettings, env: VecEnv) -> Controller:
    """The controller that the settings describe."""
    chosen = settings.controller
    return make_controller(
        chosen.name,
        env,
        seed=settings.seed,
        arguments=controller_arguments(settings),
        init_from=chosen.init_from,
        init_part=chosen.init_part,
    )


def batches(settings: SearchSettings) -> int:
    """Batches of episodes that give at least the evaluations asked for."""
    return -(-settings.evaluations // settings.controller.n_envs)


def run_stage(
    stage: str,
    controller_name: str,
    *,
    settings: SearchSettings,
    run: RunDirectory,
    problem: MorphProblem,
    tracker: TeeTracker,
    progress: SearchProgress,
    owner: str,
) -> None:
    """Search with one controller, from its last checkpoint if there is one.

    Args:
        stage: Name of the search: ``controller`` or ``random``.
        owner: Fingerprint of the run.
    """
    main = stage == "controller"
    problem.start_from(problem.first_start_id)
    problem.history = History()
    promoter = Promoter(problem, StageTracker(tracker, stage, main=main), every=settings.space.promote_every)
    env = EpisodeVecEnv(problem, n_envs=settings.controller.n_envs, seed=settings.seed, lag=settings.evaluation.lag)
    total = batches(settings) * settings.controller.n_envs
    keeper = BestKeeper(run, problem) if main else None
    covered = Hypervolume(problem)

    def on_evaluation(evaluation: dict[str, Any]) -> None:
        progress.evaluation(evaluation)
        if keeper is not None:
            keeper.consider(evaluation)
            covered.add(evaluation, tracker, step=counts.evaluations)
        promoter.add(evaluation)

    counts = EvaluationCallback(StageTracker(tracker, stage, main=main), on_evaluation=on_evaluation, finish=env.finish)
    folder = run.checkpoints / stage
    if (found := load_checkpoint(folder, env, owner=owner)) is not None:
        controller, extra, problems = found
        counts.restore(extra["counts"])
        covered.restore(extra["front"])
        problem.history = History.restored(extra.get("history", ()))
        if "promotion" in extra:
            promoter.restore(extra["promotion"])
        for problem_text in problems:
            progress.console.print(f"passed over a checkpoint: {problem_text}")
    else:
        controller = (
            make_searcher(settings, env)
            if main
            else make_controller(controller_name, env, seed=settings.seed, arguments={})
        )
    controller.set_logger(make_logger(StageTracker(tracker, stage, main=main), evaluations=lambda: counts.evaluations))
    progress.stage(controller_name, total, done=counts.evaluations, best=counts.best)

    def checkpoint() -> None:
        extra = {
            "counts": counts.state(),
            "front": covered.state(),
            "history": problem.history.state(),
            "promotion": promoter.state(),
            "offset": tracker.offset(),
        }
        save_checkpoint(folder, controller, extra, owner=owner)

    left = total * env.max_steps - controller.num_timesteps
    if left > 0:
        callbacks = [counts, PromoteCallback(promoter.promote), CheckpointCallback(checkpoint)]
        controller.learn(left, callback=callbacks, reset_num_timesteps=False)
    problem.start_from(problem.first_start_id)


class Hypervolume:
    """Logs ``search/hypervolume``: the share of the ranges around the start network that the evaluations dominate.

    Args:
        problem: Its reward says what the cost is.
    """

    def __init__(self, problem: MorphProblem) -> None:
        reference = problem.reward.reference
        self._cost = problem.reward.cost
        value = reference.cost(self._cost)
        assert value is not None
        self._ranges = Ranges.around(Point(fmean(reference.accuracies), value))
        self._points: list[Point] = []

    def add(self, evaluation: Mapping[str, Any], tracker: Tracker, *, step: int) -> None:
        """Count one more evaluation."""
        if evaluation["status"] == "ok":
            points = [*self._points, Point(evaluation["accuracy"], evaluation[self._cost])]
            self._points = [points[i] for i in front(points)]
        tracker.log({"search/hypervolume": relative_hypervolume(self._points, ranges=self._ranges)}, step=step)

    def state(self) -> list[list[float]]:
        """The front so far, as JSON values."""
        return [[point.accuracy, point.cost] for point in self._points]

    def restore(self, state: list[list[float]]) -> None:
        """Take up what `state` gave."""
        self._points = [Point(*pair) for pair in state]


def last_offset(run: RunDirectory, *, owner: str) -> int | None:
    """Length that ``events.jsonl`` had at the run's last checkpoint: what is behind it will be played again."""
    offsets = [
        extra["offset"] for stage in STAGES if (extra := last_extra(run.checkpoints / stage, owner=owner)) is not None
    ]
    return max(offsets) if offsets else 0 if run.events.exists() else None


class BestKeeper:
    """Keeps ``best/`` current: the feasible network of the highest reward so far, with its weights.

    Args:
        run: The run.
        problem: What evaluated it.
    """

    def __init__(self, run: RunDirectory, problem: MorphProblem) -> None:
        self._run = run
        self._problem = problem
        self._metrics = run.best / "metrics.json"
        self._reward = _reward_of(self._metrics)

    def consider(self, evaluation: Mapping[str, Any]) -> None:
        """Write an evaluated network if it is better than what is there."""
        if evaluation["status"] != "ok" or (self._reward is not None and evaluation["reward"] <= self._reward):
            return
        service = self._problem.service
        network = service.trained(evaluation["cache_key"])
        if network is None:  # known from the store only: train it again, which gives the same weights
            network = service.retrain(candidate_of(evaluation, self._problem), seed=evaluation["seed"]).trained
            assert network is not None
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


def _reward_of(path: Path) -> float | None:
    try:
        return float(json.loads(path.read_text())["reward"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
