"""One search by one controller: learn, checkpoint, keep the best network current."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from rlnas.cli.budget import Budget, BudgetCallback
from rlnas.cli.checkpoints import last_extra, load_checkpoint, save_checkpoint
from rlnas.cli.clock import SearchClock
from rlnas.cli.config import SearchSettings
from rlnas.cli.followers import BestKeeper, Follower, Hypervolume, Payments
from rlnas.cli.progress import SearchProgress
from rlnas.cli.promotion import Promoter
from rlnas.controllers import Controller, arguments_of, make_controller
from rlnas.controllers.callbacks import CheckpointCallback, EvaluationCallback, PromoteCallback
from rlnas.controllers.logging import make_logger
from rlnas.envs import EpisodeVecEnv, MorphProblem, NetworkProblem, Problem
from rlnas.rewards import History
from rlnas.runs import RunDirectory
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


def run_stage(
    stage: str,
    controller_name: str,
    *,
    settings: SearchSettings,
    run: RunDirectory,
    problem: NetworkProblem,
    tracker: TeeTracker,
    progress: SearchProgress,
    owner: str,
) -> None:
    """Search networks with one controller, from its last checkpoint if there is one.

    Args:
        stage: Name of the search: ``controller`` or ``random``.
        owner: Fingerprint of the run.
    """
    main = stage == "controller"
    problem.start_from(problem.first_start_id)
    problem.history = History()
    followers: dict[str, Follower] = {"history": Payments(problem)}
    callbacks: list[BaseCallback] = []
    if isinstance(problem, MorphProblem):
        promoter = Promoter(problem, StageTracker(tracker, stage, main=main), every=settings.space.promote_every)
        followers = {"promotion": promoter, **followers}
        callbacks.append(PromoteCallback(promoter.promote))
    if main:
        followers = {"best": BestKeeper(run, problem), "front": Hypervolume(problem, tracker), **followers}
    play_stage(
        stage,
        controller_name,
        settings=settings,
        run=run,
        problem=problem,
        tracker=tracker,
        progress=progress,
        owner=owner,
        followers=followers,
        callbacks=callbacks,
    )
    problem.start_from(problem.first_start_id)


def play_stage(
    stage: str,
    controller_name: str,
    *,
    settings: SearchSettings,
    run: RunDirectory,
    problem: Problem,
    tracker: TeeTracker,
    progress: SearchProgress,
    owner: str,
    followers: Mapping[str, Follower],
    callbacks: Sequence[BaseCallback] = (),
) -> None:
    """Search with one controller, whatever the problem, from its last checkpoint if there is one.

    Args:
        stage: Name of the search: ``controller`` or ``random``.
        owner: Fingerprint of the run.
        followers: By the name that their state has in checkpoints.
        callbacks: What else the controller calls.
    """
    main = stage == "controller"
    env = EpisodeVecEnv(problem, n_envs=settings.controller.n_envs, seed=settings.seed, lag=settings.evaluation.lag)
    budget = Budget(settings)
    clock = SearchClock(problem.service if isinstance(problem, NetworkProblem) else None)

    def on_evaluation(evaluation: dict[str, Any]) -> None:
        if budget.spend(evaluation):
            progress.evaluation(evaluation | {"evaluation": budget.spent})
            for follower in followers.values():
                follower.add(evaluation)

    counts = EvaluationCallback(StageTracker(tracker, stage, main=main), on_evaluation=on_evaluation, finish=env.finish)
    folder = run.checkpoints / stage
    if (found := load_checkpoint(folder, env, owner=owner)) is not None:
        controller, extra, problems = found
        counts.restore(extra["counts"])
        budget.restore(extra.get("budget", counts.evaluations))
        for name, follower in followers.items():
            if name in extra:
                follower.restore(extra[name])
        clock.restore(extra.get("clock", clock.state()))  # those of the first version had none
        for problem_text in problems:
            progress.console.print(f"passed over a checkpoint: {problem_text}")
    else:
        controller = (
            make_searcher(settings, env)
            if main
            else make_controller(controller_name, env, seed=settings.seed, arguments={})
        )
    controller.set_logger(make_logger(StageTracker(tracker, stage, main=main), evaluations=lambda: counts.evaluations))
    progress.stage(controller_name, budget.shown, done=budget.spent, best=counts.best)

    def checkpoint() -> None:
        StageTracker(tracker, stage, main=main).log(clock.tick(), step=counts.evaluations)
        known = {name: follower.state() for name, follower in followers.items()}
        own = {"counts": counts.state(), "budget": budget.state(), "clock": clock.state(), "offset": tracker.offset()}
        extra = {**own, **known}
        save_checkpoint(folder, controller, extra, owner=owner)

    left = budget.episodes * env.max_steps - controller.num_timesteps
    if left > 0:
        every = [counts, *callbacks, BudgetCallback(budget), CheckpointCallback(checkpoint)]
        controller.learn(left, callback=every, reset_num_timesteps=False)


def last_offset(run: RunDirectory, *, owner: str) -> int | None:
    """Length that ``events.jsonl`` had at the run's last checkpoint: what is behind it will be played again."""
    offsets = [
        extra["offset"] for stage in STAGES if (extra := last_extra(run.checkpoints / stage, owner=owner)) is not None
    ]
    return max(offsets) if offsets else 0 if run.events.exists() else None
