"""Blocks of a network that can be classes of their own: one value in, one value out, the same layers as others."""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.order import reading_order
from rlnas.graph.outline import Group, flattened_concats, outline
from rlnas.interchange.names import is_generic, role_names
from rlnas.network import TAKEN

ENTRY = "entry"
"""Id of what comes into a block, in the block's own graph."""
LEAST = 2
"""Layers of a block that is worth a class."""


@dataclass(frozen=True)
class Piece:
    """A block that stands by itself.

    Attributes:
        group: Its place in the outline.
        reads: Inputs of each of its nodes.
        entry: Id of the only value that it reads.
        form: What it has in common with blocks that could be of the same class.
        prefix: What the names of its layers begin with, if a person gave them; else empty.
    """

    group: Group
    reads: tuple[tuple[str, ...], ...]
    entry: str
    form: tuple[object, ...]
    prefix: str

    @property
    def exit(self) -> str:
        """Id of its output."""
        return self.group.nodes[-1]


def find_pieces(graph: Graph) -> list[Piece]:
    """All blocks that stand by themselves, in reading order."""
    reads = flattened_concats(graph, reading_order(graph))
    readers: dict[str, set[str]] = {id: set() for id in reads}
    for id, inputs in reads.items():
        for i in inputs:
            readers[i].add(id)
    found = []
    for group in outline(graph):
        inside = set(group.nodes)
        outside = {i for id in group.nodes for i in reads[id] if i not in inside}
        leaving = [id for id in group.nodes if id == graph.output or not readers[id] <= inside]
        held = [id for id in group.nodes if has_module(graph.node(id))]
        if group.kind not in ("block", "transition") or inside & graph.shared or len(held) < LEAST:
            continue
        if any(graph.node(id).op == "input" for id in inside):  # beside what is made of parameters alone
            continue
        if len(outside) == 1 and leaving == [group.nodes[-1]]:
            (entry,) = outside
            found.append(_piece(graph, group, reads, entry))
    return _joined(graph, found, reads)


def _piece(graph: Graph, group: Group, reads: Mapping[str, tuple[str, ...]], entry: str) -> Piece:
    own = tuple(reads[id] for id in group.nodes)
    prefix = _prefix([id for id in group.nodes if has_module(graph.node(id))])
    return Piece(group, own, entry, _form(graph, group, own), prefix)


def _joined(graph: Graph, pieces: Sequence[Piece], reads: Mapping[str, tuple[str, ...]]) -> list[Piece]:
    """The same with blocks joined that follow on each other and were one by the names that a person gave."""
    found: list[Piece] = []
    for piece in pieces:
        before = found[-1] if found else None
        if before and piece.prefix and piece.prefix == before.prefix and piece.entry == before.exit:
            first, second = before.group, piece.group
            whole = Group(first.kind, first.name, first.stage, first.nodes + second.nodes, second.shape)
            found[-1] = _piece(graph, whole, reads, before.entry)
        else:
            found.append(piece)
    return found


def has_module(node: Node) -> bool:
    """True if something in the class belongs to the node: a layer, or a tensor."""
    return OPS[node.op].source is not None


def _form(graph: Graph, group: Group, reads: Sequence[tuple[str, ...]]) -> tuple[object, ...]:
    place = {id: k for k, id in enumerate(group.nodes)}
    ranks = tuple(len(graph.shapes[id]) for id in group.nodes)
    return (
        group.kind,
        ranks,
        tuple(
            (graph.node(id).op, tuple(place.get(i, -1) for i in inputs))
            for id, inputs in zip(group.nodes, reads, strict=True)
        ),
    )


def local_graph(graph: Graph, piece: Piece, names: Sequence[str]) -> Graph:
    """The block as a graph of its own.

    Args:
        names: New ids of its nodes.
    """
    own = dict(zip(piece.group.nodes, names, strict=True))
    nodes = [Node.make(ENTRY, "input", shape=graph.shapes[piece.entry], dtype="float32")]
    for id, inputs in zip(piece.group.nodes, piece.reads, strict=True):
        node = graph.node(id)
        nodes.append(Node(own[id], node.op, tuple(own.get(i, ENTRY) for i in inputs), node.attrs))
    return Graph(tuple(nodes), own[piece.exit])


# -------------------------------------------------------------------------------------------------------------- names


def _prefix(ids: Sequence[str]) -> str:
    """The longest beginning, up to an underscore, that most names share; names that only count are left out."""
    named = [id for id in ids if not is_generic(id)]
    if not named:
        return ""
    words = [id.split("_") for id in named]
    found: list[str] = []
    for k in range(min(map(len, words)) - 1):
        word, count = Counter(parts[k] for parts in words if parts[:k] == found).most_common(1)[0]
        if count < len(words):
            break
        found.append(word)
    return "_".join(found)


def local_names(graph: Graph, pieces: Sequence[Piece]) -> tuple[str, ...]:
    """Names of the nodes within the class: those that a person gave, if all blocks agree, else what the layers do."""
    first = pieces[0]
    by_role = role_names(graph, first.group)
    names: list[str] = []
    for k, id in enumerate(first.group.nodes):
        given = {_own(piece.group.nodes[k], piece.prefix) for piece in pieces}
        name = given.pop() if len(given) == 1 else ""
        names.append(name if usable(name) and has_module(graph.node(id)) else "")
    kept = sum(bool(name) for name in names)
    held = sum(has_module(graph.node(id)) for id in first.group.nodes)
    if kept * 2 < held or len(set(filter(None, names))) < kept:
        names = [""] * len(names)
    taken = {name for name in names if name}
    for k, id in enumerate(first.group.nodes):
        if not names[k]:
            names[k] = _free(by_role[id], taken)
            taken.add(names[k])
    return tuple(names)


def _own(id: str, prefix: str) -> str:
    return id[len(prefix) + 1 :] if prefix and id.startswith(f"{prefix}_") else ""


def usable(name: str) -> bool:
    """True for what an attribute of a module can be called."""
    return name.isidentifier() and not keyword.iskeyword(name) and name not in TAKEN and name != ENTRY


def _free(name: str, taken: set[str]) -> str:
    if name not in taken and usable(name):
        return name
    stem = re.sub(r"\d+$", "", name)
    return next(f"{stem}{k}" for k in range(1, len(taken) + 3) if f"{stem}{k}" not in taken and usable(f"{stem}{k}"))
