from __future__ import annotations

from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers import CONTROLLERS, CheckpointCallback, EvaluationCallback, make_controller, make_logger
from tests.controllers.toy import Toy, quiet


class MemoryTracker:
    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, Any]]] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def log(self, values: dict[str, Any], *, step: int) -> None:
        self.logs.append((step, dict(values)))

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self.events.append((kind, dict(data)))

    def close(self) -> None: ...


def run(name: str, callback: EvaluationCallback, tracker: MemoryTracker, *, batches: int, env: Toy) -> None:
    controller = make_controller(name, env, seed=0, arguments={})
    controller.set_logger(make_logger(tracker, evaluations=lambda: callback.evaluations))
    controller.learn(30 * batches, callback=callback)


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_every_evaluation_is_told_in_order(name: str) -> None:
    tracker, env = MemoryTracker(), Toy()
    told: list[dict[str, Any]] = []
    callback = EvaluationCallback(tracker, on_evaluation=told.append)
    run(name, callback, tracker, batches=3, env=env)
    assert callback.evaluations == len(env.played) == len(tracker.events) == len(told) == 30
    for i, ((taken, reward), (kind, data)) in enumerate(zip(env.played, tracker.events, strict=True)):
        assert kind == "evaluation"
        assert data["evaluation"] == i + 1
        assert data["actions"] == taken
        assert data["reward"] == pytest.approx(reward)
        assert told[i] == data
    evals = [(step, values) for step, values in tracker.logs if "eval/reward" in values]
    assert [step for step, _ in evals] == list(range(1, 31))
    best = None
    distinct, infeasible = set(), 0
    for (taken, reward), (step, values) in zip(env.played, evals, strict=True):
        feasible = env.evaluation(taken, reward)["status"] == "ok"
        infeasible += not feasible
        distinct.add(env.evaluation(taken, reward)["graph_key"])
        if feasible and (best is None or reward > best):
            best = reward
        assert values["eval/reward"] == reward
        assert values["eval/status"] == ("ok" if feasible else "infeasible")
        assert values.get("best/reward") == best
        assert values["search/evaluations"] == step
        assert values["search/distinct"] == len(distinct)
        assert values["search/infeasible"] == infeasible
        assert "eval/latency_ms" not in values  # there is none, rather than a made-up number
        assert {"eval/accuracy", "eval/n_params", "eval/macs"} <= values.keys()


@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_own_keys_of_stable_baselines_come_with_evaluations_as_step(name: str) -> None:
    tracker = MemoryTracker()
    run(name, EvaluationCallback(tracker), tracker, batches=3, env=Toy())
    rollouts = [step for step, values in tracker.logs if "rollout/ep_rew_mean" in values]
    updates = [step for step, values in tracker.logs if "train/loss" in values]
    assert rollouts == updates == [10, 20, 30]  # the last update too
    assert any("time/total_timesteps" in values for _, values in tracker.logs)
    steps = [step for step, _ in tracker.logs]
    assert steps == sorted(steps)
    assert all(type(v) in (int, float, str) for _, values in tracker.logs for v in values.values())


def test_state_continues_the_counts() -> None:
    whole, tracker = EvaluationCallback(MemoryTracker()), MemoryTracker()
    run("random", whole, tracker, batches=4, env=Toy())
    env = Toy()
    first = EvaluationCallback(MemoryTracker())
    controller = quiet(make_controller("random", env, seed=0, arguments={}))
    controller.learn(60, callback=first)
    second = EvaluationCallback(MemoryTracker())
    second.restore(first.state())
    controller.learn(60, callback=second, reset_num_timesteps=False)
    assert second.state() == whole.state()
    assert second.state()["evaluations"] == 40


class Stop(BaseCallback):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def _on_step(self) -> bool:
        return self.n_calls < self.after


@pytest.mark.parametrize("name", ["ppo", "random"])
def test_checkpoints_lie_after_updates(name: str) -> None:
    controller = quiet(make_controller(name, Toy(), seed=0, arguments={}))
    saved: list[int] = []
    callback = CheckpointCallback(lambda: saved.append(controller._n_updates))
    controller.learn(90, callback=callback)
    each = controller._n_updates // 3
    assert saved == [each, 2 * each, 3 * each]
    saved.clear()
    controller.learn(60, callback=callback, reset_num_timesteps=False)
    assert saved == [4 * each, 5 * each]
    saved.clear()
    controller.learn(90, callback=[callback, Stop(after=4)])  # in the second rollout
    assert saved == [6 * each]
    saved.clear()
    controller.learn(0, callback=callback)
    assert saved == []
