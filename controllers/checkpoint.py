"""Checkpoints of controllers: tensors (safetensors) and JSON, nothing that runs code when it is loaded.

A checkpoint is a folder with one safetensors file, whose metadata hold a JSON document; being one file, it is replaced
as a whole. It is taken between two rollouts, and loaded last before ``learn``: the controller owns torch's global
generator, whose state comes back with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import deque
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from gymnasium import spaces
from safetensors import SafetensorError, safe_open
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlnas.controllers.base import Controller
from rlnas.errors import StoreError
from rlnas.network import with_sorted_metadata

FILE: Final = "controller.safetensors"
FORMAT: Final = "rlnas controller 1"


def save(controller: Controller, folder: str | Path, *, extra: dict[str, Any] | None = None) -> None:
    """Write a checkpoint; a reader finds the old one or the new one, never a mixture.

    Args:
        extra: JSON values of the caller that belong to this moment, such as the state of a callback; see `read_extra`.

    Raises:
        StoreError: If it cannot be written.
    """
    assert controller.env is not None
    tensors = _tensors(controller)
    document = json.dumps(
        {
            "controller": controller.name,
            "arguments": controller.arguments,
            "environment": sizes(controller.env),
            "variants": variants(controller.env),
            "num_timesteps": controller.num_timesteps,
            "n_updates": controller._n_updates,
            "numpy": _numpy_document(),
            "optimizer": _optimizer_groups(controller),
            "episodes": list(controller.ep_info_buffer or ()),
            "state": controller.state(),
            "extra": extra or {},
        }
    )
    metadata = {"format": FORMAT, "document": document, "digest": _digest(document, tensors)}
    _write(Path(folder) / FILE, with_sorted_metadata(safetensors.torch.save(tensors, metadata=metadata)))


def load(folder: str | Path, env: VecEnv, *, expect: type[Controller] = Controller) -> Controller:
    """The controller as it was, on a fresh environment; continue with ``learn(..., reset_num_timesteps=False)``.

    Args:
        expect: Class that the checkpoint must hold.

    Raises:
        StoreError: If it cannot be read, is damaged, or holds another controller or one for another environment.
    """
    from rlnas.controllers import CONTROLLERS

    document, tensors = read(Path(folder))
    name = document["controller"]
    if name not in CONTROLLERS or not issubclass(CONTROLLERS[name], expect):
        raise StoreError(f"the checkpoint {folder} holds the controller {name!r}, which is not the one asked for")
    here = sizes(env)
    if document["environment"] != here:
        raise StoreError(f"the checkpoint {folder} is for an environment of {document['environment']}, not {here}")
    try:
        controller = CONTROLLERS[name](env, **document["arguments"])
        _restore(controller, document, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StoreError(f"the checkpoint {folder} does not fit this version: {str(error).splitlines()[0]}") from None
    return controller


def read_extra(folder: str | Path) -> dict[str, Any]:
    """The ``extra`` that a checkpoint was saved with.

    Raises:
        StoreError: If the checkpoint cannot be read or is damaged.
    """
    extra: dict[str, Any] = read(Path(folder))[0]["extra"]
    return extra


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document and the tensors of a checkpoint.

    Raises:
        StoreError: If it cannot be read or is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        raise StoreError(f"{folder} is no checkpoint: it has no file {FILE}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StoreError(f"the checkpoint {path} is damaged: {str(error).splitlines()[0]}") from None
    if metadata.get("format") != FORMAT:
        raise StoreError(f"the checkpoint {path} is of the format {metadata.get('format')!r}, not {FORMAT!r}")
    if metadata.get("digest") != _digest(metadata.get("document", ""), tensors):
        raise StoreError(f"the checkpoint {path} is damaged: its content does not agree with its digest")
    return json.loads(metadata["document"]), tensors


def sizes(env: VecEnv) -> dict[str, int]:
    """Number of episodes, and length of each entry of their observations."""
    assert isinstance(env.observation_space, spaces.Dict)
    lengths = {name: _length(space) for name, space in env.observation_space.spaces.items()}
    return {"episodes": env.num_envs, **lengths}


def variants(env: VecEnv) -> list[str] | None:
    """Names of what can be done at a slot, in the order of the actions' numbers; None if the environment has none."""
    try:
        return [str(name) for name in env.get_attr("variants")[0]] or None
    except AttributeError:
        return None


def _restore(controller: Controller, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    controller.num_timesteps = int(document["num_timesteps"])
    controller._n_updates = int(document["n_updates"])
    controller.ep_info_buffer = deque(document["episodes"], maxlen=controller._stats_window_size)
    controller.ep_success_buffer = deque(maxlen=controller._stats_window_size)
    controller.restore(document["state"])
    own = {name.removeprefix("own."): tensor for name, tensor in tensors.items() if name.startswith("own.")}
    controller.restore_tensors(own)
    policy = _policy(controller)
    if policy is not None:
        weights = {name.removeprefix("policy."): t for name, t in tensors.items() if name.startswith("policy.")}
        policy.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor
        policy.optimizer.load_state_dict({"state": moments, "param_groups": document["optimizer"]})
    position = document["numpy"]["state"]
    np.random.set_state(document["numpy"] | {"state": position | {"key": tensors["rng.numpy"].numpy()}})
    torch.set_rng_state(tensors["rng.torch"])


def _policy(controller: Controller) -> ActorCriticPolicy | None:
    policy = getattr(controller, "policy", None)  # the baselines have none
    assert policy is None or isinstance(policy, ActorCriticPolicy)
    return policy


def _tensors(controller: Controller) -> dict[str, Tensor]:
    tensors = {"rng.torch": torch.get_rng_state(), "rng.numpy": torch.from_numpy(_numpy_state()["state"]["key"].copy())}
    tensors |= {f"own.{name}": tensor for name, tensor in controller.tensors().items()}
    policy = _policy(controller)
    if policy is not None:
        tensors |= {f"policy.{name}": tensor for name, tensor in policy.state_dict().items()}
        for index, moments in policy.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": tensor for key, tensor in moments.items()}
    return {name: tensor.detach().clone().contiguous() for name, tensor in sorted(tensors.items())}


def _optimizer_groups(controller: Controller) -> list[dict[str, Any]]:
    policy = _policy(controller)
    return [] if policy is None else policy.optimizer.state_dict()["param_groups"]


def _numpy_state() -> dict[str, Any]:
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    return state


def _numpy_document() -> dict[str, Any]:
    state = _numpy_state()
    return state | {"state": {"pos": state["state"]["pos"]}}


def _length(space: spaces.Space[Any]) -> int:
    assert space.shape is not None
    return math.prod(space.shape)


def _digest(document: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(document.encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(f"cannot write the checkpoint {path}: {error.strerror}") from None
