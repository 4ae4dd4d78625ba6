"""Baselines that know beforehand what they will have evaluated: the largest networks, and uniformly random ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.changes import Plan, next_action
from rlnas.controllers.search import Masks, Played, SearchController
from rlnas.errors import ConfigError

TRIES: Final = 1000
"""Draws in which a network that was not drawn before has to turn up; then one may be drawn again."""


class PlannedSearch(SearchController):
    """Plays episodes that are known before they begin.

    Args:
        env: Episodes in lock-step, whose ``env_method`` knows `method`.
        seed: Seed of the generator.

    Attributes:
        best: The best episode so far; None before the first batch.

    Raises:
        ConfigError: If the environment cannot tell.
    """

    method: ClassVar[str]

    def __init__(self, env: VecEnv, *, seed: int) -> None:
        super().__init__(env, seed=seed)
        self.best: Played | None = None
        self._plans: list[Plan] = []

    def ask(self, *arguments: Any) -> Any:
        """What the environment knows.

        Raises:
            ConfigError: If it does not.
        """
        assert self.env is not None
        try:
            return self.env.env_method(self.method, *arguments, indices=[0])[0]
        except AttributeError:
            raise ConfigError(f"the controller {self.name!r} needs an environment with {self.method}") from None

    @abstractmethod
    def plan(self) -> Plan:
        """The next episode."""

    def begin_batch(self) -> None:
        """Plan all episodes of the batch."""
        self._plans = [self.plan() for _ in range(self.n_envs)]

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The planned action of each episode."""
        pairs = zip(self._plans, masks, strict=True)
        return np.array([next_action(plan, step, mask, self.generator) for plan, mask in pairs])

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """Remember the best."""
        known = [*episodes, *([] if self.best is None else [self.best])]
        self.best = max(reversed(known), key=lambda episode: episode.value)

    def follow(self, mask: Masks, step: int) -> int:
        """The best episode's action."""
        return next_action(self.best.edits if self.best is not None else (), step, mask, self.generator)

    def state(self) -> dict[str, Any]:
        """The generator and the best episode."""
        return super().state() | {"best": None if self.best is None else self.best.to_json()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        self.best = None if state["best"] is None else Played.from_json(state["best"])

    def start_changed(self) -> None:
        """Forget the best episode: it was from the former start network."""
        self.best = None


class Largest(PlannedSearch):
    """The largest networks within the limits, from the largest on; random episodes when there are no more.

    Where networks are edited they are found by a beam search that goes on from the largest. Nothing is learnt.

    Args:
        env: Episodes in lock-step.
        seed: Decides between networks of the same size, and draws the random episodes at the end.
        cost: What is large: ``"macs"`` or ``"n_params"``; of a table any of its columns.

    Raises:
        ConfigError: If the environment does not know that cost.
    """

    name: ClassVar[str] = "largest"
    method: ClassVar[str] = "largest_first"

    def __init__(self, env: VecEnv, *, seed: int, cost: str = "macs") -> None:
        self.arguments = {"seed": seed, "cost": cost}
        self.cost = cost
        self.planned = 0
        super().__init__(env, seed=seed)
        self._order: Iterator[Plan] = self.ask(cost, seed)

    def plan(self) -> Plan:
        """The next smaller network."""
        self.planned += 1
        return next(self._order, None)

    def state(self) -> dict[str, Any]:
        """How far it has come, beside the rest."""
        return super().state() | {"planned": self.planned}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        self.planned = int(state["planned"])
        self._order = islice(self.ask(self.cost, self.seed), self.planned, None)

    def start_changed(self) -> None:
        """Begin with the largest networks from the new start."""
        super().start_changed()
        self.planned, self._order = 0, self.ask(self.cost, self.seed)


class Uniform(PlannedSearch):
    """Random networks within the limits, each as likely as any other, none twice while there are others.

    `RandomSearch` is uniform over actions instead: a network after a choice that leaves few networks is more likely
    there. The difference shows under tight limits. Needs a space whose networks can be counted.

    Args:
        env: Episodes in lock-step.
        seed: Only source of randomness.

    Raises:
        ConfigError: If the environment cannot draw them.
    """

    name: ClassVar[str] = "uniform"
    method: ClassVar[str] = "sample_feasible"

    def __init__(self, env: VecEnv, *, seed: int) -> None:
        self.arguments = {"seed": seed}
        self._drawn: dict[tuple[int, ...], None] = {}
        super().__init__(env, seed=seed)
        self.ask(np.random.default_rng(seed))

    def plan(self) -> Plan:
        """A random network, if possible one that was not drawn before."""
        plan: tuple[int, ...] = ()
        for _ in range(TRIES):
            plan = tuple(self.ask(self.generator))
            if plan not in self._drawn:
                break
        self._drawn[plan] = None
        return plan

    def state(self) -> dict[str, Any]:
        """What was drawn, beside the rest."""
        return super().state() | {"drawn": [list(plan) for plan in self._drawn]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        self._drawn = {tuple(map(int, plan)): None for plan in state["drawn"]}
