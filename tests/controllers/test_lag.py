"""A learner that goes on before the last evaluations of a batch are done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlnas.controllers import CONTROLLERS, EvaluationCallback, make_controller, make_logger
from rlnas.controllers.buffer import ChoiceBuffer
from rlnas.envs import EpisodeVecEnv, MorphProblem, make_problem
from rlnas.errors import ConfigError
from rlnas.tasks import load_task
from rlnas.tracking import NullTracker
from tests.evaluation.drilled import DrillEvaluator

N_ENVS, BATCHES, LAG = 6, 4, 2


def problem(**rest: Any) -> MorphProblem:
    task = load_task("digits")
    quick = {"start_epochs": 0.1, "start_evaluations": 5, "max_steps": 2, "variants": ["widen 1.5", "deepen 3"]}
    return make_problem(task, evaluator=DrillEvaluator(task, kinds=("raise",)), **quick | rest)


def search(name: str, *, lag: int) -> tuple[Any, list[dict[str, Any]], list[list[float]]]:
    """The controller, its evaluations, and the returns that each update saw."""
    made, found, seen = problem(), [], []
    env = EpisodeVecEnv(made, n_envs=N_ENVS, seed=0, lag=lag)
    callback = EvaluationCallback(NullTracker(), on_evaluation=found.append, finish=env.finish)
    controller = make_controller(name, env, seed=0, arguments={})
    controller.set_logger(make_logger(NullTracker(), evaluations=lambda: callback.evaluations))
    if hasattr(controller, "end_batch"):
        learn = controller.end_batch

        def end_batch(episodes: Any) -> None:
            assert all(len(played.actions) == len(played.legal) == env.max_steps for played in episodes)
            seen.append([played.value for played in episodes])
            learn(episodes)

        controller.end_batch = end_batch  # type: ignore[method-assign]
    else:
        update = controller.train

        def train() -> None:
            there, entering = controller.rollout_buffer.episode_rewards
            rewards = controller.rollout_buffer.rewards.sum(axis=0)
            seen.append([float(r) for r, ok in zip(rewards, there.all(axis=0), strict=True) if ok] + entering)
            update()

        controller.train = train  # type: ignore[method-assign]
    controller.learn(N_ENVS * BATCHES * env.max_steps, callback=callback)
    assert made.service.in_work == 0
    return controller, found, seen


@pytest.mark.parametrize("name", sorted({*CONTROLLERS} - {"uniform"}))  # which cannot draw edited networks
def test_each_evaluation_is_learnt_from_once_when_it_arrives(name: str) -> None:
    controller, found, seen = search(name, lag=LAG)
    assert [e["evaluation"] for e in found] == list(range(1, N_ENVS * BATCHES + 1))
    assert len(seen) == BATCHES and all(seen)
    n = sum(map(len, seen))
    assert len(seen[0]) == N_ENVS - LAG and N_ENVS * BATCHES - LAG <= n <= N_ENVS * BATCHES  # the last may be too late
    learnt = sorted(value for returns in seen for value in returns)
    np.testing.assert_allclose(learnt, sorted(e["reward"] for e in found[:n]), rtol=1e-6)
    again, repeated, _ = search(name, lag=LAG)  # inline nothing depends on time
    assert repeated == found
    if hasattr(controller, "policy") and controller.policy is not None:
        for mine, theirs in zip(controller.policy.parameters(), again.policy.parameters(), strict=True):
            assert torch.equal(mine, theirs) and torch.isfinite(mine).all()


def test_a_late_episode_has_the_returns_that_it_would_have_had_in_time() -> None:
    env = EpisodeVecEnv(problem(), n_envs=2)
    reward, steps = 0.7, 4

    def rollout(buffer: ChoiceBuffer, rewards: tuple[float, float], late: list[int | None], arrived: Any) -> None:
        buffer.reset()
        for step in range(steps):
            rng = np.random.default_rng(step)
            observation = {n: rng.random((2, *s.shape), dtype=np.float32) for n, s in env.observation_space.items()}
            mask = np.zeros_like(observation["action_mask"])
            mask[:, : 3 if step != 2 else 1] = 1  # the third step is forced
            observation["action_mask"] = mask
            values, log_probs = (torch.from_numpy(rng.random(2, dtype=np.float32)) for _ in range(2))
            last = step == steps - 1
            if last:
                buffer.note_late(late, arrived)
            buffer.add(
                observation,
                rng.integers(0, 3, (2, 1)),
                np.array(rewards if last else (0.0, 0.0)),
                np.full(2, step == 0),
                values,
                log_probs,
            )
        buffer.compute_returns_and_advantage(torch.zeros(2), np.ones(2, dtype=bool))

    def fresh() -> ChoiceBuffer:
        spaces = (env.observation_space, env.action_space)
        return ChoiceBuffer(steps, *spaces, device="cpu", gae_lambda=0.8, gamma=0.9, n_envs=2)

    def samples(buffer: ChoiceBuffer) -> list[tuple[float, ...]]:
        (batch,) = buffer.get()
        entries = (batch.actions, batch.old_values, batch.old_log_prob, batch.advantages, batch.returns)
        rows = np.stack([entry.numpy().reshape(-1) for entry in entries], axis=1)
        first = batch.observations["nodes"].numpy()[:, :1]
        return sorted(tuple(row) for row in np.concatenate([rows, first], axis=1).round(5).tolist())

    prompt, hasty = fresh(), fresh()
    rollout(prompt, (0.3, reward), [None, None], {})
    whole = samples(prompt)
    rollout(hasty, (0.3, 0.0), [None, 9], {})
    early = samples(hasty)
    assert len(early) == 3 and len(whole) == 6 and set(early) < set(whole)
    rollout(hasty, (0.3, reward), [None, None], {9: reward, 12: 0.5})  # nobody knows of 12
    assert samples(hasty) == sorted([*whole, *(set(whole) - set(early))])
    rollout(hasty, (0.3, reward), [None, None], {9: reward})  # it has entered already
    assert samples(hasty) == whole


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="lag=6 must be at least 0 and below"):
        EpisodeVecEnv(problem(), n_envs=6, lag=6)
    with pytest.raises(ConfigError, match=r"evaluation\.lag needs a reward without latency"):
        problem(cost="latency_ms", target_ms=1.0).check_lag()
