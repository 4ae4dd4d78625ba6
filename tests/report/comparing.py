"""Made-up searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlnas.report.comparison import Search


def search(
    controller: str,
    seed: int,
    reward: float | None,
    *,
    task: str = "digits",
    best: Sequence[float | None] = (None, 1.0, 1.0, 1.2),
    seconds: Sequence[float] = (1.0, 1.0, 2.0, 2.0),
    **rest: Any,
) -> Search:
    """One with four evaluations in two batches."""
    known: dict[str, Any] = {"other_s": 0.4, "distinct": 4, "infeasible": 0, "failed": 0, "late_new": 1.0} | rest
    return Search(task, controller, seed, tuple(best), tuple(seconds), reward=reward, **known)


def searches(gains: dict[str, Sequence[float]], **rest: Any) -> list[Search]:
    """Random search at rewards of 1, 1.01, ...; the others at these differences to it, seed by seed."""
    n = max(map(len, gains.values()))
    found = [search("random", seed, 1 + seed / 100, **rest) for seed in range(n)]
    for label, differences in gains.items():
        found += [search(label, seed, 1 + seed / 100 + d, **rest) for seed, d in enumerate(differences)]
    return found
