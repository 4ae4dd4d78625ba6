"""Which nodes share a box, and what is written in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.ops import is_depthwise
from rlnas.report.drawing.scene import Kind

SYMBOLS = {"add": "+", "mul": "\u00d7", "sub": "\u2212", "div": "\u00f7"}
NAMES = {
    "batch_norm1d": "BN",
    "batch_norm2d": "BN",
    "batch_norm3d": "BN",
    "layer_norm": "LayerNorm",
    "rms_norm": "RMSNorm",
    "group_norm": "GroupNorm",
    "relu": "ReLU",
    "relu6": "ReLU6",
    "gelu": "GELU",
    "silu": "SiLU",
    "elu": "ELU",
    "prelu": "PReLU",
    "leaky_relu": "LeakyReLU",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
    "hardtanh": "Hardtanh",
}
WEIGHTY = ("conv", "linear", "attention", "embedding")
LONGEST = 24
"""Characters in which several moves of values stand in one box."""


@dataclass(frozen=True)
class Box:
    """Nodes that are drawn as one.

    Attributes:
        nodes: Their ids, first to last; the box reads what the first reads, and gives what the last gives.
        kind: Form of the outline.
        family: Family of the op that names it.
        label: Words in it.
        note: Smaller words under them.
    """

    nodes: tuple[str, ...]
    kind: Kind
    family: str
    label: str
    note: str = ""


def boxes(graph: Graph, ids: Iterable[str], reads: Mapping[str, tuple[str, ...]]) -> list[Box]:
    """The boxes of some nodes in reading order: a layer with the norms and activations behind it is one."""
    chains: list[list[str]] = []
    consumers: dict[str, int] = {}
    for inputs in reads.values():
        for i in inputs:
            consumers[i] = consumers.get(i, 0) + 1
    for id in ids:
        family = OPS[graph.node(id).op].family
        chain = next((c for c in chains if reads[id] == (c[-1],) and consumers[c[-1]] == 1), None)
        if chain is not None and (_moves(graph, [*chain, id]) or _takes(graph, chain, family)):
            chain.append(id)
        else:
            chains.append([id])
    return [_box(graph, tuple(chain)) for chain in chains]


def _moves(graph: Graph, chain: list[str]) -> bool:
    """True for ops that only move values about, as long as their names fit into one box."""
    nodes = [graph.node(id) for id in chain]
    still = all(OPS[node.op].family == "other" and node.op not in ("input", "dropout") for node in nodes)
    return still and len(_joined(graph, nodes)) <= LONGEST


def _joined(graph: Graph, nodes: list[Node]) -> str:
    """Names of nodes, each once where it repeats."""
    return " \u00b7 ".join(name for name, _ in itertools.groupby(_label(graph, node) for node in nodes))


def _takes(graph: Graph, chain: list[str], family: str) -> bool:
    if family not in ("norm", "activation"):
        return False
    families = [OPS[graph.node(id).op].family for id in chain]
    if families[0] in (*WEIGHTY, "norm", "activation"):
        return family not in families
    return families[0] == "merge" and family == "activation" and "activation" not in families


def _box(graph: Graph, nodes: tuple[str, ...]) -> Box:
    first = graph.node(nodes[0])
    family = "depthwise" if is_depthwise(first, graph.input_shapes(first.id)) else OPS[first.op].family
    rest = [_name(graph.node(id)) for id in nodes[1:]]
    if first.op in SYMBOLS:
        return Box(nodes, "pill" if rest else "circle", "merge", "  ".join([SYMBOLS[first.op], *rest]))
    if family in ("norm", "activation"):
        return Box(nodes, "pill", family, " \u00b7 ".join([_name(first), *rest]))
    if family in WEIGHTY or family == "depthwise":
        return Box(nodes, "box", family, _label(graph, first), " \u00b7 ".join(rest))
    return Box(nodes, "pill", family, _joined(graph, [graph.node(id) for id in nodes]))


def _name(node: Node) -> str:
    if node.op == "hardtanh" and (node["min_val"], node["max_val"]) == (0, 6):
        return NAMES["relu6"]
    return NAMES.get(node.op, node.op.replace("_", " "))


def _sizes(value: tuple[int, ...]) -> str:
    return "\u00d7".join(map(str, value))


def _label(graph: Graph, node: Node) -> str:
    op, shapes = node.op, graph.input_shapes(node.id)
    stride = node["stride"] if any(name == "stride" for name, _ in node.attrs) else (1,)
    step = "" if set(stride) == {1} else f" /{stride[0] if len(set(stride)) == 1 else _sizes(stride)}"
    if op == "input":
        return f"input {_sizes(node['shape'])}"
    if op.startswith("conv"):
        kind = "depthwise" if is_depthwise(node, shapes) else "conv" if op != "conv_transpose2d" else "transposed"
        groups = f", {node['groups']} groups" if node["groups"] > 1 and kind != "depthwise" else ""
        return f"{_sizes(node['kernel_size'])} {kind}, {node['out_channels']}{groups}{step}"
    if op == "linear":
        return f"linear, {node['out_channels']}"
    if op == "embedding":
        return f"embedding, {node['out_channels']}"
    if op == "parameter":
        return f"{'learned' if node['trained'] else 'constant'} {_sizes(node['shape'])}"
    if op == "attention":
        return f"attention, {node['heads']} heads"
    if op.startswith("adaptive"):
        kind = op.split("_")[1]
        return (
            f"global {kind} pool"
            if set(node["output_size"]) == {1}
            else f"{kind} pool to {_sizes(node['output_size'])}"
        )
    if "_pool" in op:
        return f"{op.split('_')[0]} pool {_sizes(node['kernel_size'])}{step}"
    if op == "reduce":
        return str(node["kind"])
    if op == "slice":
        return f"[{node['start']}:{node['stop']}]"
    if op.endswith("_scalar"):
        symbol = SYMBOLS.get(op.removesuffix("_scalar"), op.removesuffix("_scalar"))
        return f"{symbol} {node['value']:g}"
    return op.replace("_", " ")


def look(graph: Graph, ids: Iterable[str]) -> tuple[object, ...]:
    """What two groups of nodes have in common if they would be drawn alike."""
    place: dict[str, int] = {}
    found: list[object] = []
    for id in ids:
        node = graph.node(id)
        place[id] = len(place)
        attrs = tuple(pair for pair in node.attrs if pair[0] not in ("eps", "momentum", "shares"))
        found.append((node.op, attrs, tuple(place.get(i, -1) for i in node.inputs) if node.op != "concat" else ()))
    return tuple(found)
