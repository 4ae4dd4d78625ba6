"""A memory of earlier episodes, and the gradient steps that a learner takes on it after an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from rlnas.controllers.arguments import check_arguments
from rlnas.controllers.base import Controller, check_positive
from rlnas.controllers.buffer import ChoiceBuffer
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
        exploit_after: From this share of training on the learner settles: entropy earns nothing any more, and what is
            learned of the memory is the likelihood of its best episodes. None for never.
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


class Remembering(Controller):
    """Mixin of learners with a `ChoiceBuffer` that may have a memory of earlier episodes.

    Attributes:
        memory: What is remembered; None without one.
    """

    memory: Memory | None = None
    policy: ActorCriticPolicy
    rollout_buffer: RolloutBuffer
    max_grad_norm: float
    ent_coef: float
    _current_progress_remaining: float

    @property
    def exploiting(self) -> bool:
        """True in the last part of training, where only the best episodes of the memory count."""
        after = None if self.memory is None else self.memory.settings.exploit_after
        return after is not None and 1.0 - self._current_progress_remaining >= after

    @property
    def present_ent_coef(self) -> float:
        """What the entropy of the policy is weighted with now."""
        return 0.0 if self.exploiting else self.ent_coef

    def remember(self) -> None:
        """Take in the rollout's episodes, before an update."""
        if self.memory is not None:
            assert isinstance(self.rollout_buffer, ChoiceBuffer)
            self.memory.add(rollout_episodes(self.rollout_buffer))

    def learn_from_memory(self) -> None:
        """Take gradient steps on remembered episodes, after an update."""
        if self.memory is None or not len(self.memory):
            return
        settings, episodes = self.memory.settings, self.memory.episodes
        self.policy.set_training_mode(True)
        losses = []
        n_steps = settings.n_steps
        if self.exploiting:
            n_steps = settings.exploit_n_steps
            episodes = sorted(episodes, key=lambda episode: -episode.reward)[: settings.exploit_size]
        for _ in range(n_steps):
            drawn = self._draw(episodes)
            if self.exploiting:
                loss = queue_loss(drawn)
            else:
                loss = settings.coef * LOSSES[settings.kind](drawn) - settings.ent_coef * drawn.entropy.mean()
            self.policy.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            losses.append(loss.item())
        self.logger.record("train/memory_loss", float(np.mean(losses)))
        self.logger.record("train/memory_best", max(episode.reward for episode in self.memory.episodes))

    def expected_rewards(self, values: Tensor) -> Tensor:
        """What an episode's reward is compared with at each step.

        Args:
            values: The policy's values there, shape (S,).
        """
        return values

    def start_changed(self) -> None:
        """Forget episodes of the former start network."""
        super().start_changed()
        if self.memory is not None:
            self.memory.clear()

    def tensors(self) -> dict[str, Tensor]:
        """The memory."""
        return {} if self.memory is None else self.memory.tensors()

    def restore_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the memory."""
        if self.memory is not None:
            self.memory.restore(tensors)

    def _draw(self, episodes: Sequence[Remembered]) -> Drawn:
        """Some of the episodes, under the present policy."""
        assert self.memory is not None
        wanted = self.memory.settings.batch_size or len(episodes)
        chosen = [episodes[i] for i in np.random.permutation(len(episodes))[:wanted]]
        rewards = np.array([episode.reward for episode in episodes])
        steps = [len(episode.actions) for episode in chosen]
        observations = {
            name: torch.as_tensor(np.concatenate([episode.observations[name] for episode in chosen]))
            for name in chosen[0].observations
        }
        actions = torch.as_tensor(np.concatenate([episode.actions for episode in chosen]))
        values, log_prob, entropy = self.policy.evaluate_actions(observations, actions)
        assert entropy is not None
        earned = torch.tensor(np.repeat([episode.reward for episode in chosen], steps), dtype=torch.float32)
        deviation = max(float(rewards.std()), 1e-6)
        return Drawn(
            log_prob,
            torch.as_tensor(np.concatenate([episode.log_probs for episode in chosen])),
            entropy,
            (earned - self.expected_rewards(values.detach().flatten())) / deviation,
            len(chosen),
        )


def rollout_episodes(buffer: ChoiceBuffer) -> list[Remembered]:
    """Whole episodes of a full rollout whose rewards are there, and those that enter from earlier rollouts.

    Steps with a single legal action are left out, and so are episodes without a choice.
    """
    there, _ = buffer.episode_rewards
    begins = np.flatnonzero(buffer.episode_starts[:, 0])
    ends = [*begins[1:], buffer.buffer_size]
    found = []
    for begin, end in zip(begins, ends, strict=True):
        for i in range(buffer.n_envs):
            if there[begin, i]:
                entries = {name: entry[begin:end, i] for name, entry in buffer.observations.items()}
                reward = float(buffer.rewards[begin:end, i].sum())
                found.append((entries, buffer.actions[begin:end, i], buffer.log_probs[begin:end, i], reward))
    for steps in buffer.entering:
        found.append((steps.observations, steps.actions, steps.log_probs, steps.reward))
    made = []
    for observations, actions, log_probs, reward in found:
        choices = np.flatnonzero(observations["action_mask"].sum(axis=-1) > 1)
        if len(choices):
            chosen = {name: entry[choices].copy() for name, entry in observations.items()}
            flat = actions.reshape(len(actions), -1)[choices, 0].astype(np.int64)
            made.append(Remembered(chosen, flat, log_probs[choices].astype(np.float32), reward))
    return made
