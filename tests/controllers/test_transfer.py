"""A policy that begins with another search's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.controllers import CONTROLLERS, checkpoint, make_controller
from rlnas.envs import EpisodeVecEnv
from rlnas.errors import ConfigError, StoreError
from tests.controllers.memory_task import MemoryTask
from tests.controllers.toy import Toy, quiet
from tests.envs.fakes import fake_problem
from tests.envs.tables import table


class Named(Toy):
    """A toy that says what its actions are."""

    def __init__(self, names: list[str], **rest: Any) -> None:
        self.variants = tuple(names)
        super().__init__(variants=len(names), **rest)


def trained(folder: Path, name: str = "ppo", env: Toy | None = None, steps: int = 30, **arguments: Any) -> Any:
    controller = quiet(make_controller(name, env or Toy(), seed=0, arguments=arguments))
    controller.learn(steps)
    controller.save(folder)
    return controller


def take(folder: Path, name: str = "ppo", env: Toy | None = None, part: str = "policy", **arguments: Any) -> Any:
    made = make_controller(name, env or Toy(), seed=1, arguments=arguments, init_from=folder, init_part=part)
    return quiet(made)


def same(a: Any, b: Any, prefix: str = "") -> bool:
    first, second = a.policy.state_dict(), b.policy.state_dict()
    names = [name for name in first if name.startswith(prefix) and name in second]
    assert names
    return all(torch.equal(first[name], second[name]) for name in names)


def test_takes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    source = trained(tmp_path, steps=90)
    taker = take(tmp_path, env=Toy(n_envs=4, slots=30, nodes=12))
    assert same(source, taker)
    assert taker.num_timesteps == taker._n_updates == 0
    assert not taker.policy.optimizer.state_dict()["state"]
    assert taker.seed == 1
    fresh = make_controller("ppo", Toy(n_envs=4, slots=30, nodes=12), seed=1, arguments={})
    assert not same(source, fresh)  # so the comparison can fail
    assert taker.arguments == fresh.arguments
    taker.learn(12)
    assert taker.num_timesteps == 12 and not same(source, taker)


def test_what_was_learnt_counts_at_once(tmp_path: Path) -> None:
    """The first episodes on a larger network; the optimum is 1.9, and a policy that knows nothing has 0.9."""

    def begin(folder: Path | None) -> float:
        env = Toy(n_envs=20, slots=9, nodes=6)
        quiet(make_controller("ppo", env, seed=1, arguments={}, init_from=folder)).learn(60)
        return float(np.mean([reward for _, reward in env.played]))

    trained(tmp_path, steps=900)
    assert begin(None) < 1.1 < 1.5 < begin(tmp_path)


def test_reinforce_and_ppo_take_from_each_other(tmp_path: Path) -> None:
    """The critic, which only one of them has, is left out; past returns are not taken."""
    source = trained(tmp_path / "ppo", "ppo")
    taker = take(tmp_path / "ppo", "reinforce")
    assert same(source, taker) and taker.baseline == 1.0 and not taker.history
    source = trained(tmp_path / "reinforce", "reinforce")
    taker = take(tmp_path / "reinforce", "ppo")
    fresh = make_controller("ppo", Toy(), seed=1, arguments={})
    assert same(source, taker) and same(fresh, taker, "value_head.")
    assert same(trained(tmp_path / "again", "ppo"), take(tmp_path / "again", "ppo"), "value_head.")


def test_a_policy_that_remembers(tmp_path: Path) -> None:
    env = MemoryTask(n_envs=4)
    source = trained(tmp_path, "recurrent_ppo", env, steps=16)
    assert same(source, take(tmp_path, "recurrent_ppo", MemoryTask(n_envs=2)), "memory.")
    with pytest.raises(StoreError, match=r"it is that of recurrent_ppo with .* and here it is that of ppo"):
        take(tmp_path, "ppo", MemoryTask())
    assert same(source, take(tmp_path, "ppo", MemoryTask(), part="encoder"), "encoder.")


def test_encoder_only(tmp_path: Path) -> None:
    source = trained(tmp_path, env=Named(["widen", "deepen", "prune"]))
    taker = take(tmp_path, env=Named(["x", "y"]), part="encoder")
    fresh = make_controller("ppo", Named(["x", "y"]), seed=1, arguments={})
    assert same(source, taker, "encoder.")
    assert same(fresh, taker, "variant_head.") and same(fresh, taker, "stop_head.")


@pytest.mark.parametrize("inside", ["", "checkpoints/controller", "checkpoints/controller/000000060"])
def test_where_the_checkpoint_may_lie(inside: str, tmp_path: Path) -> None:
    kept = tmp_path / "checkpoints" / "controller"
    controller = trained(kept / "000000030")
    controller.learn(30, reset_num_timesteps=False)
    controller.save(kept / "000000060")
    (kept / "000000090").mkdir()  # was being written when the run was killed
    trained(tmp_path / "checkpoints" / "random", "random")
    assert same(controller, take(tmp_path / inside))


def refused(match: str, *arguments: Any, kind: type[Exception] = StoreError, **named: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        take(*arguments, **named)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    trained(tmp_path, env=Named(["widen", "deepen"]))
    hint = r".*init_part=encoder"
    refused(f"it knows 2 variants, and here are 3{hint}", tmp_path)
    refused(f"its variant 1 is deepen, and here it is prune{hint}", tmp_path, env=Named(["widen", "prune"]))
    assert same(take(tmp_path, env=Toy(variants=2)), take(tmp_path, env=Named(["widen", "deepen"])))
    env = Named(["widen", "deepen"])
    for settings in ({"hidden_size": 16}, {"cell": "gru"}, {"encoder": "graph"}):
        name = next(iter(settings))
        refused(f"policy_kwargs={{}}, and here .*{name}", tmp_path, env=env, policy_kwargs=settings)
        refused(f"policy_kwargs={{}}, and here .*{name}", tmp_path, env=env, policy_kwargs=settings, part="encoder")
    refused("part of a policy 'encodr'. Did you mean 'encoder'", tmp_path, env=env, part="encodr", kind=ConfigError)


def test_features_that_differ(tmp_path: Path) -> None:
    from gymnasium import spaces

    env = Toy()
    inner = dict(env.observation_space.spaces)  # type: ignore[attr-defined]
    inner["nodes"] = spaces.Box(-1, 1, (6 * 14,), np.float32)
    inner["context"] = spaces.Box(-1, 1, (4,), np.float32)
    env.observation_space = spaces.Dict(inner)
    trained(tmp_path)
    for part in ("policy", "encoder"):
        refused("it knows 22 features of a slot, and here are 14; it knows 6 features", tmp_path, env=env, part=part)


def test_heads_do_not_show_in_shapes(tmp_path: Path) -> None:
    trained(tmp_path, policy_kwargs={"encoder": "attention"})
    refused("'heads': 2", tmp_path, policy_kwargs={"encoder": "attention", "heads": 2})
    take(tmp_path, policy_kwargs={"encoder": "attention", "heads": 4})


def test_no_weights_to_take(tmp_path: Path) -> None:
    refused("nowhere holds no checkpoint of a controller; name a run directory", tmp_path / "nowhere")
    trained(tmp_path / "random", "random")
    refused("is one of 'random', which has no policy", tmp_path / "random")
    trained(tmp_path / "ppo")
    for name in CONTROLLERS:
        if not hasattr(make_controller(name, Toy(), seed=0, arguments={}), "policy"):
            refused(f"the controller '{name}' has no policy", tmp_path / "ppo", name, kind=ConfigError)
    file = tmp_path / "ppo" / checkpoint.FILE
    file.write_bytes(file.read_bytes()[:-1])
    refused("is damaged", tmp_path / "ppo")
    with pytest.raises(ConfigError, match="init_part=encoder means nothing without init_from"):
        make_controller("ppo", Toy(), seed=0, arguments={}, init_part="encoder")


def test_environments_say_what_their_actions_are(tmp_path: Path) -> None:
    """Two edits under the same numbers are not taken for each other; a limit of its own is no hindrance."""
    spaces = {
        "old": {"variants": ["widen 2", "deepen 3"]},
        "other": {"variants": ["widen 2", "deepen 1"]},
        "limit": {"variants": ["widen 2", "deepen 3"], "max_macs": "2x", "max_nodes": 30},
    }
    old, other, limit = (EpisodeVecEnv(fake_problem(max_steps=2, **s), n_envs=3) for s in spaces.values())
    assert old.variants == ("widen(2)", "deepen(3)")
    trained(tmp_path, env=old, steps=6)  # type: ignore[arg-type]
    refused(r"its variant 1 is deepen\(3\), and here it is deepen\(1\)", tmp_path, env=other)
    assert same(take(tmp_path, env=limit), take(tmp_path, env=old))  # type: ignore[arg-type]


def test_between_tables(tmp_path: Path) -> None:
    """From one table to another over the same decisions, under another limit."""
    env = EpisodeVecEnv(table(0, share=0.4), n_envs=5)
    assert env.variants == ("1 or narrow or 3 or 0", "2 or wide or 5 or 1", "3 or 7", "9")
    source = trained(tmp_path, env=env, steps=20)  # type: ignore[arg-type]
    assert same(source, take(tmp_path, env=EpisodeVecEnv(table(1, share=0.7), n_envs=8)))  # type: ignore[arg-type]
