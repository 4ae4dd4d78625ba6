"""How many evaluations a search may make, and when it has made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from stable_baselines3.common.callbacks import BaseCallback

from rlnas.cli.config import SearchSettings

PATIENCE: Final = 20
"""A search that counts distinct networks ends after so many times as many episodes: it finds nothing new any more."""


class Budget:
    """Counts evaluations: all of them, or distinct networks only, where those met again are free.

    What was not evaluated, for it broke a limit or was screened out, is no network that counts.

    Args:
        settings: The settings of the search.

    Attributes:
        spent: Evaluations, or distinct networks, so far.
    """

    def __init__(self, settings: SearchSettings) -> None:
        self._allowed = settings.evaluations
        self._distinct = settings.count == "distinct"
        self._n_envs = settings.controller.n_envs
        self._known: dict[str, None] = {}
        self.spent = 0

    @property
    def episodes(self) -> int:
        """Episodes that a search plays at most, whole batches."""
        episodes = self._allowed * (PATIENCE if self._distinct else 1)
        return -(-episodes // self._n_envs) * self._n_envs

    @property
    def shown(self) -> int:
        """What a display should count up to."""
        return self._allowed if self._distinct else self.episodes

    @property
    def done(self) -> bool:
        """True if no further distinct network may be evaluated."""
        return self._distinct and self.spent >= self._allowed

    def spend(self, evaluation: Mapping[str, Any]) -> bool:
        """Count one more; False for a network that comes too late, in the batch in which the search ends."""
        if not self._distinct:
            self.spent += 1
            return True
        if evaluation["status"] == "screened" or not evaluation["cache_key"]:
            return True
        key = identity(evaluation)
        if key not in self._known and not self.done:
            self._known[key] = None
            self.spent += 1
        return key in self._known

    def state(self) -> list[str] | int:
        """What was counted, as JSON values."""
        return list(self._known) if self._distinct else self.spent

    def restore(self, state: list[str] | int) -> None:
        """Take up what `state` gave."""
        if isinstance(state, list):
            self._known = dict.fromkeys(state)
        self.spent = len(state) if isinstance(state, list) else state


def identity(evaluation: Mapping[str, Any]) -> str:
    """Equal for evaluations of the same network, trained in the same way."""
    own = evaluation.get("training")
    return f"{evaluation['graph_key']} {json.dumps(own, sort_keys=True)}" if own else str(evaluation["graph_key"])


def within(found: Iterable[dict[str, Any]], settings: SearchSettings) -> list[dict[str, Any]]:
    """The evaluations of a search that were within its budget."""
    budget = Budget(settings)
    return [evaluation for evaluation in found if budget.spend(evaluation)]


class BudgetCallback(BaseCallback):
    """Ends the training of a controller when its search has no evaluations left.

    Args:
        budget: Counts them.
    """

    def __init__(self, budget: Budget) -> None:
        super().__init__()
        self._budget = budget

    def _on_step(self) -> bool:
        return not self._budget.done
