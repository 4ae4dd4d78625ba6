"""A memory of earlier episodes, and what can be learned from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlnas.controllers.arguments import check_arguments
from rlnas.controllers.base import check_positive
from rlnas.errors import ConfigError, unknown_name


@dataclass(frozen=True)
class Remembered:
    """The choices of one episode and its reward.

    Attributes:
        observations: Entries of the observations at steps with more than one legal action, each of shape (steps, ...).
        actions: Actions taken there, shape (steps,).
        log_probs: Their log-probabilities when they were taken, shape (steps,).
        reward: Reward of the episode.
    """

    observations: dict[str, NDArray[Any]]
    actions: NDArray[np.int64]
    log_probs: NDArray[np.float32]
    reward: float


@dataclass(frozen=True)
class Drawn:
    """A batch of remembered episodes as a loss wants them: S steps of E episodes.

    Attributes:
        log_prob: Log-probabilities now, shape (S,).
        old_log_prob: Log-probabilities when the actions were taken, shape (S,).
        entropy: Entropies now, shape (S,).
        advantage: Reward of the step's episode beyond what was expected there, in deviations, shape (S,).
        n_episodes: E.
    """

    log_prob: Tensor
    old_log_prob: Tensor
    entropy: Tensor
    advantage: Tensor
    n_episodes: int


def queue_loss(drawn: Drawn) -> Tensor:
    """Negative log-likelihood of the episodes.

    References:
        Abolafia et al., Neural Program Synthesis with Priority Queue Training, 2018, arXiv:1801.03526.
    """
    return -drawn.log_prob.sum() / drawn.n_episodes


def imitation_loss(drawn: Drawn) -> Tensor:
    """Negative log-likelihood of the steps that turned out better than expected, weighted by how much.

    References:
        Oh et al., Self-Imitation Learning, ICML 2018, arXiv:1806.05635.
    """
    return -(drawn.advantage.clamp(min=0.0) * drawn.log_prob).sum() / drawn.n_episodes


def replay_loss(drawn: Drawn) -> Tensor:
    """Clipped policy gradient on episodes of earlier policies, each step weighted by its change of probability.

    References:
        Adam & Lorraine, Understanding Neural Architecture Search Techniques, 2019, arXiv:1904.00438.
    """
    ratio = (drawn.log_prob - drawn.old_log_prob).exp()
    gain = torch.minimum(ratio * drawn.advantage, ratio.clamp(0.8, 1.2) * drawn.advantage)
    return -gain.sum() / drawn.n_episodes


LOSSES: Final[dict[str, Callable[[Drawn], Tensor]]] = {
    "queue": queue_loss,
    "imitation": imitation_loss,
    "replay": replay_loss,
}
"""What can be learned from a memory, by name."""


@dataclass(frozen=True)
class MemorySettings:
    """What is remembered and how it is learned from.

    Attributes:
        kind: ``queue`` (likelihood of the best distinct episodes), ``imitation`` (of those steps of the best that were
            better than expected) or ``replay`` (policy gradient on random earlier episodes).
        size: Distinct episodes kept: the best ones, or with ``replay`` the newest ones.
        batch_size: Episodes in one gradient step, drawn at random; all by default.
        n_steps: Gradient steps after each update.
        coef: Weight of the loss.
        ent_coef: Weight of the entropy at the remembered steps.
        exploit_after: From this share of training on the learner settles: it learns no more from what it plays, only
            the likelihood of the best episodes of the memory. None for never.
        exploit_size: How many episodes these are.
        exploit_n_steps: Gradient steps after each update then.
    """

    kind: str = "queue"
    size: int = 10
    batch_size: int | None = None
    n_steps: int = 1
    coef: float = 0.5
    ent_coef: float = 0.01
    exploit_after: float | None = None
    exploit_size: int = 1
    exploit_n_steps: int = 8

    def __init__(
        self,
        *,
        kind: str = "queue",
        size: int = 10,
        batch_size: int | None = None,
        n_steps: int = 1,
        coef: float = 0.5,
        ent_coef: float = 0.01,
        exploit_after: float | None = None,
        exploit_size: int = 1,
        exploit_n_steps: int = 8,
    ) -> None:
        if kind not in LOSSES:
            raise ConfigError(unknown_name("kind of memory", kind, LOSSES))
        check_positive(
            size=size,
            batch_size=batch_size,
            n_steps=n_steps,
            coef=coef,
            exploit_size=exploit_size,
            exploit_n_steps=exploit_n_steps,
        )
        if exploit_after is not None and not 0 <= exploit_after < 1:
            raise ConfigError(f"exploit_after={exploit_after} of memory must be at least 0 and less than 1")
        for name, value in locals().items():
            if name != "self":
                object.__setattr__(self, name, value)

    @classmethod
    def of(cls, arguments: dict[str, Any] | None) -> Self | None:
        """From a configuration; None for no memory.

        Raises:
            ConfigError: If a setting is unknown, of the wrong type or out of range.
        """
        if arguments is None:
            return None
        check_arguments(cls, arguments, of="memory", reserved=())
        return cls(**arguments)


class Memory:
    """Distinct episodes, the best or the newest ones.

    Args:
        settings: What to keep.
    """

    def __init__(self, settings: MemorySettings) -> None:
        self.settings = settings
        self._episodes: dict[bytes, Remembered] = {}

    def __len__(self) -> int:
        return len(self._episodes)

    @property
    def episodes(self) -> list[Remembered]:
        """What is remembered: the best first, or the oldest first."""
        return list(self._episodes.values())

    def add(self, episodes: Sequence[Remembered]) -> None:
        """Remember episodes; one with the same actions gives way to the newer one."""
        for episode in episodes:
            key = episode.actions.tobytes()
            self._episodes.pop(key, None)
            self._episodes[key] = episode
        kept = list(self._episodes.items())
        if self.settings.kind == "replay":
            kept = kept[-self.settings.size :]
        else:
            kept = sorted(kept, key=lambda item: -item[1].reward)[: self.settings.size]
        self._episodes = dict(kept)

    def clear(self) -> None:
        """Forget everything."""
        self._episodes = {}

    def tensors(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        found = self.episodes
        if not found:
            return {}
        entries = {f"observations.{name}": [e.observations[name] for e in found] for name in found[0].observations}
        entries |= {"actions": [e.actions for e in found], "log_probs": [e.log_probs for e in found]}
        tensors = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in entries.items()}
        tensors["lengths"] = torch.tensor([len(e.actions) for e in found])
        tensors["rewards"] = torch.tensor([e.reward for e in found], dtype=torch.float64)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `tensors` gave."""
        self.clear()
        if not tensors:
            return
        ends = np.cumsum(tensors["lengths"].numpy())
        for begin, end, reward in zip([0, *ends[:-1]], ends, tensors["rewards"].tolist(), strict=True):
            part = {
                name: t.numpy()[begin:end].copy() for name, t in tensors.items() if name not in ("lengths", "rewards")
            }
            observations = {
                name.removeprefix("observations."): entry for name, entry in part.items() if "observations." in name
            }
            episode = Remembered(observations, part["actions"], part["log_probs"], reward)
            self._episodes[episode.actions.tobytes()] = episode
