"""What the checks of a run found: counted, and said in lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from rlnas.report.layers import columns

SHOWN: Final = 10
"""Differences of each check that are printed."""


@dataclass
class Tally:
    """What one check found.

    Attributes:
        unit: What is counted.
        equal: How many came out as they should.
        differ: What is different, a line each.
        skipped: How many were not checked, by why.
    """

    unit: str
    equal: int = 0
    differ: list[str] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, found: str | None) -> bool:
        """Count one: None if it is as it should be, or how it is not; gives whether it is."""
        if found is None:
            self.equal += 1
        else:
            self.differ.append(f"{name}: {found}")
        return found is None

    def skip(self, why: str, n: int = 1) -> None:
        """Count some that cannot be checked, or need not be."""
        self.skipped[why] = self.skipped.get(why, 0) + n


def table_lines(tallies: Mapping[str, Tally]) -> list[str]:
    """A line for each check."""
    rows = [("check", "of", "equal", "differ", "not checked")]
    for name, tally in tallies.items():
        skipped = sum(tally.skipped.values())
        rows.append((name, tally.unit, f"{tally.equal:,}", f"{len(tally.differ):,}", f"{skipped:,}"))
    return columns(rows, left=(0, 1))


def detail_lines(tallies: Mapping[str, Tally]) -> list[str]:
    """Why some were not checked, and the first differences."""
    lines = [f"{name}: {n:,} not checked, {why}" for name, tally in tallies.items() for why, n in tally.skipped.items()]
    for name, tally in tallies.items():
        lines += [f"{name}: {text}" for text in tally.differ[:SHOWN]]
        if (more := len(tally.differ) - SHOWN) > 0:
            lines.append(f"{name}: and {more:,} more")
    return ["", *lines] if lines else []
