"""The whole source of a network: classes for its blocks, and the class that puts them together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rlnas.graph import Graph, Node, to_source
from rlnas.graph.order import reading_order
from rlnas.graph.outline import flattened_concats
from rlnas.graph.source import class_source, with_imports
from rlnas.interchange.classes import BlockClass, find_classes
from rlnas.interchange.pieces import Piece, has_module, usable
from rlnas.network import tensor_specs
from rlnas.templates import module_class


@dataclass(frozen=True)
class Structure:
    """How a network is written.

    Attributes:
        source: Text of its classes, the last of which is ``Network``.
        ids: New id of every node: its place in the module, with underscores for dots.
        places: Names of the tensors in the ``state_dict`` of the source, by their names under the new ids.
        plain: True for the one class that `to_source` writes.
    """

    source: str
    ids: dict[str, str]
    places: dict[str, str]
    plain: bool = False

    def module(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The module that the source makes, with some tensors by their names under the new ids."""
        with torch.device("meta"):
            module: nn.Module = module_class(self.source)()
        module.load_state_dict({self.places[name]: tensor for name, tensor in tensors.items()}, assign=True)
        return module


@dataclass(frozen=True)
class _Container:
    """Blocks one after the other that are an attribute of the network; a single one is that attribute itself."""

    name: str
    pieces: tuple[Piece, ...]

    def place(self, k: int) -> str:
        """Path of one of its blocks."""
        return f"{self.name}.{k}" if len(self.pieces) > 1 else self.name


def structured(graph: Graph) -> Structure:
    """The source of a graph; where too few blocks repeat, the one class that `to_source` writes."""
    classes = find_classes(graph)
    if not classes:
        return flat(graph)
    by_piece = {id(piece): found for found in classes for piece in found.pieces}
    containers = _containers(graph, [piece for found in classes for piece in found.pieces])
    ids = {id: id for id in graph.shapes}
    places = {id: id for id in graph.shapes}
    for container in containers:
        for k, piece in enumerate(container.pieces):
            for node, name in zip(piece.group.nodes, by_piece[id(piece)].names, strict=True):
                if has_module(graph.node(node)):
                    places[node] = f"{container.place(k)}.{name}"
                    ids[node] = places[node].replace(".", "_")
    if len(set(ids.values())) < len(ids):
        return flat(graph)
    tensors = {}
    for name in tensor_specs(graph):
        owner, dot, rest = name.partition(".")
        tensors[f"{ids[owner]}{dot}{rest}"] = f"{places[owner]}{dot}{rest}"
    if len({name.replace(".", "_") for name in tensors}) < len(tensors):
        return flat(graph)
    modules = {c.name: _made(c, by_piece) for c in containers}
    whole = class_source(_collapsed(graph, containers), class_name="Network", modules=modules)
    texts = [found.text for found in classes]
    return Structure(with_imports("\n\n".join([*texts, whole])), ids, tensors)


def flat(graph: Graph) -> Structure:
    """One class in which everything stands, which is the text that `Network.module` runs."""
    names = {name: name for name in tensor_specs(graph)}
    return Structure(to_source(graph), {id: id for id in graph.shapes}, names, plain=True)


def _containers(graph: Graph, pieces: Sequence[Piece]) -> list[_Container]:
    """Blocks that follow on each other in one stage, under the name that a person gave the stage, if one did."""
    order = {id: k for k, id in enumerate(reading_order(graph))}
    runs: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: order[piece.exit]):
        before = runs[-1][-1] if runs else None
        if before is not None and _goes_on(before, piece):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    taken = {*graph.shapes}
    found = []
    for run in runs:
        name = _container_name(run)
        while name in taken or not usable(name):
            name = f"{name}_"
        taken.add(name)
        found.append(_Container(name, tuple(run)))
    return found


def _goes_on(before: Piece, piece: Piece) -> bool:
    together = before.group.kind == piece.group.kind == "block" and before.exit == piece.entry
    if not together:
        return False
    first, second = _numbered(before.prefix), _numbered(piece.prefix)
    if first and second:
        return first[0] == second[0] and second[1] == first[1] + 1
    return before.group.stage == piece.group.stage


def _numbered(prefix: str) -> tuple[str, int] | None:
    """``layer1`` and 0 of ``layer1_0``."""
    match = re.fullmatch(r"(.*\D)_?(\d+)", prefix)
    return (match[1].rstrip("_"), int(match[2])) if match else None


def _container_name(run: list[Piece]) -> str:
    parts = _numbered(run[0].prefix)
    if run[0].prefix and len(run) == 1:
        return run[0].prefix
    if parts and usable(parts[0]):
        return parts[0]
    group = run[0].group
    if group.kind == "transition":
        return group.name
    return f"stage{group.stage}" if "stage" in group.name else "blocks"


def _collapsed(graph: Graph, containers: Sequence[_Container]) -> Graph:
    """The graph with one node for each container."""
    reads = flattened_concats(graph, reading_order(graph))
    inside = {node for c in containers for piece in c.pieces for node in piece.group.nodes}
    leaves = {c.pieces[-1].exit: c.name for c in containers}
    nodes = [
        Node(node.id, node.op, tuple(leaves.get(i, i) for i in reads[node.id]), node.attrs)
        for node in graph.nodes
        if node.id not in inside
    ]
    for container in containers:
        entry, shape = container.pieces[0].entry, graph.shapes[container.pieces[-1].exit]
        text = f"self.{container.name}({{0}})"
        nodes.append(Node.make(container.name, "opaque", leaves.get(entry, entry), text=text, shape=shape))
    return Graph(tuple(nodes), leaves.get(graph.output, graph.output))


# ------------------------------------------------------------------------------------------------------------ calls


def _made(container: _Container, by_piece: dict[int, BlockClass]) -> str:
    """The expression that makes the blocks of a container."""
    calls = [by_piece[id(piece)].call(piece) for piece in container.pieces]
    if len(calls) == 1:
        return calls[0]
    words: list[str] = []
    k = 0
    while k < len(calls):
        same = next((n for n in range(k, len(calls)) if calls[n] != calls[k]), len(calls)) - k
        rising, text = _rising(calls[k:])
        if same > 2:
            words.append(f"*[{calls[k]} for _ in range({same})]")
            k += same
        elif rising > 2:
            words.append(text)
            k += rising
        else:
            words.append(calls[k])
            k += 1
    return f"nn.Sequential({', '.join(words)})"


def _rising(calls: Sequence[str]) -> tuple[int, str]:
    """How many of the first calls differ in one number that rises evenly, and the text for all of them."""
    pattern = [re.split(r"(?<![\w.])(\d+)(?![\w.])", call) for call in calls]
    if len(pattern) < 3 or len(pattern[0]) != len(pattern[1]):
        return 0, ""
    different = [k for k, (a, b) in enumerate(zip(pattern[0], pattern[1], strict=True)) if a != b]
    if len(different) != 1 or different[0] % 2 == 0:
        return 0, ""
    (at,) = different
    start, step = int(pattern[0][at]), int(pattern[1][at]) - int(pattern[0][at])
    number = 0
    for n, parts in enumerate(pattern):
        if [*parts[:at], *parts[at + 1 :]] != [*pattern[0][:at], *pattern[0][at + 1 :]]:
            break
        if parts[at] != str(start + n * step):
            break
        number = n + 1
    text = "".join([*pattern[0][:at], "n", *pattern[0][at + 1 :]])
    return number, f"*[{text} for n in range({start}, {start + number * step}, {step})]"
