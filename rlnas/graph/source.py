"""Python source of a graph: a module that imports only torch. What is printed is what `Network.module` runs."""

from __future__ import annotations

from rlnas.graph.graph import Graph
from rlnas.graph.ops import OPS


def to_source(graph: Graph, *, class_name: str = "Network", docstring: str | None = None) -> str:
    """Text of a PyTorch module whose ``state_dict`` has the names of the network's tensors.

    Args:
        class_name: Name of the class.
        docstring: Put under the class line, if given.
    """
    # The canonical order is by depth; a depth-first walk reads better, since branches stay together.
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


def reading_order(graph: Graph) -> list[str]:
    """Node ids in the order in which a person would write them: depth first, so that branches stay together."""
    place = {id: i for i, id in enumerate(graph.order)}
    done: set[str] = set()
    order: list[str] = []
    stack = [(id, False) for id in reversed(graph.order)]
    while stack:
        id, ready = stack.pop()
        if id in done:
            continue
        if ready:
            done.add(id)
            order.append(id)
            continue
        stack.append((id, True))
        stack += [(i, False) for i in sorted(set(graph.node(id).inputs), key=lambda i: -place[i])]
    return order


def _statements(graph: Graph, order: list[str]) -> list[str]:
    """Assignments; a value read for the last time gives its variable to the result: chains read ``x = f(x)``."""
    left = {id: len(consumers) for id, consumers in graph.consumers.items()}
    left[graph.output] += 1
    names: dict[str, str] = {}
    statements: list[str] = []
    for id in order:
        node = graph.node(id)
        if node.op == "input":
            names[id] = "x"
            continue
        read = tuple(names[i] for i in node.inputs)
        for i in node.inputs:
            left[i] -= 1
        free = [names[i] for i in dict.fromkeys(node.inputs) if left[i] == 0]
        names[id] = ("x" if "x" in free else free[0]) if free else id
        call = OPS[node.op].call
        text = call(node, read) if call else f"self.{id}({read[0]})"
        if text != names[id]:
            statements.append(f"{names[id]} = {text}")
    return [*statements, f"return {names[graph.output]}"]
