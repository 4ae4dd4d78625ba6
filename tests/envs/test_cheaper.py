"""Searches that judge cheaply: which candidates are trained, for how long, and what they are paid."""

from __future__ import annotations

from typing import Any

import pytest

from rlnas.envs import MorphProblem, make_problem
from rlnas.envs.morph_episode import MorphEpisode
from rlnas.errors import ConfigError
from rlnas.evaluation import Entry, Halving, Screen, Table
from rlnas.layout import STOP
from tests.envs.fakes import GraphEvaluator
from tests.evaluation.faults import tiny_task


def problem(**settings: Any) -> MorphProblem:
    chosen: dict[str, Any] = {"epochs": 1, "start_epochs": 0.5, "start_evaluations": 2, "stages": 2, "width": 4}
    return make_problem(tiny_task(), **chosen | settings)


def episodes(problem: MorphProblem, n: int) -> list[MorphEpisode]:
    """Episodes of one edit each, all different, then STOP."""
    made, seen = [], set()
    for action in MorphEpisode(problem.space).legal().actions:
        episode = MorphEpisode(problem.space)
        if action == STOP:
            continue
        episode.step(int(action))
        if episode.graph.key not in seen:
            seen.add(episode.graph.key)
            episode.step(STOP)
            made.append(episode)
    assert len(made) >= n
    return made[:n]


def test_a_halved_batch_is_paid_by_what_each_round_measured() -> None:
    asked = problem(halving=2.0, rounds=2)
    assert isinstance(asked.service, Halving)
    found = [o.info["evaluation"] for o in asked.score(episodes(asked, 4), seed=0)]
    assert sorted(e["epochs"] for e in found) == [0.5, 0.5, 1.0, 1.0]
    assert all(e["inherited_epochs"] == 0.5 and e["status"] == "ok" for e in found)
    assert asked.reference.epochs == 1.0 and len(asked.reference.accuracies) == 2
    # Those that went on were worth most after the first round.
    stopped = [e["reward"] for e in found if e["epochs"] == 0.5]
    on = [e for e in found if e["epochs"] == 1.0]
    first = asked.service.rungs[0]
    for one in on:
        key = next(
            r.cache_key for r in asked.service.store.rows() if r.graph_key == one["graph_key"] and r.epochs == 0.5
        )
        record = asked.service.store.get(key)
        assert record is not None and record.recipe == first.evaluator.recipe
        assert asked.worth(record.metrics) >= max(stopped)


def test_a_control_makes_lengths_comparable() -> None:
    halved: dict[str, Any] = {"halving": 2.0, "rounds": 2, "epochs": 4}
    plain, controlled = problem(**halved), problem(**halved, control=True)
    assert plain.controls == []
    batch = episodes(controlled, 4)
    found = controlled.score(batch, seed=0)
    short, whole = controlled.controls
    assert (short.epochs, whole.epochs) == (2.0, 4.0) and short.accuracies != whole.accuracies
    for outcome in found:
        evaluation = outcome.info["evaluation"]
        control = short if evaluation["epochs"] == 2.0 else whole
        reward = controlled._make_reward(reference=control)
        metrics = next(
            r.metrics
            for r in controlled.service.store.rows()
            if (r.graph_key, r.epochs) == (evaluation["graph_key"], evaluation["epochs"])
        )
        assert outcome.reward == pytest.approx(reward(metrics))


def test_screened_candidates_are_paid_the_least_and_not_trained() -> None:
    asked = problem(screen="synflow", keep=0.5)
    assert isinstance(asked.service, Screen)
    found = asked.score(episodes(asked, 6), seed=0)
    statuses = [o.info["evaluation"]["status"] for o in found]
    assert statuses.count("screened") == 3 and statuses.count("ok") == 3
    for outcome, status in zip(found, statuses, strict=True):
        assert (outcome.reward == asked.reward.failure_reward) == (status == "screened")
        assert status == "ok" or "screened out: synflow" in outcome.info["evaluation"]["reason"]
    trained = [r for r in asked.service.store.rows() if '"training"' in r.recipe]
    assert len(trained) == 3 + 2  # and the start network
    # The final judgement trains whoever it is asked about.
    left = next(e for e, s in zip(episodes(asked, 6), statuses, strict=True) if s == "screened")
    ((evaluation, reward),) = asked.judge([asked.candidate(left)], seed=5)
    assert evaluation.status == "ok" and reward > 0


def test_batches_come_out_the_same_from_another_process_with_the_same_store(tmp_path: Any) -> None:
    settings = {"screen": "az_nas", "keep": 0.5, "halving": 2.0, "rounds": 2, "store": tmp_path / "s.sqlite"}
    rewards = []
    for _ in range(2):
        asked = problem(**settings)
        rewards.append([o.reward for o in asked.score(episodes(asked, 8), seed=0)])
        asked.close()
    fresh = problem(**settings | {"store": None})
    assert rewards[0] == rewards[1] == [o.reward for o in fresh.score(episodes(fresh, 8), seed=0)]


def test_a_table_pays_without_training(tmp_path: Any) -> None:
    plan = problem()
    batch = episodes(plan, 3)
    known = {e.graph.key: Entry((0.5 + i / 10,)) for i, e in enumerate(batch[:2])}
    Table(known | {plan.space.start.key: Entry((0.5,))}).save(tmp_path / "table.json")
    asked = problem(evaluator="tabular", table=tmp_path / "table.json")
    found = [o.info["evaluation"] for o in asked.score(batch, seed=0)]
    assert [e["accuracy"] for e in found] == [0.5, 0.6, None] and found[2]["status"] == "failed"
    assert asked.reference.accuracies == (0.5, 0.5)


def test_distillation_is_another_recipe() -> None:
    plain, distilled = problem(), problem(distill=0.5)
    assert plain.evaluator.recipe != distilled.evaluator.recipe
    (found,) = distilled.score(episodes(distilled, 1), seed=0)
    assert found.info["evaluation"]["status"] == "ok"


@pytest.mark.parametrize(
    "settings",
    [
        {"evaluator": GraphEvaluator(), "distill": 0.5},
        {"evaluator": GraphEvaluator(), "control": True},
        {"evaluator": GraphEvaluator(), "halving": 2.0},
        {"evaluator": "zero_cost"},
        {"screen": "no such score"},
        {"keep": 0.5},
        {"rounds": 2},
        {"temperature": 2.0},
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        problem(**settings)
