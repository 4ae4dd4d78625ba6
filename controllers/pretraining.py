"""What a controller may know before its first evaluation: labels from elsewhere, and behaviour to imitate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from rlnas.controllers.base import Controller, check_positive, episode_steps
from rlnas.controllers.surrogate import Points, Surrogate
from rlnas.errors import ConfigError, StoreError
from rlnas.layout import STOP

FORMAT: Final = "rlnas.labels/1"


@dataclass(frozen=True)
class Labels:
    """Rewards of final states, on another data set, device or task.

    Attributes:
        features: What the environment says of each state.
        rewards: Their rewards.
    """

    features: Sequence[Mapping[str, Any]]
    rewards: Sequence[float]

    def __post_init__(self) -> None:
        if not self.rewards or len(self.features) != len(self.rewards):
            raise ConfigError(f"{len(self.features)} states with {len(self.rewards)} rewards are no labels")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the figures that are known of the states."""
        return tuple(sorted(self.features[0]["known"]))

    @cached_property
    def surrogate(self) -> Surrogate:
        """What these rewards let expect of any state."""
        return Surrogate(Points.of(self.features, names=self.names), self.rewards)

    @classmethod
    def play(cls, env: VecEnv, plans: Sequence[Sequence[int]]) -> Self:
        """Evaluate episodes with given actions.

        Args:
            env: Episodes in lock-step that can be imagined.
            plans: Actions of each episode.

        Raises:
            ConfigError: If the environment cannot be imagined.
        """
        features: list[Mapping[str, Any]] = []
        rewards: list[float] = []
        described = imagined(env, env.num_envs)
        for begin in range(0, len(plans), env.num_envs):
            batch = [list(plan) for plan in plans[begin : begin + env.num_envs]]
            padded = batch + [batch[-1]] * (env.num_envs - len(batch))
            env.reset()
            described.reset()
            totals = np.zeros(env.num_envs)
            for step in range(len(batch[0])):
                actions = np.array([plan[step] for plan in padded])
                totals += env.step(actions)[1]
                infos = described.step(actions)[3]
            features += [infos[i]["features"] for i in range(len(batch))]
            rewards += [float(total) for total in totals[: len(batch)]]
        return cls(features, rewards)

    def save(self, path: str | Path) -> None:
        """Write a file that `load` reads.

        Raises:
            StoreError: If it cannot be written.
        """
        rows = [{**f, "reward": r} for f, r in zip(self.features, self.rewards, strict=True)]
        try:
            Path(path).write_text(json.dumps({"format": FORMAT, "rows": rows}) + "\n")
        except OSError as error:
            raise StoreError(f"cannot write the labels {path}: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            StoreError: If the file is missing or holds no labels.
        """
        try:
            document = json.loads(Path(path).read_text())
            if document["format"] != FORMAT:
                raise StoreError(f"{path} is in the format {document['format']!r}, not {FORMAT!r}")
            features = [{"choices": row["choices"], "known": row["known"]} for row in document["rows"]]
            return cls(features, [float(row["reward"]) for row in document["rows"]])
        except OSError as error:
            raise StoreError(f"cannot read the labels {path}: {error.strerror}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path} holds no labels: {error!r}") from None


def imagined(env: VecEnv, n_envs: int) -> VecEnv:
    """An environment's episodes without evaluation.

    Raises:
        ConfigError: If it has none.
    """
    try:
        imagine = env.imagined  # type: ignore[attr-defined]
    except AttributeError:
        raise ConfigError(
            "this environment cannot be imagined: it has no method imagined(n_envs), which gives the same episodes "
            "without evaluation"
        ) from None
    found: VecEnv = imagine(n_envs)
    return found


def search_plans(
    env: VecEnv,
    controller: str,
    *,
    seed: int,
    evaluations: int,
    best: int,
    arguments: dict[str, Any] | None = None,
) -> list[tuple[int, ...]]:
    """Play a controller, and give the actions of its best episodes.

    Args:
        env: Where it plays; its episodes are evaluated.
        controller: Name of a controller, such as ``evolution``.
        evaluations: Episodes that it plays at least.
        best: How many to give; episodes that end alike count once.
        arguments: Of the controller.

    Raises:
        ConfigError: If the controller or an argument is not known.
    """
    from rlnas.controllers import make_controller  # which knows all controllers

    player = make_controller(controller, env, seed=seed, arguments=arguments or {})
    player.set_logger(Logger(None, []))
    played = _Played()
    player.learn(evaluations * episode_steps(env), callback=played)
    found = sorted(played.episodes.values(), key=lambda episode: -episode[0])
    return [actions for _, actions in found[:best]]


def imitate(
    controller: Controller, plans: Sequence[Sequence[int]], *, n_steps: int, ent_coef: float = 0.01
) -> list[float]:
    """Train a controller's policy to take given actions: behaviour cloning.

    Args:
        controller: One with a policy, whose environment can be imagined.
        plans: Actions of whole episodes, such as `search_plans` gives.
        n_steps: Gradient steps of its own optimizer, each on all of them.
        ent_coef: Weight of the entropy, so that the policy goes on exploring.

    Returns:
        The negative log-likelihood of an episode before each step.

    Raises:
        ConfigError: If the controller has no policy, the plans are illegal, or the environment cannot be imagined.

    References:
        Pomerleau, Efficient Training of Artificial Neural Networks for Autonomous Navigation, Neural Computation, 1991.
    """
    policy = getattr(controller, "policy", None)
    if not isinstance(policy, ActorCriticPolicy) or controller.env is None:
        raise ConfigError(f"the controller {controller.name!r} has no policy that could imitate")
    check_positive(n_steps=n_steps, plans=len(plans))
    observations, actions = _states(imagined(controller.env, len(plans)), plans)
    policy.set_training_mode(True)
    losses = []
    for _ in range(n_steps):
        _, log_prob, entropy = policy.evaluate_actions(observations, actions)
        assert entropy is not None
        likelihood = -log_prob.sum() / len(plans)
        policy.optimizer.zero_grad()
        (likelihood - ent_coef * entropy.mean()).backward()  # type: ignore[no-untyped-call]
        policy.optimizer.step()
        losses.append(likelihood.item())
    return losses


def _states(env: VecEnv, plans: Sequence[Sequence[int]]) -> tuple[dict[str, Tensor], Tensor]:
    """Observations of all steps at which there was a choice, and the actions taken there."""
    seen: list[dict[str, NDArray[Any]]] = []
    taken: list[NDArray[np.int64]] = []
    now = env.reset()
    for step in range(episode_steps(env)):
        actions = np.array([plan[step] if step < len(plan) else STOP for plan in plans])
        assert isinstance(now, dict)
        mask = now["action_mask"].astype(np.bool_)
        if not mask[np.arange(len(plans)), actions].all():
            raise ConfigError(f"an action to imitate is illegal in step {step + 1} of its episode")
        choice = mask.sum(axis=1) > 1
        seen.append({name: entry[choice] for name, entry in now.items()})
        taken.append(actions[choice])
        now = env.step(actions)[0]
    entries = {name: torch.as_tensor(np.concatenate([part[name] for part in seen])) for name in seen[0]}
    return entries, torch.as_tensor(np.concatenate(taken))


class _Played(BaseCallback):
    """Rewards and actions of all episodes, by the keys of their ends."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: dict[str, tuple[float, tuple[int, ...]]] = {}

    def _on_step(self) -> bool:
        for done, info in zip(self.locals["dones"], self.locals["infos"], strict=True):
            if done and "late" not in info:
                record = info["evaluation"]
                found = float(record["reward"]), tuple(int(action) for action in info["actions"])
                self.episodes[record["graph_key"]] = max(found, self.episodes.get(record["graph_key"], found))
        return True
