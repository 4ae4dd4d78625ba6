"""One operation of an architecture: its kind, its inputs and its attributes."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rlnas.errors import GraphError

Value = int | float | bool | str | tuple[int, ...]
Shape = tuple[int, ...]

_SINGLE, _SEVERAL = (bool, int, float, str), (list, tuple)
"""Made once: unions of types take longer to make than to check, and nodes are made by the million."""


@dataclass(frozen=True)
class Node:
    """A node of a `Graph`.

    Attributes:
        id: A Python identifier, unique in its graph; it names the node's module and prefixes its tensors' names.
        op: Kind of operation, a key of `rlnas.graph.OPS`.
        inputs: Ids of the nodes it reads, in order.
        attrs: Sorted (name, value) pairs; `node["name"]` reads one.
        facts: What `rlnas.graph.facts` has worked out for some shapes of the inputs.
    """

    id: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: tuple[tuple[str, Value], ...] = ()
    facts: dict[tuple[Shape, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        id = self.id
        if not (id.isidentifier() and id.isascii()) or id[0] == "_" or keyword.iskeyword(id):
            raise GraphError(f"node id {id!r} cannot name a module in Python; choose another")

    @cached_property
    def shares(self) -> str | None:
        """Id of the node whose tensors it uses instead of tensors of its own."""
        for name, value in self.attrs:
            if name == "shares":
                assert isinstance(value, str)
                return value
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return Node, (self.id, self.op, self.inputs, self.attrs)

    @classmethod
    def make(cls, id: str, op: str, inputs: tuple[str, ...] | str = (), **attrs: Any) -> Node:
        """Build a node from keyword attributes; lists become tuples."""
        names = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        return cls(id, op, names, tuple(sorted((k, _freeze(v)) for k, v in attrs.items())))

    def __getitem__(self, name: str) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op} {self.id} has no attribute {name!r}")

    def replace(self, *, inputs: tuple[str, ...] | None = None, **attrs: Any) -> Node:
        """Copy with other inputs or attributes."""
        merged = dict(self.attrs) | {k: _freeze(v) for k, v in attrs.items()}
        return Node(self.id, self.op, self.inputs if inputs is None else inputs, tuple(sorted(merged.items())))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        attrs = {k: list(v) if isinstance(v, tuple) else v for k, v in self.attrs}
        return {"id": self.id, "op": self.op, "inputs": list(self.inputs), "attrs": attrs}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Node:
        """Inverse of `to_json`.

        Raises:
            GraphError: If a field is missing or of the wrong type.
        """
        try:
            return cls.make(str(data["id"]), str(data["op"]), tuple(data["inputs"]), **data["attrs"])
        except (KeyError, TypeError) as error:
            raise GraphError(f"not a node: {data!r} ({error})") from None


def _freeze(value: Any) -> Value:
    if isinstance(value, _SINGLE):
        return value
    if isinstance(value, _SEVERAL) and all(type(v) is int for v in value):
        return tuple(value)
    raise GraphError(f"attribute value {value!r} is not a number, a string or a list of integers")
