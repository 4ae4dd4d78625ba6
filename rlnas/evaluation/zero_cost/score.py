"""What the table of scores says of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlnas.evaluation.zero_cost.probe import PASSES, Probe


@dataclass(frozen=True)
class Score:
    """A number that is high for networks that would train well, found without training.

    Attributes:
        compute: The score of a network at initialization; raises EvaluationError where it is not defined.
        passes: What it needs, out of `PASSES`; scores that need the same share it.
        varies: Whether it depends on the weights and inputs that are drawn; if not, it is one number for a graph.
        deterministic: Whether the same graph and seed always give the same number.
    """

    compute: Callable[[Probe], float]
    passes: frozenset[str] = frozenset()
    varies: bool = True
    deterministic: bool = True

    def __post_init__(self) -> None:
        assert self.passes <= set(PASSES)
