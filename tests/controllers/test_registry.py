from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from rlnas.controllers import CONTROLLERS, PPO, Controller, make_controller
from rlnas.errors import ConfigError
from tests.controllers.toy import Toy, quiet


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_every_controller_runs_from_its_name(name: str) -> None:
    env = Toy()
    controller = quiet(make_controller(name, env, seed=2, arguments={}))
    assert isinstance(controller, Controller)
    assert controller.name == name
    controller.learn(60)
    assert len(env.played) == 20
    assert env.seeds == [2]


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_the_same_seed_gives_the_same_run(name: str) -> None:
    def play(seed: int) -> list[tuple[list[int], float]]:
        env = Toy(noise=0.1)
        quiet(make_controller(name, env, seed=seed, arguments={})).learn(120)
        return env.played

    assert play(0) == play(0)
    assert play(0) != play(1)


def test_unknown_controller() -> None:
    with pytest.raises(ConfigError, match=r"unknown controller 'pp0'\. Did you mean 'ppo'\? Known: "):
        make_controller("pp0", Toy(), seed=0, arguments={})


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [
        ("ppo", {"n_epoch": 3}, "unknown argument of the controller 'ppo': 'n_epoch'. Did you mean 'n_epochs'"),
        ("ppo", {"seed": 3}, "'seed'"),
        ("ppo", {"policy_kwargs": {"hiden_size": 3}}, "policy_kwargs: 'hiden_size'. Did you mean 'hidden_size'"),
        ("ppo", {"policy_kwargs": {"critic": False}}, "'critic'"),
        ("ppo", {"learning_rate": "fast"}, "learning_rate='fast' .* wrong type: float"),
        ("ppo", {"n_epochs": 1.5}, "n_epochs=1.5 .* wrong type: int"),
        ("ppo", {"n_epochs": True}, "n_epochs=True .* wrong type: int"),
        ("ppo", {"n_epochs": 0}, "n_epochs=0 must be greater than 0"),
        ("ppo", {"learning_rate": -1.0}, "learning_rate=-1.0 must be greater than 0"),
        ("recurrent_ppo", {"batch_size": 7}, "batch_size=7 must be a multiple of the episode.s length, 3"),
        ("reinforce", {"n_steps": 4}, "n_steps=4 must be a multiple of the episode's length, 3"),
        ("reinforce", {"baseline_decay": 1.0}, "baseline_decay=1.0"),
        ("reinforce", {"advantage": "ranks"}, "unknown advantage 'ranks'. Did you mean 'rank'"),
        ("reinforce", {"clip_advantage": 0.0}, "clip_advantage=0.0 must be greater than 0"),
        ("reinforce", {"history": 0}, "history=0 must be greater than 0"),
        ("ppo", {"min_deviation": 0.0}, "min_deviation=0.0 must be greater than 0"),
        ("ppo", {"policy_kwargs": {"memory_size": 3}}, "policy_kwargs: 'memory_size'"),
        ("recurrent_ppo", {"policy_kwargs": {"memory_size": 0}}, "memory_size=0 of the policy must be at least 1"),
        (
            "recurrent_ppo",
            {"policy_kwargs": {"memry_size": 3}},
            "policy_kwargs: 'memry_size'. Did you mean 'memory_size'",
        ),
        ("recurrent_ppo", {"memory": {}}, "recurrent_ppo takes no memory of earlier episodes"),
        ("random", {"learning_rate": 0.1}, "takes no arguments, but 'learning_rate' is given"),
    ],
)
def test_bad_arguments_get_one_clear_line(name: str, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        make_controller(name, Toy(), seed=0, arguments=arguments)
    assert "\n" not in str(caught.value)


def test_good_arguments_arrive() -> None:
    arguments: dict[str, Any] = {
        "n_epochs": 2,
        "learning_rate": 1,
        "policy_kwargs": {"cell": "lstm"},
        "target_kl": None,
    }
    controller = make_controller("ppo", Toy(), seed=0, arguments=arguments)
    assert isinstance(controller, PPO)
    assert controller.n_epochs == 2
    assert type(controller.policy.encoder.rnn).__name__ == "LSTM"
    assert controller.arguments["n_epochs"] == 2


def test_an_environment_that_hides_its_length() -> None:
    env = Toy()
    del env.max_steps
    for name in CONTROLLERS:
        with pytest.raises(ConfigError, match="has no max_steps"):
            make_controller(name, env, seed=0, arguments={})


def test_importing_the_package_alone_stays_light() -> None:
    code = "import sys, rlnas; assert not {'torch', 'stable_baselines3', 'rlnas.controllers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
