"""Python source of a graph: a module that imports only torch. What is printed is what `Network.module` runs."""

from __future__ import annotations

from rlnas.graph.facts import shared
from rlnas.graph.graph import Graph
from rlnas.graph.node import Node
from rlnas.graph.ops import OPS
from rlnas.graph.order import reading_order
from rlnas.graph.table.attention import HELPER


def to_source(graph: Graph, *, class_name: str = "Network", docstring: str | None = None) -> str:
    """Text of a PyTorch module whose ``state_dict`` has the names of the network's tensors.

    Args:
        class_name: Name of the class.
        docstring: Put under the class line, if given.
    """
    order = reading_order(graph)
    lines = [f"class {class_name}(nn.Module):"]
    if docstring:
        lines += [f'    """{docstring}"""', ""]
    lines += ["    def __init__(self) -> None:", "        super().__init__()"]
    lines += [f"        self.{id} = {text}" for id in order if (text := _constructor(graph, id))]
    lines += ["", "    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
    lines += [f"        {line}" for line in _statements(graph, order)]
    head = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"
    if any(node.op == "attention" for node in graph.nodes):
        head += HELPER + "\n\n"
    return head + "\n".join(lines) + "\n"


def _constructor(graph: Graph, id: str) -> str | None:
    node = graph.node(id)
    source = OPS[node.op].source
    return source(node, graph.input_shapes(id)) if source and shared(node) is None else None


def _statements(graph: Graph, order: list[str]) -> list[str]:
    """Assignments to as few variables as it takes, so that no value outlives its use and chains read ``x = f(x)``."""
    left = {id: len(consumers) for id, consumers in graph.consumers.items()}
    left[graph.output] += 1
    variables: dict[str, int] = {}
    free: set[int] = set()
    statements: list[str] = []
    for id in order:
        node = graph.node(id)
        if node.op == "input":
            variables[id] = 0
            continue
        if node.op == "parameter":
            continue
        read = _read(graph, node, variables)
        for i in node.inputs:
            left[i] -= 1
        last = {variables[i] for i in node.inputs if left[i] == 0 and i in variables}
        free |= last
        if not free:
            free.add(max(variables.values()) + 1)
        variables[id] = min(last or free)
        free.remove(variables[id])
        text = _expression(graph, node, read)
        if text != _name(variables[id]):
            statements.append(f"{_name(variables[id])} = {text}")
    return [*statements, f"return {_name(variables[graph.output])}"]


def _read(graph: Graph, node: Node, variables: dict[str, int]) -> tuple[str, ...]:
    """Names of what a node reads; a tensor without a batch axis is given one where the op needs it."""
    names = [_name(variables[i]) if i in variables else f"self.{i}" for i in node.inputs]
    batched = next((_name(variables[i]) for i in node.inputs if i in variables), None)
    if batched and not OPS[node.op].broadcasts:
        for k, i in enumerate(node.inputs):
            if i not in variables:
                names[k] = f"self.{i}.expand({batched}.shape[0], {', '.join(['-1'] * len(graph.shapes[i]))})"
    return tuple(names)


def _expression(graph: Graph, node: Node, read: tuple[str, ...]) -> str:
    owner = shared(node)
    call = OPS[node.op].call
    if call:
        return call(node, read)
    if owner is None or graph.node(owner).op == node.op:
        return f"self.{owner or node.id}({read[0]})"
    return f"F.linear({read[0]}, self.{owner}.weight)"


def _name(variable: int) -> str:
    return "xyz"[variable] if variable < 3 else f"v{variable}"


__all__ = ["reading_order", "to_source"]
