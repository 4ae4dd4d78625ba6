"""Where an operator acts: plain data, so that a sequence of edits can be stored, sent and replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlnas.errors import OperatorError


@dataclass(frozen=True)
class Site:
    """One edit of a graph, not yet made.

    Attributes:
        operator: Name of the operator.
        anchor: Id of the node it acts on.
        target: Id of a second node, for operators that connect two.
        amount: How much, in the operator's own terms (a factor, a share, a kernel size).
    """

    operator: str
    anchor: str
    target: str | None = None
    amount: float = 1.0

    def __str__(self) -> str:
        target = f" -> {self.target}" if self.target else ""
        return f"{self.operator}({self.anchor}{target}, {self.amount:g})"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"operator": self.operator, "anchor": self.anchor, "target": self.target, "amount": self.amount}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Site:
        """Inverse of `to_json`.

        Raises:
            OperatorError: If a field is missing or of the wrong type.
        """
        try:
            target = None if data["target"] is None else str(data["target"])
            return cls(str(data["operator"]), str(data["anchor"]), target, float(data["amount"]))
        except (KeyError, TypeError, ValueError) as error:
            raise OperatorError(f"not a site: {data!r} ({error})") from None
