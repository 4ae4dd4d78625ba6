"""What a controller may know before its first evaluation: labels from elsewhere, and behaviour to imitate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.surrogate import Points, Surrogate
from rlnas.errors import ConfigError, StoreError

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
