"""Names of layers that speak: ``stage2_block1_conv1`` where a network has blocks, else numbers by kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import shared
from rlnas.graph.outline import Group, outline
from rlnas.network import Network, tensor_specs

SHORT = {"parameter": "constant", "conv_transpose2d": "conv", "opaque": "piece", "reduce": "mean"}
GENERIC = {"conv", "bn", "norm", "act", "pool", "linear", "fc", "add", "cat", "flatten", "n", "node"}
STRUCTURED = re.compile(r"(stem|head|transition\d+|(stage\d+_)?block\d+|stage\d+|stage\d+_\d+)_")
BLOCKS = re.compile(
    r"blocks_\d+_((shortcut|gate)_)?(conv|bn|norm|fc|qkv|query|key|value|key_value|proj|scale|dropout)\d*$"
)
"""Our names in blocks of one stage, which a person may well have given too."""


def layer_names(graph: Graph) -> dict[str, str]:
    """A new name for every node but the input.

    Names that a person gave (most layers have one that is neither a kind and a number, nor of ours) are kept.
    """
    layers = [node.id for node in graph.nodes if OPS[node.op].source is not None and shared(node) is None]
    ours = any(re.match("(stem|head)_", id) for id in layers)
    given = [id for id in layers if not is_generic(id) and not (ours and BLOCKS.match(id))]
    if len(given) > len(layers) / 2:
        return {node.id: node.id for node in graph.nodes}
    groups = outline(graph)
    stems: dict[str, str] = {}
    for group in groups:
        for id, name in _stems(graph, group).items():
            stems[id] = "_".join(filter(None, (group.name, name)))
    return _numbered(graph, groups, stems)


def role_names(graph: Graph, group: Group) -> dict[str, str]:
    """Names of a group's nodes by what they do, numbered where several would be the same."""
    stems = _stems(graph, group)
    seen: dict[str, int] = {}
    names = {}
    for id, stem in stems.items():
        seen[stem] = seen.get(stem, 0) + 1
        names[id] = stem if list(stems.values()).count(stem) == 1 else f"{stem}{seen[stem]}"
    return names


def _stems(graph: Graph, group: Group) -> dict[str, str]:
    roles = _roles(graph, group)
    return {id: "_".join(filter(None, (roles.get(id), _kind(graph, graph.node(id), group)))) for id in group.nodes}


def _numbered(graph: Graph, groups: Iterable[Group], stems: Mapping[str, str]) -> dict[str, str]:
    """The names, with a number where several would be the same (or everywhere in a network without blocks)."""
    counts: dict[str, int] = {}
    for stem in stems.values():
        counts[stem] = counts.get(stem, 0) + 1
    names: dict[str, str] = {}
    seen: dict[str, int] = {}
    for group in groups:
        for id in group.nodes:
            stem = stems[id]
            seen[stem] = seen.get(stem, 0) + 1
            plain = bool(group.name) and counts[stem] == 1
            names[id] = id if graph.node(id).op == "input" else stem if plain else f"{stem}{seen[stem]}"
    return names


def is_generic(id: str) -> bool:
    """True for a name that says nothing but a kind or a position, or that is of ours."""
    stem = id.rstrip("0123456789").rstrip("_")
    return stem in OPS or stem in GENERIC or STRUCTURED.match(id) is not None or re.search(r"_\d+$", id) is not None


def _kind(graph: Graph, node: Node, group: Group) -> str:
    family = OPS[node.op].family
    if node.op == "linear":
        return "linear" if group.kind == "whole" else _projection(graph, node)
    if node.op == "parameter":
        readers = {graph.node(id).op for id in graph.consumers[node.id]}
        roles = {"mul": "scale", "add": "position" if len(node["shape"]) == 2 else "offset", "concat": "token"}
        return roles.get(next(iter(readers)), "constant") if len(readers) == 1 else "constant"
    if node.op in SHORT:
        return SHORT[node.op]
    if node.op.startswith("batch_norm"):
        return "bn"
    return {"conv": "conv", "norm": "norm", "pool": "pool"}.get(family, node.op)


def _projection(graph: Graph, node: Node) -> str:
    """What a linear layer does in a block: what it makes for attention, or what it makes of what that gives."""
    id, seen = node.id, {node.id}
    found: set[int] = set()
    frontier = [id]
    while frontier:
        for consumer in graph.consumers[frontier.pop()]:
            reader = graph.node(consumer)
            if reader.op == "attention":
                found |= {k for k, i in enumerate(reader.inputs) if i in seen}
            elif OPS[reader.op].family in ("other", "norm") and consumer not in seen:
                seen.add(consumer)
                frontier.append(consumer)
    if found:
        return {(0,): "query", (1,): "key", (2,): "value", (1, 2): "key_value"}.get(tuple(sorted(found)), "qkv")
    before = graph.node(node.inputs[0])
    return "proj" if before.op == "attention" else "fc"


def _roles(graph: Graph, group: Group) -> dict[str, str]:
    """``shortcut`` for the layers of the shorter branch of a residual sum, ``gate`` for those that make a factor."""
    inside = set(group.nodes)
    roles: dict[str, str] = {}
    for id in group.nodes:
        node = graph.node(id)
        if node.op not in ("add", "mul") or len(node.inputs) != 2:
            continue
        ranked = sorted(node.inputs, key=lambda i: len(_branch(graph, i, inside)))
        short, long = (_branch(graph, i, inside) for i in ranked)
        if node.op == "add" and short and len(_layers(graph, short)) < len(_layers(graph, long)):
            roles.update(dict.fromkeys(short, "shortcut"))
        if node.op == "mul" and len({graph.shapes[i] for i in node.inputs}) > 1:
            gate = min(node.inputs, key=lambda i: _size(graph.shapes[i]))
            if graph.node(gate).op != "parameter":
                roles.update(dict.fromkeys(_branch(graph, gate, inside), "gate"))
    return roles


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _branch(graph: Graph, id: str, inside: set[str]) -> list[str]:
    """The nodes of a chain back from one to where its value comes from a fork, or from outside."""
    found: list[str] = []
    while id in inside and len(graph.consumers[id]) == 1 and len(graph.node(id).inputs) == 1:
        found.append(id)
        id = graph.node(id).inputs[0]
    return found


def _layers(graph: Graph, ids: Iterable[str]) -> list[str]:
    return [id for id in ids if OPS[graph.node(id).op].family in ("conv", "linear")]


def tidy(network: Network) -> Network:
    """The same network with names that speak."""
    return renamed(network, layer_names(network.graph))


def renamed(network: Network, names: Mapping[str, str]) -> Network:
    """The same network with other ids of its nodes."""
    nodes = []
    for node in network.graph.nodes:
        attrs = tuple((k, names[str(v)] if k == "shares" else v) for k, v in node.attrs)
        nodes.append(Node(names[node.id], node.op, tuple(names[i] for i in node.inputs), attrs))
    graph = Graph(tuple(nodes), names[network.graph.output])
    tensors = {}
    for name, tensor in network.tensors.items():
        id, dot, rest = name.partition(".")
        tensors[f"{names[id]}{dot}{rest}"] = tensor
    return Network(graph, {name: tensors[name] for name in tensor_specs(graph)}, network.history, network.epochs)
