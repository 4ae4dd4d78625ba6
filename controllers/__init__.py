"""Controllers: what decides which networks are evaluated. All are driven like Stable-Baselines3's algorithms."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.archive import ArchiveCallback
from rlnas.controllers.arguments import check_arguments
from rlnas.controllers.base import Controller
from rlnas.controllers.callbacks import CheckpointCallback, EvaluationCallback, PromoteCallback
from rlnas.controllers.evolution import Evolution
from rlnas.controllers.imagination import Imagination
from rlnas.controllers.local_search import LocalSearch
from rlnas.controllers.logging import TrackerWriter, make_logger
from rlnas.controllers.planned import Largest, Uniform
from rlnas.controllers.policies import MemoryPolicy, SlotPolicy
from rlnas.controllers.ppo import PPO
from rlnas.controllers.presets import PRESETS, Preset
from rlnas.controllers.random_search import RandomSearch
from rlnas.controllers.recurrent_ppo import RecurrentPPO
from rlnas.controllers.reinforce import Reinforce
from rlnas.controllers.rejection import rejects
from rlnas.controllers.tpe import TPE
from rlnas.controllers.transfer import take_weights
from rlnas.errors import ConfigError, unknown_name

CONTROLLERS: dict[
    str,
    type[PPO]
    | type[Reinforce]
    | type[Imagination]
    | type[RandomSearch]
    | type[LocalSearch]
    | type[Evolution]
    | type[TPE]
    | type[Largest]
    | type[Uniform],
] = {
    "ppo": PPO,
    "recurrent_ppo": RecurrentPPO,
    "reinforce": Reinforce,
    "imagination": Imagination,
    "random": RandomSearch,
    "local_search": LocalSearch,
    "evolution": Evolution,
    "tpe": TPE,
    "largest": Largest,
    "uniform": Uniform,
}
"""Controllers by name; each is made from ``(env, *, seed, **arguments)``."""

__all__ = [
    "CONTROLLERS",
    "PPO",
    "PRESETS",
    "TPE",
    "ArchiveCallback",
    "CheckpointCallback",
    "Controller",
    "EvaluationCallback",
    "Evolution",
    "Imagination",
    "Largest",
    "LocalSearch",
    "MemoryPolicy",
    "Preset",
    "PromoteCallback",
    "RandomSearch",
    "RecurrentPPO",
    "Reinforce",
    "SlotPolicy",
    "TrackerWriter",
    "Uniform",
    "arguments_of",
    "make_controller",
    "make_logger",
    "take_weights",
]


def make_controller(
    name: str,
    env: VecEnv,
    *,
    seed: int,
    arguments: dict[str, Any],
    init_from: str | Path | None = None,
    init_part: str = "policy",
) -> Controller:
    """A controller by its name.

    Args:
        arguments: Further arguments of its constructor.
        init_from: A run directory or a checkpoint whose policy's weights it begins with; see `take_weights`.
        init_part: What is taken of them: ``policy`` or ``encoder``.

    Raises:
        ConfigError: If the name or an argument is not known, or an argument is of the wrong type or out of range.
        StoreError: If the weights cannot be read or do not fit.
    """
    if name not in CONTROLLERS:
        raise ConfigError(unknown_name("controller", name, CONTROLLERS))
    chosen = CONTROLLERS[name]
    check_arguments(chosen, arguments, of=f"the controller {name!r}", reserved=("env", "seed"))
    if issubclass(chosen, (PPO, Imagination)) and rejects(env):
        raise ConfigError(
            f"the controller {name!r} does not correct for rejected networks, which space.enforce=reject asks for: use "
            "reinforce, or space.enforce=mask"
        )
    policy_kwargs = arguments.get("policy_kwargs")
    if policy_kwargs is not None:
        reserved = ("observation_space", "action_space", "lr_schedule", "use_sde", "critic")
        policy = getattr(chosen, "slot_policy", SlotPolicy)
        check_arguments(policy, policy_kwargs, of="policy_kwargs", reserved=reserved)
    controller = chosen(env, seed=seed, **arguments)
    if init_from is None and init_part != "policy":
        raise ConfigError(f"init_part={init_part} means nothing without init_from")
    if init_from is not None:
        take_weights(controller, init_from, part=init_part)
    return controller


def arguments_of(preset: str, *, controller: str) -> dict[str, Any]:
    """Arguments of a published controller.

    Args:
        controller: The controller that they are wanted for.

    Raises:
        ConfigError: If there is no such preset, or it is for another controller.
    """
    if preset not in PRESETS:
        raise ConfigError(unknown_name("preset", preset, PRESETS))
    if PRESETS[preset].controller != controller:
        raise ConfigError(
            f"the preset {preset!r} is for the controller {PRESETS[preset].controller!r}, not {controller!r}"
        )
    return copy.deepcopy(PRESETS[preset].arguments)
