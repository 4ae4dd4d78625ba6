from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from rlnas.controllers import PPO, RecurrentPPO, Reinforce
from rlnas.controllers.memory import LOSSES, Drawn, Memory, MemorySettings, Remembered
from rlnas.controllers.remembering import rollout_episodes
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy, quiet

LEARNERS: list[type[PPO] | type[Reinforce]] = [PPO, Reinforce]


class Interrupt(BaseCallback):
    """Ends training half-way, between two updates."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= 60:
            raise KeyboardInterrupt


def episode(actions: list[int], reward: float) -> Remembered:
    n = len(actions)
    return Remembered({"nodes": np.full((n, 2), reward)}, np.array(actions), np.zeros(n, dtype=np.float32), reward)


def test_the_best_distinct_episodes_are_kept() -> None:
    memory = Memory(MemorySettings(size=2))
    memory.add([episode([1, 2], 0.5), episode([3], 0.9), episode([4], 0.1)])
    memory.add([episode([3], 0.8), episode([5], 0.6)])
    assert [(e.actions.tolist(), e.reward) for e in memory.episodes] == [([3], 0.8), ([5], 0.6)]


def test_replay_keeps_the_newest() -> None:
    memory = Memory(MemorySettings(kind="replay", size=2))
    memory.add([episode([1, 2], 0.5), episode([3], 0.9), episode([4], 0.1)])
    assert [e.actions.tolist() for e in memory.episodes] == [[3], [4]]


def test_tensors_hold_everything() -> None:
    memory, other = (Memory(MemorySettings(size=3)) for _ in range(2))
    memory.add([episode([1, 2], 0.25), episode([3], 0.9)])
    other.restore(memory.tensors())
    for mine, its in zip(memory.episodes, other.episodes, strict=True):
        assert mine.reward == its.reward and (mine.actions == its.actions).all()
        assert (mine.observations["nodes"] == its.observations["nodes"]).all()
    other.restore({})
    assert len(other) == 0


def test_losses_by_hand() -> None:
    """Two episodes of two steps and one; the second step has become 1.5 times as likely, the third half as likely."""
    old = torch.log(torch.tensor([0.5, 0.4, 0.6]))
    now = torch.log(torch.tensor([0.5, 0.6, 0.3]))
    drawn = Drawn(now, old, torch.zeros(3), torch.tensor([1.0, 2.0, -1.0]), 2)
    logs = np.log([0.5, 0.6, 0.3])
    assert LOSSES["queue"](drawn).item() == pytest.approx(-logs.sum() / 2)
    assert LOSSES["imitation"](drawn).item() == pytest.approx(-(logs[0] + 2 * logs[1]) / 2)
    clipped = 1.0 + min(1.5, 1.2) * 2 + min(-0.5, -0.8)
    assert LOSSES["replay"](drawn).item() == pytest.approx(-clipped / 2)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_memory_holds_the_choices_of_the_best_episodes(learner: type[PPO] | type[Reinforce]) -> None:
    env = Toy(noise=0.1)
    controller = quiet(learner(env, seed=0, memory={"size": 4}))
    controller.learn(120)
    best = {tuple(taken): reward for taken, reward in env.played}
    expected = sorted(best.values(), reverse=True)[:4]
    memory = controller.memory  # type: ignore[attr-defined]
    assert [e.reward for e in memory.episodes] == pytest.approx(expected)
    for found in memory.episodes:
        taken = found.actions.tolist()
        assert best[(*taken, *[STOP] * (3 - len(taken)))] == pytest.approx(found.reward)
        for step, mask in enumerate(found.observations["action_mask"]):
            assert (mask == env.legal(taken[:step])).all()


@pytest.mark.parametrize("kind", sorted(LOSSES))
@pytest.mark.parametrize("learner", LEARNERS)
def test_steps_on_the_memory_make_what_was_good_more_likely(learner: type[PPO] | type[Reinforce], kind: str) -> None:
    env = Toy()
    settings = {"kind": kind, "size": 10, "n_steps": 20, "coef": 1.0, "ent_coef": 0.0}
    controller = quiet(learner(env, seed=0, memory=settings))
    assert isinstance(controller, PPO | Reinforce)
    good = episode([1], 1.6)
    bad = episode([2], 0.8)
    observation = {k: v[None] for k, v in env.describe([]).items()}
    memory = controller.memory
    assert memory is not None
    log_probs = np.full(1, -np.log(13), dtype=np.float32)
    memory.add([Remembered(observation, e.actions, log_probs, e.reward) for e in (good, bad)])
    tensors = {k: torch.as_tensor(v) for k, v in observation.items()}

    def probability(action: int) -> float:
        with torch.no_grad():
            return float(controller.policy.evaluate_actions(tensors, torch.tensor([action]))[1].exp())

    before = probability(1), probability(2)
    controller.learn_from_memory()
    assert probability(1) > before[0] * (1.15 if kind == "replay" else 1.5)
    if kind == "replay" and learner is Reinforce:  # whose baseline is 1, while an untrained critic says 0
        assert probability(2) < before[1]


def test_without_memory_nothing_is_different_and_with_it_something_is() -> None:
    def weights(**arguments: Any) -> torch.Tensor:
        controller = quiet(PPO(Toy(), seed=0, **arguments))
        controller.learn(60)
        return torch.cat([p.detach().flatten() for p in controller.policy.parameters()])  # type: ignore[attr-defined]

    assert torch.equal(weights(), weights(memory=None))
    assert not torch.equal(weights(), weights(memory={"size": 3}))


@pytest.mark.parametrize("learner", LEARNERS)
def test_in_its_last_part_training_settles_on_the_best(learner: type[PPO] | type[Reinforce]) -> None:
    def last(**memory: Any) -> tuple[float, float]:
        """Mean of the last rewards, and the best."""
        env = Toy(n_envs=10)
        controller = quiet(learner(env, seed=0, ent_coef=1.0, memory={"ent_coef": 1.0, **memory}))
        controller.learn(1200)
        rewards = [reward for _, reward in env.played]
        assert controller.ent_coef == 1.0  # type: ignore[attr-defined]
        return float(np.mean(rewards[-40:])), max(rewards)

    settled, best = last(exploit_after=0.5, exploit_size=1)
    wandering, _ = last()
    assert settled > 0.99 * best and settled > wandering + 0.15  # one of several best, and always the same


@pytest.mark.parametrize("learner", LEARNERS)
def test_training_settles_after_the_given_share(learner: type[PPO] | type[Reinforce]) -> None:
    """From then on nothing is learned from what is played."""
    controller = quiet(learner(Toy(), seed=0, memory={"exploit_after": 0.5}))
    assert isinstance(controller, PPO | Reinforce)
    seen = []
    learned = controller.learn_from_memory

    def noted() -> None:
        seen.append((controller.exploiting, controller._n_updates))
        learned()

    controller.learn_from_memory = noted  # type: ignore[method-assign]
    controller.learn(240)
    before = [n_updates for exploiting, n_updates in seen if not exploiting]
    after = [n_updates for exploiting, n_updates in seen if exploiting]
    assert [exploiting for exploiting, _ in seen] == [False] * len(before) + [True] * len(after)
    assert 2 <= len(before) < len(after) <= len(before) + 2
    assert len(set(before)) == len(before) and set(after) == {before[-1]}


@pytest.mark.parametrize("further", [{}, {"exploit_after": 0.4, "exploit_size": 2, "exploit_n_steps": 3}])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_checkpoint_holds_the_memory(
    learner: type[PPO] | type[Reinforce], further: dict[str, Any], tmp_path: Path
) -> None:
    def settings() -> dict[str, Any]:
        return {"kind": "imitation", "size": 5, "batch_size": 3, **further}

    whole = Toy(noise=0.1)
    quiet(learner(whole, seed=3, memory=settings())).learn(120)
    first, second = Toy(noise=0.1), Toy(noise=0.1)
    controller = quiet(learner(first, seed=3, memory=settings()))
    with pytest.raises(KeyboardInterrupt):
        controller.learn(120, callback=Interrupt())
    controller.save(tmp_path)
    again = quiet(learner.load(tmp_path, second))
    again.learn(60, reset_num_timesteps=False)
    assert first.played + second.played == whole.played


def test_a_new_start_network_empties_the_memory() -> None:
    controller = quiet(PPO(Toy(), seed=0, memory={}))
    assert isinstance(controller, PPO) and controller.memory is not None
    controller.learn(30)
    assert len(controller.memory)
    controller.start_changed()
    assert not len(controller.memory)
    controller.learn_from_memory()


def test_forced_steps_are_not_remembered() -> None:
    env = Toy(n_envs=2, max_steps=2)
    controller = quiet(Reinforce(env, seed=0))
    assert isinstance(controller, Reinforce)
    controller.learn(4)
    buffer = controller.rollout_buffer
    buffer.reset()
    for step in range(2):
        masks = np.stack([env.legal([STOP][:step]), env.legal([1][:step])])
        observation = env.observe() | {"action_mask": masks}
        buffer.add(
            observation,
            np.array([STOP, 1 + step]),
            np.array([0.5, 1.5]) * step,
            np.full(2, step == 0),
            torch.zeros(2),
            torch.full((2,), -0.7),
        )
    found = rollout_episodes(buffer)  # type: ignore[arg-type]
    assert [(e.actions.tolist(), e.reward) for e in found] == [([STOP], 0.5), ([1, 2], 1.5)]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "que"}, r"unknown kind of memory 'que'\. Did you mean 'queue'"),
        ({"size": 0}, "size=0 must be greater than 0"),
        ({"sise": 3}, "unknown argument of memory: 'sise'. Did you mean 'size'"),
        ({"coef": "much"}, "coef='much' of memory has the wrong type"),
        ({"exploit_after": 1.0}, "exploit_after=1.0 of memory must be at least 0 and less than 1"),
        ({"exploit_size": 0}, "exploit_size=0 must be greater than 0"),
    ],
)
def test_bad_settings_get_one_clear_line(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        PPO(Toy(), seed=0, memory=settings)
    assert "\n" not in str(caught.value)


def test_a_policy_that_remembers_steps_takes_no_memory_of_episodes() -> None:
    with pytest.raises(ConfigError, match="recurrent_ppo takes no memory of earlier episodes"):
        RecurrentPPO(Toy(), seed=0, memory={})
