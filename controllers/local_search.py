"""Local search over sequences of actions: the strongest of the simple baselines."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.search import Masks, SearchController
from rlnas.layout import STOP

Plan = list[int | None]
"""Actions to take, None for a random edit; STOP follows."""


class LocalSearch(SearchController):
    """Keeps the best episode so far, and tries a batch of episodes that each differ from it by one change.

    The incumbent begins as the empty list of actions, STOP at once, which the first episode evaluates. A change appends
    a random legal edit, deletes an action, or replaces one by a random legal edit. An action of the incumbent that is
    illegal after the change gives way to a random legal edit. The best episode of a batch becomes the incumbent if its
    return is higher.

    Args:
        env: Episodes in lock-step.
        seed: Only source of randomness.

    Attributes:
        incumbent: Actions of the best episode so far, without the STOPs at its end.
        best_return: Its return; None before the first batch.

    References:
        White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, arXiv:2005.02960.
    """

    name: ClassVar[str] = "local_search"

    def __init__(self, env: VecEnv, *, seed: int) -> None:
        self.arguments = {"seed": seed}
        self.incumbent: list[int] = []
        self.best_return: float | None = None
        self._plans: list[Plan] = []
        super().__init__(env, seed=seed)

    def begin_batch(self) -> None:
        """Plan one change of the incumbent for each episode."""
        self._plans = [self._changed() for _ in range(self.n_envs)]
        if self.best_return is None:
            self._plans[0] = list(self.incumbent)

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The planned action of each episode where it is legal."""
        planned = [plan[step] if step < len(plan) else STOP for plan in self._plans]
        return np.array([self._legal(action, mask) for action, mask in zip(planned, masks, strict=True)])

    def end_batch(self, actions: NDArray[np.int64], returns: NDArray[np.float64]) -> None:
        """Move to the best episode if it is better than the incumbent."""
        best = int(returns.argmax())
        if self.best_return is None or returns[best] > self.best_return:
            self.best_return = float(returns[best])
            self.incumbent = [int(action) for action in actions[:, best]]
            while self.incumbent and self.incumbent[-1] == STOP:
                self.incumbent.pop()

    def follow(self, mask: Masks, step: int) -> int:
        """The incumbent's action."""
        return self._legal(self.incumbent[step] if step < len(self.incumbent) else STOP, mask)

    def start_changed(self) -> None:
        """Begin at the new start network: the incumbent's actions were for the former one."""
        self.incumbent, self.best_return = [], None

    def state(self) -> dict[str, Any]:
        """The generator and the incumbent."""
        return super().state() | {"incumbent": list(self.incumbent), "best_return": self.best_return}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up generator and incumbent."""
        super().restore(state)
        self.incumbent = [int(action) for action in state["incumbent"]]
        self.best_return = None if state["best_return"] is None else float(state["best_return"])

    def _changed(self) -> Plan:
        plan: Plan = list(self.incumbent)
        kinds = ["append"] * (len(plan) < self.max_steps) + ["delete", "replace"] * (len(plan) > 0)
        kind = kinds[self.generator.integers(len(kinds))]
        if kind == "append":
            return [*plan, None]
        place = int(self.generator.integers(len(plan)))
        return plan[:place] + ([None] if kind == "replace" else []) + plan[place + 1 :]

    def _legal(self, action: int | None, mask: Masks) -> int:
        """The action itself if it is legal, else a random edit, or STOP where there is none."""
        if action is not None and mask[action]:
            return action
        edits = mask.copy()
        edits[STOP] = False
        return self.random_action(edits) if edits.any() else STOP
