"""The single environment: one episode of any problem, as Gymnasium wants it."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from rlnas.envs.picture import check_pictures, picture
from rlnas.envs.protocols import Episode, Observation, Problem, Weighted
from rlnas.envs.replaying import replayed
from rlnas.envs.shaping import Payments
from rlnas.envs.spaces import action_space, observation_space
from rlnas.errors import SpaceError

P = TypeVar("P")

STATE_FILE = "state.json"


def given_or_made(problem: P | None, make: Callable[..., P], settings: dict[str, Any]) -> P:
    """The problem that was given, or one made from settings.

    Raises:
        SpaceError: If both are given.
    """
    if problem is None:
        return make(**settings)
    if settings:
        raise SpaceError(
            f"give either a problem or its settings, not both: {', '.join(settings)} (a problem goes with the ids "
            "rlnas/Morph-v0, rlnas/Build-v0 and rlnas/NASBench201-v0; the others are settings of these)"
        )
    return problem


def _lasting(info: dict[str, Any]) -> dict[str, Any]:
    """What an outcome says, but for whether it was known before: the same actions have to give the same info."""
    if "evaluation" not in info:
        return info
    return info | {"evaluation": {name: value for name, value in info["evaluation"].items() if name != "cached"}}


class EpisodeEnv(gym.Env[Observation, np.int64]):
    """Plays the episodes of a problem, one after the other.

    Args:
        problem: Where episodes come from, and what scores them.
        seed: Seed of evaluations until `reset` gives one.
        render_mode: ``"ansi"`` makes `render` return text, ``"rgb_array"`` a picture.

    Raises:
        ConfigError: If pictures are wanted, and matplotlib is not installed.
        SpaceError: If the render mode is not known.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 2}  # noqa: RUF012  (gymnasium's own form)

    def __init__(self, problem: Problem, *, seed: int, render_mode: str | None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise SpaceError(f"render_mode={render_mode!r} is not known; use 'ansi', 'rgb_array' or None")
        if render_mode == "rgb_array":
            check_pictures()
        self.problem = problem
        self.render_mode = render_mode
        self.observation_space: gym.Space[Any] = observation_space(problem.layout)
        self.action_space = action_space(problem.layout)
        self._evaluation_seed = seed
        self._payments = Payments(problem)
        self._episode: Episode = self._begun()

    @property
    def max_steps(self) -> int:
        """Steps in an episode at most."""
        return self.problem.max_steps

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._evaluation_seed = seed
        self._episode = self._begun()
        return self._episode.observe(), {}

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        over: bool = self._episode.ended
        if over:
            raise ResetNeeded("the episode has ended; call reset() first")
        episode, seed = self._episode, self._evaluation_seed
        self._payments.before([episode], seed=seed)
        legal = episode.step(int(action))
        info: dict[str, Any] = {"illegal_action": not legal}
        reward = 0.0
        if episode.ended:
            outcome = self.problem.score([episode], seed=seed)[0]
            reward, info = outcome.reward, info | _lasting(outcome.info)
        (reward,) = self._payments.pay([reward], [episode], ended=episode.ended, seed=seed)
        return episode.observe(), reward, episode.ended, False, info | self._payments.info(0)

    def _begun(self) -> Episode:
        """A new episode."""
        self._payments.begin(1)
        return self.problem.begin()

    def action_masks(self) -> NDArray[np.bool_]:
        """True where an action is legal, shape (actions,)."""
        mask = np.zeros(self.problem.layout.n_actions, dtype=np.bool_)
        mask[list(self._episode.legal().actions)] = True
        return mask

    def render(self) -> str | NDArray[np.uint8] | None:
        """The present state as a table, or as a picture: red, green and blue, always of shape (720, 1080, 3)."""
        if self.render_mode is None:
            return None
        text = self._text()
        return text if self.render_mode == "ansi" else picture(self._episode, self.problem, text=text)

    @abstractmethod
    def _text(self) -> str:
        """The present state as text."""

    def close(self) -> None:
        self.problem.close()

    # ------------------------------------------------------------------------------------- states and reproduction

    def state(self) -> str:
        """The episode as JSON: what it started from, its seed and its actions.

        Equal for equal states, so that it can be a key. Weights are not in it: see `save_state`.
        """
        actions = [int(a) for a in self._episode.actions]
        return json.dumps({"start": self.problem.origin, "seed": self._evaluation_seed, "actions": actions})

    def restore(self, state: str) -> Observation:
        """Go to a state that `state` gave; nothing is evaluated.

        Raises:
            SpaceError: If it is no state, or one of another start or space.
        """
        seed, actions = self._suits(_read_state(state))
        episode = replayed(self.problem, actions)
        self._payments.begin(1)
        self._evaluation_seed, self._episode = seed, episode
        self._payments.forget()
        return self._episode.observe()

    def save_state(self, folder: str | Path) -> None:
        """Write a state that another machine can go to: the start network's weights lie beside it.

        ``state.json``, and in a folder for each network ``graph.json`` and ``weights.safetensors``. The start network
        is trained for it if that is still to be done.

        Raises:
            SpaceError: If it cannot be written.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
            if isinstance(self.problem, Weighted):
                self.problem.save_starts(path)
            (path / STATE_FILE).write_text(self.state() + "\n")
        except OSError as error:
            raise SpaceError(f"cannot write the state into {path}: {error.strerror}") from None

    def load_state(self, folder: str | Path) -> Observation:
        """Go to a state that `save_state` wrote; the problem starts from the networks in it from then on.

        Raises:
            GraphError: If a network is missing or damaged.
            SpaceError: If it cannot be read, is no state, or one of another start or space.
        """
        path = Path(folder)
        try:
            text = (path / STATE_FILE).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SpaceError(f"cannot read {path / STATE_FILE}: {error}") from None
        _read_state(text)
        if isinstance(self.problem, Weighted):
            self.problem.load_starts(path)
        return self.restore(text)

    def _suits(self, data: dict[str, Any]) -> tuple[int, list[Any]]:
        """Seed and actions of a state that belongs here."""
        if data["start"] != self.problem.origin:
            raise SpaceError("the state belongs to another start or another space")
        return data["seed"], data["actions"]

    def fork(self) -> Self:
        """An independent environment in the same state, sharing the problem and its results."""
        twin = type(self)(problem=self.problem, seed=self._evaluation_seed, render_mode=self.render_mode)
        twin.restore(self.state())
        return twin

    def replay(self, record: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Play an episode again from its record, ``seed`` and ``actions`` as in ``info``.

        Returns:
            The sum of its rewards, and its last info.
        """
        self.reset(seed=int(record["seed"]))
        total = 0.0
        info: dict[str, Any] = {}
        for action in record["actions"]:
            _, reward, ended, _, info = self.step(np.int64(action))
            total += reward
            if ended:
                break
        return total, info


def _read_state(text: str) -> dict[str, Any]:
    """What `state` put together."""
    try:
        data: dict[str, Any] = json.loads(text)
        return {**data, "start": data["start"], "seed": int(data["seed"]), "actions": list(data["actions"])}
    except (ValueError, KeyError, TypeError):
        raise SpaceError("this is no state: it must be what state() gave") from None
