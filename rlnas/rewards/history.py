"""What was evaluated before, in the order in which it was scored: some rewards depend on it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

from rlnas.rewards.measured import Facts

T = TypeVar("T")


class History:
    """Earlier evaluations of a search, oldest first.

    Rewards that look back are functions of an evaluation and of this. It grows by one entry an episode, in the order of
    the episodes, and lies in checkpoints, so that a search that is resumed pays what an undisturbed one would have.

    Args:
        facts: What earlier evaluations found; None for those that failed or broke a limit.
    """

    def __init__(self, facts: Sequence[Facts | None] = ()) -> None:
        self._facts = list(facts)
        self._folds: dict[Hashable, tuple[int, Any]] = {}

    def __len__(self) -> int:
        return len(self._facts)

    def add(self, facts: Facts | None) -> None:
        """Append one evaluation; None if it failed or broke a limit."""
        self._facts.append(facts)

    def fold(self, key: Hashable, begin: Callable[[], T], take: Callable[[T, Facts], T]) -> T:
        """What comes of taking in all facts one after another; goes on from where the last call with that key ended.

        Args:
            key: Says what ``begin`` and ``take`` do.
            begin: Gives the value before the first fact.
            take: Gives the value after one more, and may change the one before.
        """
        done, value = self._folds[key] if key in self._folds else (0, begin())
        for facts in self._facts[done:]:
            if facts is not None:
                value = take(value, facts)
        self._folds[key] = len(self._facts), value
        return value

    def state(self) -> list[list[float | None] | None]:
        """The evaluations as JSON values."""
        return [None if f is None else [f.accuracy, f.latency_ms, f.n_params, f.macs] for f in self._facts]

    @classmethod
    def restored(cls, state: Sequence[Sequence[float | None] | None]) -> History:
        """Inverse of `state`."""
        return cls([None if row is None else _facts(row) for row in state])


def _facts(row: Sequence[float | None]) -> Facts:
    accuracy, latency_ms, n_params, macs = row
    assert accuracy is not None and n_params is not None and macs is not None
    return Facts(accuracy, latency_ms, int(n_params), int(macs))
