"""Promotion: a trained network becomes the start of all further episodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlnas.cli.promotion import Promoter
from rlnas.controllers import (
    CONTROLLERS,
    EvaluationCallback,
    LocalSearch,
    PromoteCallback,
    make_controller,
    make_logger,
)
from rlnas.controllers.search import Played
from rlnas.envs import EpisodeVecEnv, MorphProblem, make_problem
from rlnas.errors import StoreError
from rlnas.operators import OPERATORS
from rlnas.tasks import load_task
from rlnas.tracking import NullTracker
from tests.evaluation.drilled import DrillEvaluator


class Listening(NullTracker):
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, data: Any) -> None:
        self.events.append((kind, dict(data)))


def problem(**rest: Any) -> MorphProblem:
    task = load_task("digits")
    quick = {"start_epochs": 0.1, "start_evaluations": 5, "max_steps": 2}
    return make_problem(task, evaluator=DrillEvaluator(task, kinds=("raise",)), **quick | rest)


def search(
    made: MorphProblem, name: str, *, every: int | None, evaluations: int = 32
) -> list[tuple[str, dict[str, Any]]]:
    """The events of a search."""
    tracker = Listening()
    env = EpisodeVecEnv(made, n_envs=8, seed=0)
    promoter = Promoter(made, tracker, every=every)
    counts = EvaluationCallback(tracker, on_evaluation=promoter.add)
    controller = make_controller(name, env, seed=0, arguments={})
    controller.set_logger(make_logger(NullTracker(), evaluations=lambda: counts.evaluations))
    controller.learn(evaluations * env.max_steps, callback=[counts, PromoteCallback(promoter.promote)])
    return tracker.events


@pytest.mark.parametrize("name", sorted({*CONTROLLERS} - {"uniform"}))  # which cannot draw edited networks
def test_the_best_trained_network_becomes_the_start(name: str) -> None:
    made = problem()
    first, layout, limits = made.first_start_id, made.space.layout, made.space.limits
    events = search(made, name, every=8)
    promotions = [data for kind, data in events if kind == "promote"]
    assert 1 <= len(promotions) <= 3
    current, best = first, made.start_reward
    for done, (kind, data) in enumerate(events):
        if kind == "promote":
            assert data["from"] == current and data["start_id"] != current and data["reward"] > best
            winner = max(
                (d for k, d in events[:done] if k == "evaluation" and d["start_id"] == current and d["edits"]),
                key=lambda d: d["reward"] if d["status"] == "ok" else -1.0,
            )
            assert data["cache_key"] == winner["cache_key"]
            network = made.service.trained(winner["cache_key"])
            assert network is not None and network.content_hash == data["start_id"]
            assert made.service.starts.get(data["start_id"]).graph.key == winner["graph_key"]
            current, best = data["start_id"], data["reward"]
        else:
            assert data["start_id"] == current  # nothing was played from a start that is no longer
            assert made.candidate_of(data).graph.key == data["graph_key"]
    assert made.start_id == current and (made.space.layout, made.space.limits) == (layout, limits)
    if name == "local_search":
        assert search(problem(), name, every=8) == events


def test_without_the_setting_the_start_stays() -> None:
    made = problem()
    assert {data["start_id"] for kind, data in search(made, "random", every=None)} == {made.first_start_id}


def test_local_search_begins_anew_at_the_new_start() -> None:
    made = problem()
    controller = LocalSearch(EpisodeVecEnv(made, n_envs=8), seed=0)
    controller.end_batch([Played((1, 2, 0), ((0, 1), (0, 2), (0,)), 0.9)])
    controller.start_changed()
    assert controller.incumbent is None and controller.best is None
    controller.begin_batch()
    assert controller._plans == [(), *[(None,)] * 7]


def test_a_network_with_too_many_nodes_is_refused_and_the_search_goes_on() -> None:
    made = problem(max_nodes=16)
    tracker = Listening()
    promoter = Promoter(made, tracker, every=1)
    network = made.service.starts.get(made.first_start_id)
    deepen = OPERATORS["deepen"]
    for _ in range(3):
        network = deepen.apply(network, deepen.sites(network.graph)[0], generator=torch.Generator())
    made.service._trained["key"] = network
    promoter.add(
        {"evaluation": 1, "cache_key": "key", "reward": 9.0, "status": "ok", "edits": [{}]}
        | dict.fromkeys(("accuracy", "n_params", "macs"), 0)
    )
    before = made.start_id
    assert not promoter.promote() and made.start_id == before
    ((kind, event),) = tracker.events
    assert kind == "promote" and "more than max_nodes=16 slots" in event["refused"]


def test_going_back_needs_the_network(tmp_path: Path) -> None:
    made = problem(starts=tmp_path)
    trained = made.service.starts.get(made.first_start_id)
    start_id = made.promote(trained.with_tensors({name: tensor * 0 for name, tensor in trained.tensors.items()}))
    again = problem(starts=tmp_path)
    again.start_from(start_id)
    assert again.start_id == start_id != again.first_start_id == made.first_start_id
    with pytest.raises(StoreError, match="no start network 'unknown'"):
        again.start_from("unknown")
