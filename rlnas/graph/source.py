"""Python source of a graph: a module that imports only torch. What is printed is what `Network.module` runs."""

from __future__ import annotations

from rlnas.graph.graph import Graph
from rlnas.graph.ops import OPS
from rlnas.graph.order import reading_order


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
    return "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n" + "\n".join(lines) + "\n"


def _constructor(graph: Graph, id: str) -> str | None:
    node = graph.node(id)
    source = OPS[node.op].source
    return source(node, graph.input_shapes(id)) if source else None


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
        read = tuple(_name(variables[i]) for i in node.inputs)
        for i in node.inputs:
            left[i] -= 1
        last = {variables[i] for i in node.inputs if left[i] == 0}
        free |= last
        if not free:
            free.add(max(variables.values()) + 1)
        variables[id] = min(last or free)
        free.remove(variables[id])
        call = OPS[node.op].call
        text = call(node, read) if call else f"self.{id}({read[0]})"
        if text != _name(variables[id]):
            statements.append(f"{_name(variables[id])} = {text}")
    return [*statements, f"return {_name(variables[graph.output])}"]


def _name(variable: int) -> str:
    return "xyz"[variable] if variable < 3 else f"v{variable}"


__all__ = ["reading_order", "to_source"]
