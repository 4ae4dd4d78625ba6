"""Local search over sequences of actions: the strongest of the simple baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rlnas.controllers.changes import Plan, neighbours, next_action, one_of
from rlnas.controllers.search import Masks, Played, SearchController
from rlnas.errors import ConfigError, unknown_name

MOVES: Final = ("first", "batch", "all")
"""When local search goes on to a better neighbour; see `LocalSearch`."""


class LocalSearch(SearchController):
    """Tries the neighbours of the incumbent, which differ from it by one change, none of them twice.

    The first episode stops at once where that is legal. A change appends a legal edit, deletes one, or puts another in
    its place; what is illegal after it gives way to a random legal edit. When all neighbours of the incumbent have been
    tried and none is better, the search begins anew at a random episode.

    Args:
        env: Episodes in lock-step.
        seed: Only source of randomness.
        move: Go on to the ``"first"`` better neighbour of a batch, to the best of a ``"batch"`` if it is better, or to
            the best of ``"all"`` neighbours, when these have been tried. With one episode a batch the first two are the
            same.

    Attributes:
        incumbent: The episode whose neighbours are tried; None before there is one.
        best: The best episode so far.

    Raises:
        ConfigError: If ``move`` is not known.

    References:
        White et al., Exploring the Loss Landscape in Neural Architecture Search, UAI 2021, arXiv:2005.02960.
    """

    name: ClassVar[str] = "local_search"
    incumbent: Played | None
    best: Played | None
    _better: Played | None  # best neighbour so far, while all of them are tried
    _tried: dict[tuple[int | None, ...], None]  # plans and episodes
    _plans: list[Plan]

    def __init__(self, env: VecEnv, *, seed: int, move: str = "batch") -> None:
        if move not in MOVES:
            raise ConfigError(unknown_name("move of local_search:", move, MOVES))
        self.arguments = {"seed": seed, "move": move}
        self.move = move
        self._forget()
        super().__init__(env, seed=seed)

    def begin_batch(self) -> None:
        """Plan an untried neighbour of the incumbent for each episode, a random episode where there is none left."""
        if self.incumbent is None:
            fresh: list[Plan] = [()] + [(None,)] * (self.n_envs - 1)
            self._plans = [None] * self.n_envs if self._tried else fresh
            return
        untried = self._untried(self.incumbent)
        if not untried and self._better is not None:
            self.incumbent, self._better = self._better, None
            untried = self._untried(self.incumbent)
        if not untried:
            self.incumbent = None
            self._plans = [None] * self.n_envs
            return
        self._plans = []
        for _ in range(self.n_envs):
            plan = one_of(untried, self.generator) if any(untried.values()) else None
            self._plans.append(plan)
            for choices in untried.values():
                if plan in choices:
                    choices.remove(plan)
            if plan is not None:
                self._tried[plan] = None

    def choose(self, masks: Masks, step: int) -> NDArray[np.int64]:
        """The planned action of each episode where it is legal."""
        pairs = zip(self._plans, masks, strict=True)
        return np.array([next_action(plan, step, mask, self.generator) for plan, mask in pairs])

    def end_batch(self, episodes: Sequence[Played]) -> None:
        """Move on, if one is better than the incumbent."""
        for episode in episodes:
            self._tried[episode.edits] = None
            if self.best is None or episode.value > self.best.value:
                self.best = episode
        if self.incumbent is None:
            self.incumbent = max(episodes, key=lambda e: e.value)
            return
        bar = self.incumbent if self._better is None else self._better
        better = [episode for episode in episodes if episode.value > bar.value]
        if not better:
            return
        chosen = better[0] if self.move == "first" else max(better, key=lambda e: e.value)
        if self.move == "all":
            self._better = chosen
        else:
            self.incumbent = chosen

    def follow(self, mask: Masks, step: int) -> int:
        """The best episode's action."""
        return next_action(self.best.edits if self.best is not None else (), step, mask, self.generator)

    def start_changed(self) -> None:
        """Begin at the new start network: all actions so far were for the former one."""
        self._forget()

    def state(self) -> dict[str, Any]:
        """The generator, the incumbent, and what has been tried."""
        known = {"incumbent": self.incumbent, "best": self.best, "better": self._better}
        named = {name: None if episode is None else episode.to_json() for name, episode in known.items()}
        return super().state() | named | {"tried": [list(edits) for edits in self._tried]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        super().restore(state)
        names = ("incumbent", "best", "better")
        self.incumbent, self.best, self._better = (
            None if state[name] is None else Played.from_json(state[name]) for name in names
        )
        self._tried = {tuple(map(int, edits)): None for edits in state["tried"]}

    def _forget(self) -> None:
        self.incumbent = self.best = self._better = None
        self._tried, self._plans = {}, []

    def _untried(self, episode: Played) -> dict[str, list[tuple[int, ...]]]:
        kinds = neighbours(episode)
        left = {kind: [plan for plan in plans if plan not in self._tried] for kind, plans in kinds.items()}
        return {kind: plans for kind, plans in left.items() if plans}
