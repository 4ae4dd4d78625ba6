"""Episodes without replacement: none twice, and each new one as likely as the policy says, given that it is new."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from rlnas.controllers import PPO, Reinforce, make_controller
from rlnas.controllers.policies import SlotPolicy
from rlnas.controllers.without_replacement import EpisodeTree
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy, quiet

LEARNERS: list[type[PPO] | type[Reinforce]] = [PPO, Reinforce]
ACTIONS, LENGTH = 4, 2
CHANCES = {
    (): [0.1, 0.2, 0.0, 0.7],  # action 2 is illegal at first
    (1,): [0.25, 0.25, 0.25, 0.25],
    (3,): [0.0, 0.05, 0.9, 0.05],
}
"""Probabilities by the actions taken before."""


class Table(SlotPolicy):
    """Has the probabilities that a table says."""

    def __init__(self, chances: dict[tuple[int, ...], list[float]] = CHANCES) -> None:
        torch.nn.Module.__init__(self)
        self.chances = chances

    def probabilities(self, obs: Any) -> Tensor:
        return torch.tensor([self.chances[tuple(row[row >= 0].tolist())] for row in obs["nodes"].long()])


def observe(taken: list[list[int]], start: float = 0.0) -> dict[str, Tensor]:
    rows = [actions + [-1] * (LENGTH - len(actions)) for actions in taken]
    masks = [[chance > 0 for chance in CHANCES.get(tuple(actions), [1.0, 0, 0, 0])] for actions in taken]
    return {
        "nodes": torch.tensor(rows, dtype=torch.float32),
        "context": torch.full((len(taken), 1), start),
        "action_mask": torch.tensor(masks, dtype=torch.int8),
    }


def play(tree: EpisodeTree, policy: Table, n: int = 1, start: float = 0.0) -> list[tuple[int, ...]]:
    """A batch of episodes; those that stopped wait with STOP."""
    taken: list[list[int]] = [[] for _ in range(n)]
    for _ in range(LENGTH):
        given = observe(taken, start)
        stopped = [STOP in actions for actions in taken]
        own = [[1.0, 0, 0, 0] if s else policy.chances[tuple(a)] for s, a in zip(stopped, taken, strict=True)]
        actions = tree(given, torch.tensor(own)).tolist()
        for i, action in enumerate(actions):
            assert not stopped[i] or action == STOP
            taken[i] += [] if stopped[i] else [action]
    return [tuple(actions) for actions in taken]


def episodes(chances: dict[tuple[int, ...], list[float]] = CHANCES) -> dict[tuple[int, ...], float]:
    """All episodes of the table with their probabilities."""
    found: dict[tuple[int, ...], float] = {}
    for first, chance in enumerate(chances[()]):
        if first == STOP:
            found[(STOP,)] = chance
        elif chance:
            found |= {(first, second): chance * c for second, c in enumerate(chances[(first,)]) if c}
    return found


def test_the_second_is_drawn_from_the_policy_given_that_it_is_new() -> None:
    torch.manual_seed(0)
    n, policy, pairs = 4_000, Table(), Counter[tuple[Any, ...]]()
    for _ in range(n):
        tree = EpisodeTree(LENGTH)
        drawn = []
        for _ in range(2):
            tree.begin(policy)
            drawn += play(tree, policy)
        pairs[tuple(drawn)] += 1
    known = episodes()
    assert sum(known.values()) == pytest.approx(1.0)
    expected = {(a, b): n * known[a] * known[b] / (1 - known[a]) for a, b in itertools.permutations(known, 2)}
    assert pairs.keys() <= expected.keys()
    chi = sum((pairs[pair] - mean) ** 2 / mean for pair, mean in expected.items())
    assert chi < 91.7  # 99.9 % of a chi-square with 55 degrees of freedom: 7 episodes in pairs are 56 - 1
    assert len(expected) == 56


@pytest.mark.parametrize("n", [1, 3])
def test_everything_is_played_once_and_then_again(n: int) -> None:
    torch.manual_seed(1)
    tree, policy, drawn = EpisodeTree(LENGTH), Table(), list[tuple[int, ...]]()
    while len(drawn) < len(episodes()) - n + 1:
        tree.begin(policy)
        drawn += play(tree, policy, n)
    if n == 1:
        assert sorted(drawn) == sorted(episodes()) and tree.left == 0.0
    while len(tree) < len(episodes()):
        drawn += play(tree, policy, n)
    assert set(play(tree, policy, 5)) <= episodes().keys()


def test_the_share_that_is_left_follows_the_policy() -> None:
    torch.manual_seed(2)
    tree, policy = EpisodeTree(LENGTH), Table()
    tree.begin(policy)
    (played,) = play(tree, policy)
    assert tree.left == pytest.approx(1 - episodes()[played])
    changed = Table(CHANCES | {(): [0.3, 0.3, 0.0, 0.4]})
    tree.begin(changed)
    assert tree.left == pytest.approx(1 - episodes(changed.chances)[played])


def test_each_first_observation_has_a_tree_of_its_own() -> None:
    tree, policy = EpisodeTree(LENGTH), Table()
    for start in (0.0, 1.0):
        drawn = []
        for _ in episodes():
            tree.begin(policy)
            drawn += play(tree, policy, start=start)
        assert sorted(drawn) == sorted(episodes())
    assert len(tree) == 2 * len(episodes())


def test_beyond_its_size_the_least_likely_episodes_are_forgotten() -> None:
    tree, policy = EpisodeTree(LENGTH, most=3), Table()
    while len(tree) < 4:
        play(tree, policy)
    while len(tree) < len(episodes()):
        play(tree, policy, 2)
    tree.begin(policy)
    assert len(tree) == 3
    known = episodes()
    assert tree.left == pytest.approx(1 - sum(sorted(known.values())[-3:]))


def test_tensors_hold_everything() -> None:
    torch.manual_seed(3)
    tree, other, policy = EpisodeTree(LENGTH), EpisodeTree(LENGTH), Table()
    for start in (0.0, 0.5):
        tree.begin(policy)
        play(tree, policy, 3, start=start)
    other.restore(tree.tensors())
    for each in (tree, other):
        each.begin(policy)
    assert len(other) == len(tree) == 6 and other.left == tree.left
    state = torch.get_rng_state()
    drawn = play(tree, policy, 2)
    torch.set_rng_state(state)
    assert play(other, policy, 2) == drawn
    other.restore({})
    assert len(other) == 0 and other.left == 1.0


def actions_of(env: Toy) -> list[tuple[int, ...]]:
    """What was played, up to STOP."""
    return [tuple(taken[: taken.index(STOP)] if STOP in taken else taken) for taken, _ in env.played]


@pytest.mark.parametrize("n_envs", [1, 10])
@pytest.mark.parametrize("learner", LEARNERS)
def test_a_learner_plays_no_episode_twice(learner: type[PPO] | type[Reinforce], n_envs: int) -> None:
    n = 40 if n_envs == 1 else 200

    def played(*, without_replacement: bool) -> list[tuple[int, ...]]:
        env = Toy(n_envs=n_envs)
        given: dict[str, Any] = {"learning_rate": 0.05 if n_envs > 1 else 0.04, "memory": {"n_steps": 2}}
        quiet(learner(env, seed=0, without_replacement=without_replacement, **given)).learn(n * env.max_steps)
        return actions_of(env)

    usual, distinct = played(without_replacement=False), played(without_replacement=True)
    assert len(usual) == len(distinct) == n
    assert len(set(usual)) < 0.75 * n
    assert len(set(distinct)) == n if n_envs == 1 else len(set(distinct)) > 0.95 * n  # a batch may crowd one state


def test_a_learner_that_settles_repeats_the_best() -> None:
    env = Toy()
    memory = {"n_steps": 4, "exploit_after": 0.5, "exploit_n_steps": 20}
    quiet(PPO(env, seed=0, learning_rate=0.02, without_replacement=True, memory=memory)).learn(600)
    played = actions_of(env)
    assert len(set(played[:100])) == 100
    best = max(env.played, key=lambda episode: episode[1])[1]
    assert np.mean([reward > best - 1e-6 for _, reward in env.played[-30:]]) > 0.5


def test_the_policy_draws_as_usual_outside_of_training() -> None:
    env = Toy()
    controller = quiet(PPO(env, seed=0, without_replacement=True))
    controller.learn(60)
    assert isinstance(controller.policy, SlotPolicy) and controller.policy.chooser is None


class Interrupt(BaseCallback):
    """Ends training half-way, in the middle of an episode."""

    def _on_step(self) -> bool:
        if self.num_timesteps >= 80:
            raise KeyboardInterrupt
        return True


@pytest.mark.parametrize("learner", LEARNERS)
def test_an_interrupted_learner_plays_on(learner: type[PPO] | type[Reinforce]) -> None:
    env = Toy()
    controller = quiet(learner(env, seed=0, without_replacement=True))
    with pytest.raises(KeyboardInterrupt):
        controller.learn(300, callback=Interrupt())
    assert isinstance(controller.policy, SlotPolicy) and controller.policy.chooser is None
    env.reset()
    controller.learn(300, reset_num_timesteps=False)
    played = actions_of(env)
    assert len(played) == len(set(played)) > 100


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_checkpoint_holds_what_was_played(learner: type[PPO] | type[Reinforce], tmp_path: Path) -> None:
    given: dict[str, Any] = {"without_replacement": True, "learning_rate": 0.05, "memory": {"size": 3}}
    whole, first, second = Toy(), Toy(), Toy()
    quiet(learner(whole, seed=3, **given)).learn(240)
    controller = quiet(learner(first, seed=3, **given))
    controller.learn(120)
    controller.save(tmp_path)
    again = quiet(learner.load(tmp_path, second))
    again.learn(120, reset_num_timesteps=False)
    assert first.played + second.played == whole.played
    assert len(set(actions_of(first) + actions_of(second))) == 80


@pytest.mark.parametrize("learner", LEARNERS)
def test_episodes_out_of_step_are_an_error(learner: type[PPO] | type[Reinforce]) -> None:
    with pytest.raises(ConfigError, match="use the batched one"):
        quiet(learner(Toy(steps=1), seed=0, without_replacement=True)).learn(30)


def test_a_new_start_network_forgets_what_was_played() -> None:
    controller = quiet(PPO(Toy(), seed=0, without_replacement=True))
    controller.learn(30)
    assert isinstance(controller, PPO) and controller.tree is not None and len(controller.tree) == 10
    controller.start_changed()
    assert len(controller.tree) == 0


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("recurrent_ppo", {"without_replacement": True}, "recurrent_ppo does not play without replacement"),
        (
            "imagination",
            {"learner_arguments": {"without_replacement": True}},
            "without_replacement is not for a learner of imagination",
        ),
        ("ppo", {"without_replacement": 1}, "without_replacement=1 of the controller 'ppo' has the wrong type"),
    ],
)
def test_bad_settings_get_one_clear_line(name: str, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        make_controller(name, Toy(), seed=0, arguments=arguments)
    assert "\n" not in str(caught.value)
