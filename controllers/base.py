"""What every controller has beside Stable-Baselines3's interface: its arguments, and a checkpoint without pickles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlnas.errors import ConfigError

LOCK_STEP: Final = "this environment's episodes do not all end together after max_steps steps; use the batched one"


class Controller(BaseAlgorithm):
    """Mixin of all controllers, named before one of Stable-Baselines3's algorithms.

    Attributes:
        name: Name in the registry.
        arguments: Constructor arguments but the environment, as JSON values.
    """

    name: ClassVar[str]
    arguments: dict[str, Any]

    def state(self) -> dict[str, Any]:
        """What the controller remembers beside the policy, its optimizer and the counts, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        assert not state

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that it remembers beside the policy and its optimizer, by names of their own."""
        return {}

    def restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        assert not tensors

    def start_changed(self) -> None:
        """Forget what holds for the former start network only; episodes begin from another one from now on."""

    def save(self, path: str | Path) -> None:  # type: ignore[override]
        """Write a checkpoint folder; see `rlnas.controllers.checkpoint`.

        Raises:
            StoreError: If it cannot be written.
        """
        from rlnas.controllers import checkpoint  # which knows all controllers

        checkpoint.save(self, path)

    @classmethod
    def load(cls, path: str | Path, env: VecEnv) -> Self:  # type: ignore[override]
        """Continue from a checkpoint folder on a fresh environment.

        Raises:
            StoreError: If it is damaged, or that of another controller or environment.
        """
        from rlnas.controllers import checkpoint

        controller = checkpoint.load(path, env, expect=cls)
        assert isinstance(controller, cls)
        return controller

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: NDArray[np.bool_] | None = None) -> None:
        """Also count the episodes that arrived late, and tell the rollout buffer of those that are late."""
        super()._update_info_buffer(infos, dones)
        late = [info.get("late") for info in infos]
        arrived = {number: reward for number, reward, _ in infos[0].get("arrived", ())}
        if self.ep_info_buffer is not None:
            length = episode_steps(self.env) if arrived and self.env is not None else 0
            self.ep_info_buffer.extend({"r": reward, "l": length, "t": 0.0} for reward in arrived.values())
        if arrived or any(number is not None for number in late):
            self.note_late(late, arrived)

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Take the last step of a batch for what it is.

        Args:
            late: For each episode the number under which its reward will arrive; None if it is there.
            arrived: Rewards of earlier episodes, by number.
        """

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        self._last_obs = None  # begin with new episodes: the last ones may have been left half-way
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)


def episode_steps(env: VecEnv) -> int:
    """Steps of an episode, as the environment says.

    Raises:
        ConfigError: If it does not say.
    """
    try:
        return int(env.get_attr("max_steps")[0])
    except AttributeError:
        raise ConfigError("the environment does not say how long an episode is: it has no max_steps") from None


def rollout_steps(env: VecEnv, n_steps: int | None) -> int:
    """Steps of a rollout: those of one episode, or ``n_steps``.

    Raises:
        ConfigError: If ``n_steps`` is no multiple of an episode's length, or that is not known.
    """
    length = episode_steps(env)
    steps = length if n_steps is None else n_steps
    if steps < 1 or steps % length:
        raise ConfigError(f"n_steps={steps} must be a multiple of the episode's length, {length}")
    return steps


def check_lock_step(buffer: RolloutBuffer, max_steps: int) -> None:
    """Check that every episode of a rollout began and ended with the others.

    Raises:
        ConfigError: If one did not.
    """
    begins = np.arange(buffer.buffer_size) % max_steps == 0
    if not np.array_equal(buffer.episode_starts, np.repeat(begins[:, None], buffer.n_envs, axis=1)):
        raise ConfigError(LOCK_STEP)


def check_positive(**values: float | None) -> None:
    """Check numbers that must be greater than 0; None is fine.

    Raises:
        ConfigError: Naming the first that is not.
    """
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name}={value} must be greater than 0")
