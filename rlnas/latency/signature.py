"""What a look-up table is indexed by: one operation with its attributes and the shapes of what it reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import GraphError, MeterError
from rlnas.graph import OPS, Graph, Node, Shape, complete
from rlnas.graph.facts import facts_of
from rlnas.graph.table.attention import FULL_HELPER
from rlnas.network import fresh_tensor

FREE = frozenset({"input", "parameter"})
"""Operations that compute nothing."""
SHARES = "shares"
BOOLEAN = {"masked_fill": (1,), "where": (0,), "logical_and": (0, 1), "logical_or": (0, 1)}
"""Operations that read truths, and as which of their inputs."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Signature:
    """One operation as it is computed.

    Attributes:
        node: The operation and its attributes.
        shapes: Shapes of what it reads, for one sample.
        batched: For each of them, False if it is a learned tensor without a batch axis.
    """

    node: Node
    shapes: tuple[Shape, ...]
    batched: tuple[bool, ...]

    @property
    def key(self) -> str:
        """Its name in a table: JSON."""
        attrs = {name: list(value) if isinstance(value, tuple) else value for name, value in self.node.attrs}
        data: dict[str, Any] = {"op": self.node.op, "inputs": [list(shape) for shape in self.shapes]}
        if attrs:
            data["attrs"] = attrs
        if not all(self.batched):
            data["unbatched"] = [i for i, batched in enumerate(self.batched) if not batched]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_key(cls, key: str) -> Signature:
        """Inverse of `key`.

        Raises:
            MeterError: If it names no operation that can be computed.
        """
        try:
            data: Mapping[str, Any] = json.loads(key)
            shapes = tuple(tuple(int(size) for size in shape) for shape in data["inputs"])
            node = _node(str(data["op"]), len(shapes), data.get("attrs", {}))
            unbatched = set(data.get("unbatched", ()))
            facts_of(node, shapes)
        except (ValueError, KeyError, TypeError, AttributeError, GraphError) as error:
            raise MeterError(f"{key!r} is no operation with its input shapes: {error}") from None
        return cls(node, shapes, tuple(i not in unbatched for i in range(len(shapes))))

    def __str__(self) -> str:
        attrs = ", ".join(f"{name}={value}" for name, value in self.node.attrs)
        return f"{self.node.op}({attrs}) on {' and '.join(map(str, self.shapes))}"

    def piece(self, *, batch_size: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """A module that computes the operation alone, and random inputs for it."""
        generator = torch.Generator().manual_seed(0)
        module = _module(self.node, self.shapes)
        facts = facts_of(self.node, self.shapes)
        tensors = {
            f"{self.node.id}.{name}": fresh_tensor(param, generator=generator) for name, param in facts.params.items()
        }
        module.load_state_dict(tensors, assign=True)
        return module, tuple(self._input(i, batch_size, generator) for i in range(len(self.shapes)))

    def _input(self, index: int, batch_size: int, generator: torch.Generator) -> Tensor:
        shape = (batch_size, *self.shapes[index]) if self.batched[index] else self.shapes[index]
        if index in BOOLEAN.get(self.node.op, ()):
            return torch.rand(shape, generator=generator) < 0.5
        if self.node.op in ("embedding", "one_hot"):
            return torch.randint(0, self.node["num_embeddings"], shape, generator=generator)
        return torch.randn(shape, generator=generator)


def signatures(graph: Graph) -> Iterator[Signature]:
    """What a network computes, one signature for each node; equal ones come as often as they occur."""
    for node in graph.sorted_nodes:
        if node.op in FREE:
            continue
        attrs = {name: value for name, value in node.attrs if name != SHARES}
        batched = tuple(graph.node(i).op != "parameter" for i in node.inputs)
        yield Signature(_node(node.op, len(node.inputs), attrs), graph.input_shapes(node.id), batched)


def _node(op: str, inputs: int, attrs: Mapping[str, Any]) -> Node:
    return complete(Node.make("op1", op, tuple(LETTERS[:inputs]), **attrs))


def _module(node: Node, shapes: tuple[Shape, ...]) -> nn.Module:
    """The operation as a module of its own, made of the text that networks are made of."""
    op = OPS[node.op]
    names = node.inputs
    made = f"self.{node.id} = {op.source(node, shapes)}" if op.source else "pass"
    result = op.call(node, names) if op.call else f"self.{node.id}({names[0]})"
    text = (
        f"import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n{FULL_HELPER}\n\n"
        f"class Piece(nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n        {made}\n"
        f"    def forward(self, {', '.join(names)}):\n        return {result}\n"
    )
    scope: dict[str, Any] = {}
    exec(compile(text, f"<rlnas {node.op}>", "exec"), scope)
    with torch.device("meta"):  # which draws no random weights
        module: nn.Module = scope["Piece"]()
    return module.eval()
