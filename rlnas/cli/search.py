"""A whole run: the search, random search beside it, the final comparison; begun or resumed, it goes the same way."""

from __future__ import annotations

import os
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console

from rlnas.cli.budget import within
from rlnas.cli.config import SearchSettings
from rlnas.cli.final import Finished, Winner, choose, judge, train_to_the_end, write_best
from rlnas.cli.measuring import SEARCH, meter_of
from rlnas.cli.own_code import code_folder, reach_own_code
from rlnas.cli.progress import SearchProgress
from rlnas.cli.report import write_report
from rlnas.cli.running import new_run, searches_of, tracked
from rlnas.cli.space_settings import space_arguments
from rlnas.cli.stages import controller_arguments, make_searcher, run_stage
from rlnas.cli.start import given_start, kept_start
from rlnas.envs import EpisodeVecEnv, NetworkProblem, make_problem
from rlnas.errors import LimitError
from rlnas.evaluation import Store
from rlnas.interchange import ONNX_FILE
from rlnas.network import Network
from rlnas.runs import RunDirectory, fingerprint, read_evaluations, store_path
from rlnas.tasks import Task, load_task
from rlnas.tracking import TeeTracker, resolve_mode


def begin(settings: SearchSettings, plain: dict[str, Any], *, stem: str) -> int:
    """Check the settings, then make the run directory and search.

    Returns:
        Exit status.
    """
    task, start = check(settings)
    if settings.run.store is not None:
        plain["run"]["store"] = str(Path(settings.run.store).absolute())  # a run may be resumed from another folder
    if (folder := code_folder(settings)) is not None:
        plain["run"]["code"] = str(folder)
    run = new_run(settings, plain, stem=stem)
    if start is not None:
        start.save(run.start)
    return _run(run, settings, plain, task, start)


def proceed(run: RunDirectory, settings: SearchSettings, plain: dict[str, Any]) -> int:
    """Go on with a run from its last checkpoints; returns the exit status."""
    return _run(run, settings, plain, load_the_task(settings), kept_start(run, settings))


def load_the_task(settings: SearchSettings) -> Task:
    """The task that the settings name."""
    options = dict(settings.task.options or {})
    if settings.task.path is not None:
        options["path"] = settings.task.path
    return load_task(settings.task.name, **options)


def check(settings: SearchSettings) -> tuple[Task, Network | None]:
    """Check everything that a person can have got wrong; gives the task and a start network of one's own."""
    task = load_the_task(settings)
    start = given_start(settings, task)
    resolve_mode(settings.tracking.mode, os.environ)
    if settings.run.store is not None and Path(settings.run.store).exists():
        with Store(settings.run.store) as store:
            store.count()
    problem, lag = problem_of(settings, task, start, None), settings.evaluation.lag
    if lag:
        problem.check_lag()
    env = EpisodeVecEnv(problem, n_envs=settings.controller.n_envs, seed=settings.seed, lag=lag)
    make_searcher(settings, env)
    return task, start


def _recipe(settings: SearchSettings) -> dict[str, Any]:
    chosen = settings.evaluation
    return {
        "batch_size": chosen.batch_size,
        "optimizer": chosen.optimizer,
        "learning_rate": chosen.learning_rate,
        "weight_decay": chosen.weight_decay,
    }


def problem_of(settings: SearchSettings, task: Task, start: Network | None, run: RunDirectory | None) -> NetworkProblem:
    """The problem that the settings describe; without a run its store and its start networks are in memory."""
    reach_own_code(settings)
    evaluation, reward = settings.evaluation, settings.reward
    return make_problem(
        task,
        start=start,
        epochs=evaluation.epochs,
        start_epochs=evaluation.start_epochs,
        start_evaluations=evaluation.start_evaluations,
        evaluator=evaluation.name,
        evaluator_options=evaluation.options,
        table=evaluation.table,
        distill=evaluation.distill,
        temperature=evaluation.temperature,
        halving=evaluation.halving,
        rounds=evaluation.rounds,
        screen=evaluation.screen,
        keep=evaluation.keep,
        control=evaluation.control,
        **_recipe(settings),
        reward=reward.name,
        cost=reward.cost,
        target=reward.target,
        target_ms=reward.target_ms,
        max_latency_ms=reward.max_latency_ms,
        reward_options=reward.options,
        step_reward=reward.step,
        discount=None if reward.step == "end" else controller_arguments(settings).get("gamma"),
        meter=meter_of(settings.latency.meter, vars(settings.latency), defaults=SEARCH),
        workers=evaluation.workers,
        backend=evaluation.backend,
        address=evaluation.address,
        time_limit_s=evaluation.time_limit_s if evaluation.workers else None,
        memory_limit_mb=evaluation.memory_limit_mb,
        retries=evaluation.retries,
        store=store_path(run, {"run": {"store": settings.run.store}}) if run else None,
        weights_mb=settings.run.weights_mb,
        run=run.path.name if run else None,
        starts=run.starts if run else None,
        seed=settings.seed,
        **space_arguments(settings),
    )


