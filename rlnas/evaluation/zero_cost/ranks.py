"""From scores of several networks to one order of them: single scores, and votes of several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

Columns = Sequence[Sequence[float]]
"""For each score its values, one a network."""


def log_ranks(columns: Columns) -> list[float]:
    """Sum over scores of log(rank / number of networks): one bad rank counts more than one good one.

    References:
        Lee, Ham, AZ-NAS, CVPR 2024, arXiv:2403.19232.
    """
    n = len(columns[0])
    return [sum(math.log(rank / n) for rank in row) for row in zip(*map(ranks, columns), strict=True)]


def majority(columns: Columns) -> list[float]:
    """Share of the other networks that a majority of the scores puts a network above (a tie counts as half).

    References:
        Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134.
    """
    rows = list(zip(*columns, strict=True))
    found = []
    for i, row in enumerate(rows):
        won = 0.0
        for k, other in enumerate(rows):
            if k != i:
                votes = sum((a > b) - (a < b) for a, b in zip(row, other, strict=True))
                won += 1.0 if votes > 0 else 0.5 if votes == 0 else 0.0
        found.append(won / max(1, len(rows) - 1))
    return found


def ranks(values: Sequence[float]) -> list[float]:
    """Rank of each value from 1 upward; equal ones share the mean of theirs."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    first = 0
    while first < len(order):
        last = first
        while last + 1 < len(order) and values[order[last + 1]] == values[order[first]]:
            last += 1
        for k in order[first : last + 1]:
            found[k] = (first + last) / 2 + 1
        first = last + 1
    return found


@dataclass(frozen=True)
class Vote:
    """Several scores that order networks together.

    Attributes:
        scores: Their names.
        combine: Makes one number a network of them, meaningful within the same batch only.
    """

    scores: tuple[str, ...]
    combine: Callable[[Columns], list[float]]


VOTES: Final[dict[str, Vote]] = {
    "az_nas": Vote(("expressivity", "progressivity", "trainability", "macs"), log_ranks),
    "vote": Vote(("synflow", "jacob_cov", "snip"), majority),
}
"""All votes by name."""
