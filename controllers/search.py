"""Search without a policy to train, driven exactly like Stable-Baselines3's algorithms: the base of the baselines."""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.base import LOCK_STEP, Controller, episode_steps
from rlnas.errors import ConfigError
from rlnas.layout import STOP

Masks = NDArray[np.bool_]


@dataclass(frozen=True)
class Played:
    """An episode as it was played.

    Attributes:
        actions: What was done, one action a step.
        legal: What could have been done at each step.
        value: Sum of rewards.
    """

    actions: tuple[int, ...]
    legal: tuple[tuple[int, ...], ...]
    value: float

    @property
    def edits(self) -> tuple[int, ...]:
        """The actions before STOP."""
        return self.actions[: self.actions.index(STOP)] if STOP in self.actions else self.actions

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"actions": list(self.actions), "legal": [list(step) for step in self.legal], "value": self.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Played:
        """What `to_json` gave."""
        actions, legal = tuple(map(int, data["actions"])), tuple(tuple(map(int, step)) for step in data["legal"])
        return cls(actions, legal, float(data["value"]))


class SearchController(Controller):
    """Plays batches of whole episodes; what follows from them is a subclass's business.

    Callbacks, loggers, ``num_timesteps``, ``learn`` and ``predict`` are those of Stable-Baselines3. All randomness
    comes from an own generator.

    Args:
        env: Episodes in lock-step; its ``max_steps`` is an episode's length.
        seed: Seed of the generator.
    """

    def __init__(self, env: VecEnv, *, seed: int) -> None:
        super().__init__(BasePolicy, env, learning_rate=0.0, support_multi_env=True, seed=seed, device="cpu")
        self.max_steps = episode_steps(env)
        self._late: list[int | None] = []
        self._arrived: dict[int, float] = {}
        self._held: dict[int, Played] = {}  # late episodes by number
        self._setup_model()

    def _setup_model(self) -> None:
        assert self.env is not None
        self.generator = np.random.default_rng(self.seed)
        self.env.seed(self.seed)

    @abstractmethod
    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """One legal action for each episode of the batch.

        Args:
            masks: True where an action is legal, shape (episodes, actions).
            step: Steps taken so far in these episodes.
        """

    def begin_batch(self) -> None:
        """Prepare for the episodes to come."""

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """Learn from the episodes whose rewards are there."""

    def state(self) -> dict[str, Any]:
        """State of the generator."""
        return {"generator": self.generator.bit_generator.state}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the generator's state."""
        self.generator.bit_generator.state = state["generator"]

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "search",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Play batches until so many steps are taken; arguments as in Stable-Baselines3.

        Raises:
            ConfigError: If the episodes do not end together.
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        iteration = 0
        while self.num_timesteps < total_timesteps and self._play(callback):
            iteration += 1
            self._n_updates += 1
            if iteration % log_interval == 0:
                self._dump_logs(iteration)
        callback.on_training_end()
        return self

    def predict(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """A legal action for one observation or a batch of them.

        Args:
            state: Steps taken so far in each episode, as returned by the call before.
            episode_start: True where an episode begins.
            deterministic: Without effect: what there is to follow is followed, and the rest is random.
        """
        assert isinstance(observation, dict)
        masks = np.asarray(observation["action_mask"]).astype(np.bool_)
        rows = np.atleast_2d(masks)
        steps = np.zeros(len(rows), dtype=np.int64) if state is None else state[0]
        if episode_start is not None:
            steps = np.where(episode_start, 0, steps)
        actions = np.array([self.follow(row, int(step)) for row, step in zip(rows, steps, strict=True)])
        return actions if masks.ndim > 1 else actions[0], (steps + 1,)

    @abstractmethod
    def follow(self, mask: Masks, step: int) -> int:
        """The action at a step of the best that is known, for ``predict``."""

    def random_action(self, mask: Masks) -> int:
        """A uniformly random legal action."""
        return int(self.generator.choice(np.flatnonzero(mask)))

    def _play(self, callback: BaseCallback) -> bool:
        """One batch of episodes; False if a callback asks to stop."""
        assert self.env is not None
        callback.on_rollout_start()
        self.begin_batch()
        taken: list[NDArray[np.int64]] = []
        legal: list[list[tuple[int, ...]]] = []
        returns = np.zeros(self.n_envs)
        for step in range(self.max_steps):
            assert isinstance(self._last_obs, dict)
            masks = self._last_obs["action_mask"].astype(np.bool_)
            legal.append([tuple(np.flatnonzero(mask).tolist()) for mask in masks])
            actions = self.choose(masks, step)
            new_obs, rewards, dones, infos = self.env.step(actions)
            self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
            self.num_timesteps += self.n_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            taken.append(actions)
            returns += rewards
            if not np.all(dones == (step == self.max_steps - 1)):
                raise ConfigError(LOCK_STEP)
        columns = zip(np.array(taken).T.tolist(), zip(*legal, strict=True), returns.tolist(), strict=True)
        self._end([Played(tuple(actions), could, value) for actions, could, value in columns])
        callback.on_rollout_end()
        return True

    def note_late(self, late: Sequence[int | None], arrived: Mapping[int, float]) -> None:
        """Remember which episodes of the batch have no reward yet, and what arrived."""
        self._late, self._arrived = list(late), dict(arrived)

    def _end(self, episodes: list[Played]) -> None:
        """Let the subclass learn from the episodes whose rewards are there."""
        late, arrived = self._late, self._arrived
        self._late, self._arrived = [], {}
        known = [
            replace(self._held.pop(number), value=reward) for number, reward in arrived.items() if number in self._held
        ]
        there = [e for e, number in zip(episodes, late or [None] * len(episodes), strict=True) if number is None]
        self._held |= {number: e for e, number in zip(episodes, late, strict=False) if number is not None}
        if there or known:
            self.end_batch([*there, *known])

    def _dump_logs(self, iteration: int) -> None:
        """Stable-Baselines3's keys of a rollout."""
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        self.logger.record("time/iterations", iteration)
        if self.ep_info_buffer:
            self.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in self.ep_info_buffer]))
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed))
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self.logger.dump(step=self.num_timesteps)