def _run(run: RunDirectory, settings: SearchSettings, plain: dict[str, Any], task: Task, start: Network | None) -> int:
    torch.set_num_threads(1)
    console = Console(highlight=False)
    console.print(f"run directory: {run.path}")
    begun = time.time()
    problem = problem_of(settings, task, start, run)
    try:
        with tracked(run, settings, plain, console) as tracker:
            problem.service.prepare()
            _search(run, settings, problem, tracker, console, begun=begun, owner=fingerprint(plain))
    finally:
        problem.close()
    return 0


def _search(
    run: RunDirectory,
    settings: SearchSettings,
    problem: NetworkProblem,
    tracker: TeeTracker,
    console: Console,
    *,
    begun: float,
    owner: str,
) -> None:
    searches = searches_of(settings)
    reference = problem.reference
    console.print(
        f"start network: {100 * fmean(reference.accuracies):.2f} % on validation "
        f"(mean of {len(reference.accuracies)} evaluations), "
        f"{problem.space.start.n_params:,} parameters, {problem.space.start.macs:,} MACs"
    )
    with SearchProgress(console, enabled=settings.progress) as progress:
        problem.on_result = progress.result
        for stage, name in searches.items():
            run_stage(
                stage,
                name,
                settings=settings,
                run=run,
                problem=problem,
                tracker=tracker,
                progress=progress,
                owner=owner,
            )
        again = settings.final.seeds * (1 + settings.final.candidates * len(searches))
        progress.stage("best again", again)
        winners = _winners(run, settings, problem, searches)
        progress.stage("final training", len(winners))
        finished = train_to_the_end(winners, problem=problem, settings=settings, recipe=_recipe(settings))
        progress.finish()
    found = {name: within(read_evaluations(run.events, stage), settings) for stage, name in searches.items()}
    excuse = _keep_best(finished, run=run, problem=problem, settings=settings)
    write_report(
        run,
        problem=problem,
        finished=finished,
        found=found,
        main=settings.controller.name,
        tracker=tracker,
        console=console,
        begun=begun,
    )
    if excuse is not None:
        console.print(f"no {run.best / ONNX_FILE}: {excuse}")


def _winners(
    run: RunDirectory, settings: SearchSettings, problem: NetworkProblem, searches: dict[str, str]
) -> list[Winner]:
    start = problem.start_candidate
    rows = [judge("start", start, (), problem=problem, settings=settings)] if _start_is_allowed(problem) else []
    for stage, name in reversed(searches.items()):
        found = within(read_evaluations(run.events, stage), settings)
        rows.append(choose(name, found, problem=problem, settings=settings))
    winners = [row for row in rows if row is not None]
    if not winners:
        raise LimitError(
            "no network that was evaluated meets the limit on measured latency; raise reward.max_latency_ms"
        )
    return winners


def _start_is_allowed(problem: NetworkProblem) -> bool:
    return problem.space.limits.met_by(problem.space.start)


def _keep_best(
    finished: list[Finished], *, run: RunDirectory, problem: NetworkProblem, settings: SearchSettings
) -> str | None:
    """Write the controller's network; returns why there is no ONNX file of it, if there is none."""
    own = [f for f in finished if f.winner.name == settings.controller.name]
    return write_best(own[0], run=run, problem=problem) if own else None
