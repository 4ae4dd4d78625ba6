"""What the environments here need of an episode and of a problem; whatever has it can be played by all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlnas.graph import Graph
from rlnas.layout import Layout
from rlnas.spaces import Limits

Observation = dict[str, NDArray[np.generic]]
"""The entries that `rlnas.layout` describes."""


class Actions(Protocol):
    """The actions that are legal in one state."""

    @property
    def actions(self) -> Iterable[int]:
        """Their numbers, ascending; never none."""
        ...


class Episode(Protocol):
    """A state machine without tensors: actions change it, and nothing is evaluated.

    After the last step, and after a STOP that ends it earlier, only STOP is legal.

    Attributes:
        actions: Every action taken, illegal ones and STOP included.
    """

    actions: list[int]

    @property
    def steps_left(self) -> int:
        """Steps until the episode ends by itself."""
        ...

    @property
    def ended(self) -> bool:
        """True after STOP or the last step."""
        ...

    def legal(self) -> Actions:
        """The legal actions."""
        ...

    def step(self, action: int) -> bool:
        """Take an action; False, and nothing but a step used, if it is illegal."""
        ...

    def observe(self) -> Observation:
        """A fresh observation of the present state."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What an ended episode is worth.

    Attributes:
        reward: Its reward.
        info: ``evaluation``, the record of what was evaluated; ``reward_vector``; ``actions`` and ``seed`` for replays.
    """

    reward: float
    info: dict[str, Any]


@dataclass(frozen=True)
class Late:
    """An ended episode whose evaluation is still in work.

    Attributes:
        number: Under which it will arrive.
        episode: The episode.
        start_id: What it started from.
        seed: Of its evaluation.
    """

    number: int
    episode: Any
    start_id: str
    seed: int


class PaidSpace(Protocol):
    """What all spaces of networks have."""

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps of an episode at most."""
        ...

    @property
    def start(self) -> Graph:
        """The network that rewards and limits are relative to."""
        ...

    @property
    def limits(self) -> Limits:
        """Limits on cost that are known beforehand."""
        ...

    @property
    def enforce(self) -> str:
        """What is done about them; see `MorphSpace`."""
        ...


class Problem(Protocol):
    """Where episodes come from, and what they are worth when they have ended."""

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions, the same for all episodes."""
        ...

    @property
    def max_steps(self) -> int:
        """Steps of an episode at most."""
        ...

    @property
    def origin(self) -> str:
        """Name of what episodes begin with and choose from: a state of one problem suits others of the same name."""
        ...

    def begin(self) -> Episode:
        """A new episode."""
        ...

    def score(self, episodes: Sequence[Any], *, seed: int) -> list[Outcome]:
        """Evaluate ended episodes together."""
        ...

    def score_early(
        self, episodes: Sequence[Any], *, seed: int, lag: int
    ) -> tuple[list[Outcome | Late], list[tuple[int, Outcome]]]:
        """Like `score`, but up to ``lag`` evaluations, of this batch and earlier ones, may still be in work in the end.

        Returns:
            One entry for each episode; and what arrived of earlier batches, by number.

        Raises:
            ConfigError: If nothing can be late here.
        """
        ...

    def finish(self) -> list[Outcome]:
        """Wait for all evaluations that are late; gives their outcomes."""
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


@runtime_checkable
class Weighted(Protocol):
    """A problem whose episodes start from a network with weights, which a state needs on another machine."""

    def save_starts(self, folder: Path) -> None:
        """Write the networks that episodes start from, each into a folder of its own."""
        ...

    def load_starts(self, folder: Path) -> None:
        """Start from the networks that `save_starts` wrote, of the same architecture or promoted from one.

        Raises:
            GraphError: If one is missing or damaged.
            SpaceError: If they do not suit the problem.
        """
        ...
