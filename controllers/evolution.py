"""Regularized evolution over sequences of actions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.changes import Plan, neighbours, next_action, one_of
from rlnas.controllers.search import Masks, Played, SearchController
from rlnas.errors import ConfigError


class Evolution(SearchController):
    """Keeps the youngest episodes; each new one is the best of a random sample of them with one change.

    The first episodes are random. A change is that of local search: it appends a legal edit, deletes one, or puts
    another in its place; what is illegal after it gives way to a random legal edit. Members die of age only, so that
    one that was good by luck does not stay.

    Args:
        env: Episodes in lock-step. Those of one batch have parents from the same population.
        seed: Only source of randomness.
        population: Members that live.
        sample: Members of which the best becomes a parent, drawn with replacement.

    Attributes:
        members: The living, oldest first.
        best: The best episode so far; None before the first batch.

    Raises:
        ConfigError: If ``sample`` is not between 1 and ``population``.

    References:
        Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019, arXiv:1802.01548.
    """

    name: ClassVar[str] = "evolution"
    members: deque[Played]
    best: Played | None
    _plans: list[Plan]

    def __init__(self, env: VecEnv, *, seed: int, population: int = 20, sample: int = 5) -> None:
        if not 1 <= sample <= population:
            raise ConfigError(f"sample={sample} must be at least 1 and at most population={population}")
        self.arguments = {"seed": seed, "population": population, "sample": sample}
        self.population, self.sample = population, sample
        self._forget()
        super().__init__(env, seed=seed)

    def begin_batch(self) -> None:
        """Plan a random episode while the population is not full, then a child of a good member."""
        missing = self.population - len(self.members)
        self._plans = [None if i < missing else self._child() for i in range(self.n_envs)]

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The planned action of each episode where it is legal."""
        pairs = zip(self._plans, masks, strict=True)
        return np.array([next_action(plan, step, mask, self.generator) for plan, mask in pairs])

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """The new members join, and the oldest die."""
        for episode in episodes:
            self.members.append(episode)
            if self.best is None or episode.value > self.best.value:
                self.best = episode

    def follow(self, mask: Masks, step: int) -> int:
        """The best episode's action."""
        return next_action(self.best.edits if self.best is not None else (), step, mask, self.generator)

    def start_changed(self) -> None:
        """Begin with a new population: the actions of the old one were for the former start network."""
        self._forget()

    def state(self) -> dict[str, Any]:
        """The generator and the population."""
        best = None if self.best is None else self.best.to_json()
        return super().state() | {"members": [member.to_json() for member in self.members], "best": best}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        self.members.extend(Played.from_json(member) for member in state["members"])
        self.best = None if state["best"] is None else Played.from_json(state["best"])

    def _forget(self) -> None:
        self.members, self.best, self._plans = deque(maxlen=self.population), None, []

    def _child(self) -> Plan:
        """The best of a sample with one change; a random episode while nobody lives."""
        if not self.members:
            return None
        drawn = self.generator.integers(len(self.members), size=self.sample)
        parent = max((self.members[i] for i in drawn), key=lambda member: member.value)
        changed = neighbours(parent)
        return one_of(changed, self.generator) if changed else None
