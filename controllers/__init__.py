"""Controllers: what decides which networks are evaluated. All are driven like Stable-Baselines3's algorithms."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.arguments import check_arguments
from rlnas.controllers.base import Controller
from rlnas.controllers.callbacks import CheckpointCallback, EvaluationCallback, PromoteCallback
from rlnas.controllers.evolution import Evolution
from rlnas.controllers.local_search import LocalSearch
from rlnas.controllers.logging import TrackerWriter, make_logger
from rlnas.controllers.policies import MemoryPolicy, SlotPolicy
from rlnas.controllers.ppo import PPO
from rlnas.controllers.random_search import RandomSearch
from rlnas.controllers.recurrent_ppo import RecurrentPPO
from rlnas.controllers.reinforce import Reinforce
from rlnas.errors import ConfigError, unknown_name

CONTROLLERS: dict[str, type[PPO] | type[Reinforce] | type[RandomSearch] | type[LocalSearch] | type[Evolution]] = {
    "ppo": PPO,
    "recurrent_ppo": RecurrentPPO,
    "reinforce": Reinforce,
    "random": RandomSearch,
    "local_search": LocalSearch,
    "evolution": Evolution,
}
"""Controllers by name; each is made from ``(env, *, seed, **arguments)``."""

__all__ = [
    "CONTROLLERS",
    "PPO",
    "CheckpointCallback",
    "Controller",
    "EvaluationCallback",
    "Evolution",
    "LocalSearch",
    "MemoryPolicy",
    "PromoteCallback",
    "RandomSearch",
    "RecurrentPPO",
    "Reinforce",
    "SlotPolicy",
    "TrackerWriter",
    "make_controller",
    "make_logger",
]


def make_controller(name: str, env: VecEnv, *, seed: int, arguments: dict[str, Any]) -> Controller:
    """A controller by its name.

    Args:
        arguments: Further arguments of its constructor.

    Raises:
        ConfigError: If the name or an argument is not known, or an argument is of the wrong type or out of range.
    """
    if name not in CONTROLLERS:
        raise ConfigError(unknown_name("controller", name, CONTROLLERS))
    chosen = CONTROLLERS[name]
    check_arguments(chosen, arguments, of=f"the controller {name!r}", reserved=("env", "seed"))
    policy_kwargs = arguments.get("policy_kwargs")
    if policy_kwargs is not None:
        reserved = ("observation_space", "action_space", "lr_schedule", "use_sde", "critic")
        policy = getattr(chosen, "slot_policy", SlotPolicy)
        check_arguments(policy, policy_kwargs, of="policy_kwargs", reserved=reserved)
    return chosen(env, seed=seed, **arguments)
