from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rlnas.controllers import CONTROLLERS, PPO, CheckpointCallback, Controller, Reinforce, checkpoint, make_controller
from rlnas.errors import StoreError
from tests.controllers.toy import Toy, quiet

NAMES = sorted(CONTROLLERS)
BATCH = 30  # 10 episodes of 3 steps
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ppo": {"batch_size": 7, "n_epochs": 2, "policy_kwargs": {"hidden_size": 8}},  # minibatches use NumPy's generator
    "recurrent_ppo": {"batch_size": 12, "n_epochs": 2},
    "reinforce": {"baseline_decay": 0.5, "advantage": "rank"},
    "imagination": {"n_rollouts": 1, "n_imagined": 16, "learner_arguments": {"memory": {"size": 3}}},
    "local_search": {"move": "first"},
    "tpe": {"n_startup_trials": 5},
    "evolution": {"population": 15, "sample": 3},
}


def make(name: str, env: Toy) -> Controller:
    return quiet(make_controller(name, env, seed=5, arguments=ARGUMENTS.get(name, {})))


def weights(controller: Controller) -> dict[str, torch.Tensor]:
    policy = getattr(controller, "policy", None)
    return {} if policy is None else {name: tensor.clone() for name, tensor in policy.state_dict().items()}


def undisturbed(name: str, batches: int) -> tuple[Controller, list[Any]]:
    env = Toy(noise=0.05)
    controller = make(name, env)
    controller.learn(BATCH * batches)
    return controller, env.played


def assert_same(name: str, controller: Controller, played: list[Any], *, after: int, batches: int) -> None:
    whole, expected = undisturbed(name, batches)
    assert played == expected[10 * after :]
    assert controller.num_timesteps == whole.num_timesteps == BATCH * batches
    assert controller._n_updates == whole._n_updates
    assert controller.state() == whole.state()
    mine, theirs = weights(controller), weights(whole)
    assert mine.keys() == theirs.keys()
    for key in mine:
        assert torch.equal(mine[key], theirs[key]), key
    assert list(controller.ep_info_buffer or ()) == list(whole.ep_info_buffer or ())


@pytest.mark.parametrize("name", NAMES)
def test_continues_as_if_never_stopped(name: str, tmp_path: Path) -> None:
    controller, _ = undisturbed(name, 3)
    controller.save(tmp_path)
    del controller
    torch.manual_seed(999)  # another process would have other states
    np.random.seed(999)
    env = Toy(noise=0.05)
    loaded = quiet(checkpoint.load(tmp_path, env))
    assert type(loaded) is CONTROLLERS[name]
    loaded.learn(BATCH * 3, reset_num_timesteps=False)
    assert_same(name, loaded, env.played, after=3, batches=6)


@pytest.mark.parametrize("name", NAMES)
def test_the_comparison_can_fail(name: str, tmp_path: Path) -> None:
    """Without the checkpoint's generators and moments the continuation differs."""
    controller, _ = undisturbed(name, 3)
    other = make(name, Toy(noise=0.05))
    other.num_timesteps = controller.num_timesteps
    if hasattr(controller, "policy"):
        other.policy.load_state_dict(controller.policy.state_dict())
    env = other.get_env()
    assert isinstance(env, Toy)
    other.learn(BATCH * 3, reset_num_timesteps=False)
    with pytest.raises(AssertionError):
        assert_same(name, other, env.played, after=3, batches=6)


@pytest.mark.parametrize("name", NAMES)
def test_killed_in_a_rollout(name: str, tmp_path: Path) -> None:
    """The checkpoint callback saves after each update; a run that dies in the third rollout plays it again."""
    env = Toy(noise=0.05)
    controller = make(name, env)
    saves: list[int] = []

    def save() -> None:
        saves.append(controller.num_timesteps)
        controller.save(tmp_path)

    def die(locals_: dict[str, Any], globals_: dict[str, Any]) -> bool:
        if controller.num_timesteps > 2 * BATCH:
            raise KeyboardInterrupt
        return True

    from stable_baselines3.common.callbacks import ConvertCallback

    with pytest.raises(KeyboardInterrupt):
        controller.learn(BATCH * 5, callback=[CheckpointCallback(save), ConvertCallback(die)])
    assert saves == [BATCH, 2 * BATCH]
    fresh = Toy(noise=0.05)
    loaded = quiet(checkpoint.load(tmp_path, fresh))
    loaded.learn(BATCH * 2, reset_num_timesteps=False)
    assert_same(name, loaded, fresh.played, after=2, batches=4)


