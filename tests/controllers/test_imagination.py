from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.controllers import Imagination, make_controller
from rlnas.controllers.pretraining import Labels
from rlnas.errors import ConfigError, StoreError
from rlnas.layout import STOP
from tests.controllers.toy import GOOD, Toy, quiet

FAST: dict[str, Any] = {"n_rollouts": 1, "n_imagined": 32, "first": 5}


def make(env: Toy, **arguments: Any) -> Imagination:
    controller = quiet(Imagination(env, seed=0, **(FAST | arguments)))
    assert isinstance(controller, Imagination)
    return controller


def edits(taken: list[int]) -> str:
    return repr(sorted(a for a in taken if a != STOP))


def test_no_network_is_evaluated_twice_while_there_are_others() -> None:
    env = Toy(n_envs=5)
    make(env).learn(150)
    assert len({edits(taken) for taken, _ in env.played}) == len(env.played) == 50


def test_with_few_networks_the_best_ones_fill_the_batch() -> None:
    env = Toy(n_envs=5, slots=1, nodes=1, variants=2, max_steps=1)
    make(env).learn(15)
    distinct = {edits(taken) for taken, _ in env.played}
    assert distinct == {"[]", "[1]", "[2]"}
    assert [edits(taken) for taken, _ in env.played[5:6]] == ["[1]"]  # worth 1.3


@pytest.mark.parametrize("learner", ["ppo", "reinforce"])
def test_it_finds_the_best_sooner_than_its_learner_alone(learner: str) -> None:
    """Of 299 networks 4 have three good edits: 60 evaluations find them all, and bad ones are soon left alone."""
    env = Toy(n_envs=5, max_steps=3)
    make(env, learner=learner, n_rollouts=2).learn(180)
    best = [taken for taken, reward in env.played if reward > 1 + 2.5 * GOOD]
    assert len({edits(taken) for taken in best}) == 4
    alone = Toy(n_envs=5, max_steps=3)
    quiet(make_controller(learner, alone, seed=0, arguments={})).learn(180)
    later = [np.mean([reward for _, reward in e.played[20:40]]) for e in (env, alone)]
    assert later[0] > later[1] + 0.2


class PaidByHistory(Toy):
    """Whatever is found is paid the same; the record says what it is worth."""

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = super().step_wait()
        return observations, np.zeros_like(rewards), dones, infos


def test_what_networks_are_worth_counts_not_what_was_paid() -> None:
    env = PaidByHistory(n_envs=5)
    make(env).learn(120)
    assert len({edits(taken) for taken, reward in env.played if reward > 1 + 2.5 * GOOD}) == 4


def test_imagined_episodes_cost_nothing_and_train_the_policy() -> None:
    env = Toy(n_envs=5)
    controller = make(env)

    def weights() -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in controller.policy.parameters()])

    before = weights()
    controller.learn(15)
    assert len(env.played) == 5 and controller.num_timesteps == 15
    assert torch.equal(before, weights())  # while nothing is known, there is nothing to learn
    controller.learn(15, reset_num_timesteps=False)
    assert controller.learner.num_timesteps == 32 * 3
    assert not torch.equal(before, weights())


@pytest.mark.parametrize("learner", ["ppo", "reinforce"])
def test_a_checkpoint_continues_as_if_nothing_had_happened(learner: str, tmp_path: Path) -> None:
    arguments = {"learner": learner, "learner_arguments": {"memory": {"size": 3}}}
    whole = Toy(n_envs=4, noise=0.1)
    make(whole, **arguments).learn(72)
    first, second = Toy(n_envs=4, noise=0.1), Toy(n_envs=4, noise=0.1)
    controller = make(first, **arguments)
    controller.learn(36)
    controller.save(tmp_path)
    quiet(Imagination.load(tmp_path, second)).learn(36, reset_num_timesteps=False)
    assert first.played + second.played == whole.played


def test_predict_follows_the_best_episode() -> None:
    env = Toy(n_envs=5)
    controller = make(env)
    controller.learn(90)
    observation, taken = env.reset(), []
    state = None
    for _ in range(3):
        action, state = controller.predict(observation, state)
        taken.append(int(action[0]))
        observation, _, _, _ = env.step(action)
    assert env.worth(taken) == pytest.approx(max(reward for _, reward in env.played))


def test_after_a_new_start_network_it_goes_on() -> None:
    env = Toy(n_envs=5)
    controller = make(env)
    controller.learn(60)
    controller.start_changed()
    controller.learn(60, reset_num_timesteps=False)
    assert len(env.played) == 40


def label_file(path: Path, *, sign: float = 1.0) -> str:
    """What all networks of two edits are worth, or the opposite."""
    env = Toy(n_envs=10)
    plans = [[a, b, STOP] for a in range(1, 13) for b in range(a + 1, 13)]
    labels = Labels.play(env, plans)
    Labels(labels.features, [sign * reward for reward in labels.rewards]).save(path)
    return str(path)


def test_labels_from_elsewhere_make_the_first_batch_good(tmp_path: Path) -> None:
    def first(labels: str | None) -> float:
        env = Toy(n_envs=10)
        make(env, labels=labels, n_rollouts=4).learn(30)
        return float(np.mean([reward for _, reward in env.played]))

    assert first(label_file(tmp_path / "labels.json")) > first(None) + 0.3


def test_labels_that_mislead_are_overcome(tmp_path: Path) -> None:
    env = Toy(n_envs=5)
    make(env, labels=label_file(tmp_path / "labels.json", sign=-1.0), n_rollouts=2).learn(240)
    rewards = [reward for _, reward in env.played]
    assert np.mean(rewards[-20:]) > np.mean(rewards[:20]) + 0.3


def test_labels_are_read_as_written(tmp_path: Path) -> None:
    file = label_file(tmp_path / "labels.json")
    env = Toy(n_envs=10)
    labels = Labels.load(file)
    assert len(labels.rewards) == 66
    assert labels.rewards[0] == pytest.approx(env.worth([1, 2, STOP]))
    known = labels.features[0]["known"]
    assert [name for name, figure in known.items() if figure] == ["edit 1", "edit 2"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (None, "cannot read the labels"),
        ("{", "holds no labels"),
        ('{"format": "rlnas.labels/9"}', "'rlnas.labels/9', not 'rlnas.labels/1'"),
        ('{"format": "rlnas.labels/1", "rows": [{"choices": null}]}', "holds no labels: KeyError"),
    ],
)
def test_bad_labels_get_one_clear_line(text: str | None, match: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "labels.json").write_text(text)
    with pytest.raises(StoreError, match=match) as caught:
        make(Toy(), labels=str(tmp_path / "labels.json"))
    assert "\n" not in str(caught.value)


class Unimaginable(Toy):
    imagined = property()  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("env", "arguments", "match"),
    [
        (Toy(), {"learner": "pp"}, r"unknown learner 'pp'\. Did you mean 'ppo'"),
        (Toy(), {"learner_arguments": {"lr": 1.0}}, "unknown argument of the learner 'ppo': 'lr'"),
        (Toy(), {"learner_arguments": {"policy_kwargs": {"sell": "gru"}}}, "of policy_kwargs: 'sell'. Did you mean"),
        (
            Toy(),
            {"learner_arguments": {"memory": {"exploit_after": 0.5}}},
            "exploit_after is not for a learner of imag",
        ),
        (Toy(), {"exploration": -1.0}, "exploration=-1.0, optimism=0.5 and n_neighbours=1 must not be negative"),
        (Toy(), {"pool": 0}, "pool=0 must be greater than 0"),
        (Unimaginable(), {}, "this environment cannot be imagined: it has no method imagined"),
    ],
)
def test_bad_arguments_get_one_clear_line(env: Toy, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        make(env, **arguments)
    assert "\n" not in str(caught.value)