def continue_elsewhere(folder: str, results: Any) -> None:
    torch.set_num_threads(1)
    env = Toy(noise=0.05)
    loaded = quiet(checkpoint.load(folder, env))
    loaded.learn(BATCH * 2, reset_num_timesteps=False)
    results.put((env.played, pickle.dumps({key: value.numpy() for key, value in weights(loaded).items()})))


@pytest.mark.slow
def test_in_another_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    for name in NAMES:
        undisturbed(name, 2)[0].save(tmp_path / name)
    workers = [
        (name, context.Process(target=continue_elsewhere, args=(str(tmp_path / name), results))) for name in NAMES
    ]
    for name, worker in workers:
        worker.start()
        played, theirs = results.get(timeout=120)
        worker.join()
        whole, expected = undisturbed(name, 4)
        assert played == expected[20:]
        for key, value in pickle.loads(theirs).items():
            assert np.array_equal(value, weights(whole)[key].numpy())


def test_holds_no_pickle_and_replaces_the_old_one(tmp_path: Path) -> None:
    controller, _ = undisturbed("ppo", 1)
    controller.save(tmp_path / "a" / "b")
    controller.learn(BATCH, reset_num_timesteps=False)
    controller.save(tmp_path / "a" / "b")
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert not zipfile.is_zipfile(file)
    with safe_open(file, framework="pt") as opened:
        document = json.loads(opened.metadata()["document"])
    assert document["num_timesteps"] == 2 * BATCH
    assert document["arguments"]["policy_kwargs"] == {"hidden_size": 8}


def test_extra_travels_with_it(tmp_path: Path) -> None:
    controller, _ = undisturbed("random", 1)
    checkpoint.save(controller, tmp_path, extra={"callback": {"evaluations": 10}})
    assert checkpoint.read_extra(tmp_path) == {"callback": {"evaluations": 10}}


def test_loading_through_the_class(tmp_path: Path) -> None:
    undisturbed("reinforce", 1)[0].save(tmp_path)
    assert Reinforce.load(tmp_path, Toy()).num_timesteps == BATCH
    with pytest.raises(StoreError, match="holds the controller 'reinforce', which is not the one asked for"):
        PPO.load(tmp_path, Toy())


def test_damaged_or_foreign(tmp_path: Path) -> None:
    controller, _ = undisturbed("ppo", 1)
    controller.save(tmp_path)
    path = tmp_path / checkpoint.FILE
    good = path.read_bytes()

    def refused(match: str, env: Toy | None = None) -> None:
        with pytest.raises(StoreError, match=match) as caught:
            checkpoint.load(tmp_path, env or Toy())
        assert "\n" not in str(caught.value)

    refused("is for an environment of", Toy(variants=4))
    refused("is for an environment of", Toy(n_envs=3))
    path.write_bytes(good[: len(good) // 2])
    refused("is damaged")
    path.write_bytes(b"")
    refused("is damaged")
    path.write_bytes(b"PK\x03\x04" + b"x" * 1000)
    refused("is damaged")
    flipped = bytearray(good)
    flipped[-1000] ^= 1
    path.write_bytes(bytes(flipped))
    refused("is damaged: its content does not agree with its digest")
    save_file({"weight": torch.zeros(3)}, path)
    refused("is of the format None")
    path.unlink()
    refused("is no checkpoint: it has no file")
    path.write_bytes(good)
    checkpoint.load(tmp_path, Toy())


def test_a_checkpoint_of_another_version(tmp_path: Path) -> None:
    controller, _ = undisturbed("ppo", 1)
    controller.arguments = controller.arguments | {"no_longer_known": 1}
    controller.save(tmp_path)
    with pytest.raises(StoreError, match=r"does not fit this version.*no_longer_known"):
        checkpoint.load(tmp_path, Toy())


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
def test_a_disk_that_cannot_be_written(tmp_path: Path) -> None:
    controller, _ = undisturbed("random", 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the checkpoint"):
        controller.save(tmp_path / "file" / "folder")


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller, _ = undisturbed("random", 1)
    controller.save(tmp_path)
    before = load_file(tmp_path / checkpoint.FILE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        controller.save(tmp_path)
    after = load_file(tmp_path / checkpoint.FILE)
    assert all(torch.equal(before[key], after[key]) for key in before)
