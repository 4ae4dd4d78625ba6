"""Classes for blocks that repeat: which blocks share one, what it is called, what its arguments are."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlnas.graph import OPS, Graph
from rlnas.graph.ops import is_depthwise
from rlnas.graph.source import class_source
from rlnas.graph.wrap import WIDTH, statement
from rlnas.interchange.pieces import Piece, find_pieces, has_module, local_graph, local_names
from rlnas.interchange.unify import DEFAULTS, MismatchError, Unifier, placeholder, substitute

SIZES = ("0", "1", "num_features", "normalized_shape")
"""Arguments that are numbers of channels."""
MOST = 2 / 3
"""Classes for each block at most; with more of them, one class in which everything stands is easier to read."""


@dataclass(frozen=True)
class Parameter:
    """An argument of a class.

    Attributes:
        name: What it is called.
        kind: Its type, as Python writes it.
        values: What each block gives.
        default: What it is if it is left out; None if it never is.
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    default: Any = None


@dataclass(frozen=True)
class BlockClass:
    """A class for some blocks.

    Attributes:
        name: What it is called.
        pieces: The blocks.
        names: Names of their nodes within the class, by position.
        parameters: Its arguments.
        text: Its source.
    """

    name: str
    pieces: tuple[Piece, ...]
    names: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    text: str

    def call(self, piece: Piece) -> str:
        """The expression that makes one of its blocks."""
        k = self.pieces.index(piece)
        words = []
        for parameter in self.parameters:
            value = parameter.values[k]
            if parameter.default is None:
                words.append(repr(value))
            elif value != parameter.default:
                words.append(f"{parameter.name}={value!r}")
        return f"{self.name}({', '.join(words)})"


def find_classes(graph: Graph) -> list[BlockClass]:
    """Classes for all blocks that stand by themselves; none if too few of them repeat."""
    pieces = find_pieces(graph)
    families = _families(graph, pieces)
    chosen = [family for family in families if len(family) > 1 or family[0].group.kind == "block"]
    if len(chosen) > MOST * sum(map(len, chosen)):
        return []
    taken: set[str] = set()
    try:
        return [_make_class(graph, family, taken) for family in chosen]
    except MismatchError:  # under the names that they get the texts differ in their order
        return []


def _families(graph: Graph, pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Blocks whose texts differ in their values only, in the order of the first of each."""
    families: list[tuple[list[Piece], ast.Module]] = []
    for piece in pieces:
        (tree,) = _trees(graph, [piece], [f"n{k}" for k in range(len(piece.group.nodes))])
        for family, first in families:
            if family[0].form == piece.form and _fits(first, tree):
                family.append(piece)
                break
        else:
            families.append(([piece], tree))
    return [family for family, _ in families]


def _fits(first: ast.Module, other: ast.Module) -> bool:
    try:
        Unifier().merge([first, other])
    except MismatchError:
        return False
    return True


def _trees(graph: Graph, pieces: Sequence[Piece], names: Sequence[str]) -> list[ast.Module]:
    return [ast.parse(class_source(local_graph(graph, piece, names), class_name="Block")) for piece in pieces]


def _make_class(graph: Graph, family: list[Piece], taken: set[str]) -> BlockClass:
    names = local_names(graph, family)
    unifier = Unifier()
    tree = unifier.merge(_trees(graph, family, names))
    parameters, meant = _parameters(graph, family, unifier)
    stem = class_name(graph, family[0])
    name = stem
    while name in taken:
        name = f"{stem}{int(name.removeprefix(stem) or 1) + 1}"
    taken.add(name)
    body = substitute(tree, {placeholder(k): ast.parse(text, mode="eval").body for k, text in enumerate(meant)})
    return BlockClass(name, tuple(family), names, tuple(parameters), _text(name, parameters, body))


# ---------------------------------------------------------------------------------------------------------- arguments


def _parameters(graph: Graph, family: list[Piece], unifier: Unifier) -> tuple[list[Parameter], list[str]]:
    """The arguments of a class, and what stands for each of the unifier's vectors."""
    spatial = any(OPS[graph.node(id).op].family == "conv" for id in family[0].group.nodes)
    word = "channels" if spatial else "features"
    axis = 0 if len(graph.shapes[family[0].entry]) >= 3 else -1
    entry = tuple(graph.shapes[piece.entry][axis] for piece in family)
    leaving = tuple(graph.shapes[piece.exit][axis] for piece in family)
    known = {entry: word} if entry == leaving else {entry: f"in_{word}", leaving: f"out_{word}"}
    meant: list[str] = []
    made: dict[tuple[Any, ...], Parameter] = {}
    vectors = unifier.vectors
    sizes = [v for v, uses in zip(vectors, unifier.uses, strict=True) if any(role in SIZES for _, role in uses)]
    inner = [v for v in sizes if v not in known and _multiple(v, known, vectors) is None]
    for vector, uses in zip(vectors, unifier.uses, strict=True):
        (local, role), number = uses[0], vector in sizes
        derived = _multiple(vector, known, vectors) if number and vector not in known else _padding(vector, uses, made)
        if derived is not None:
            meant.append(derived)
            continue
        if vector in known and number:
            name = known[vector]
        elif number:
            name = f"hidden_{word}" if len(inner) == 1 else f"{local}_{word}"
        else:
            name = {"2": "kernel_size"}.get(role, role if role.isidentifier() else "value")
        while name in {parameter.name for parameter in made.values()}:
            name = f"{name}_{local}" if not name.endswith(local) else f"{name}_2"
        default = DEFAULTS.get(role) if not number and DEFAULTS.get(role) in vector else None
        made[vector] = Parameter(name, _kind(vector), vector, default)
        meant.append(name)
    order = {f"in_{word}": 0, word: 0, f"out_{word}": 2}
    rank = {p.name: order.get(p.name, 1 if vector in sizes else 3) for vector, p in made.items()}
    parameters = sorted(made.values(), key=lambda p: (p.default is not None, rank[p.name]))
    return parameters, meant


def _multiple(vector: tuple[Any, ...], known: dict[tuple[Any, ...], str], vectors: list[tuple[Any, ...]]) -> str | None:
    """``4 * channels`` for a vector that is always so many times what comes in or goes out."""
    for other, name in known.items():
        given = other in vectors or len(set(other)) > 1
        for factor in range(2, 9):
            if given and other in vectors and vector == tuple(factor * value for value in other):
                return f"{factor} * {name}"
    return None


def _padding(
    vector: tuple[Any, ...], uses: list[tuple[str, str]], made: dict[tuple[Any, ...], Parameter]
) -> str | None:
    """``kernel_size // 2`` for what is always that."""
    if any(role != "padding" for _, role in uses):
        return None
    for other, parameter in made.items():
        whole = all(isinstance(value, int) for value in other)
        if parameter.name.startswith("kernel_size") and whole and vector == tuple(value // 2 for value in other):
            return f"{parameter.name} // 2"
    return None


def _kind(vector: tuple[Any, ...]) -> str:
    kinds = sorted({type(value).__name__ for value in vector})
    words = {"tuple": "tuple[int, ...]"}
    return " | ".join(words.get(kind, kind) for kind in kinds)


# --------------------------------------------------------------------------------------------------------------- text


def _text(name: str, parameters: Sequence[Parameter], tree: ast.AST) -> str:
    """Source of a class."""
    (definition,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    init, forward = (node for node in definition.body if isinstance(node, ast.FunctionDef))
    kept = {parameter.name for parameter in parameters} & {
        node.id for node in ast.walk(forward) if isinstance(node, ast.Name)
    }
    words = [f"{p.name}: {p.kind}" + ("" if p.default is None else f" = {p.default!r}") for p in parameters]
    lines = [f"class {name}(nn.Module):"]
    head = f"    def __init__({', '.join(['self', *words])}) -> None:"
    if len(head) <= WIDTH:
        lines.append(head)
    else:
        inner = f"        {', '.join(['self', *words])}"
        parts = [inner] if len(inner) <= WIDTH else [f"        {word}," for word in ["self", *words]]
        lines += ["    def __init__(", *parts, "    ) -> None:"]
    lines.append("        super().__init__()")
    lines += [f"        self.{word} = {word}" for word in sorted(kept)]
    lines += [line for node in init.body[1:] for line in _statement(node)]
    lines += ["", "    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
    own = {word: ast.parse(f"self.{word}", mode="eval").body for word in kept}
    lines += [line for node in forward.body for line in _statement(substitute(node, own))]
    return "\n".join(lines) + "\n"


def _statement(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Return):
        assert node.value is not None
        return statement("return ", ast.unparse(node.value), indent=8)
    assert isinstance(node, ast.Assign)
    return statement(f"{ast.unparse(node.targets[0])} = ", ast.unparse(node.value), indent=8)


def class_name(graph: Graph, piece: Piece) -> str:
    """A name for the class of a block, by what is in it."""
    nodes = [graph.node(id) for id in piece.group.nodes]
    ops = [node.op for node in nodes]
    if piece.group.kind == "transition":
        return "Transition"
    if "attention" in ops or {"linear", "matmul", "softmax"} <= {*ops}:
        return "TransformerBlock" if ops.count("add") > 1 else "AttentionBlock"
    convolutions = [node for node in nodes if OPS[node.op].family == "conv"]
    depthwise = [node for node in convolutions if is_depthwise(node, graph.input_shapes(node.id))]
    if depthwise and convolutions[0] not in depthwise and convolutions[-1] not in depthwise and "concat" not in ops:
        return "InvertedResidual" if "add" in ops else "InvertedBottleneck"
    if depthwise:
        return "DepthwiseBlock"
    if "concat" in ops:
        last = next(node for node in reversed(nodes) if node.op == "concat")
        joins_entry = any(i not in piece.group.nodes for i in last.inputs)
        return "DenseLayer" if joins_entry and "add" not in ops else "BranchBlock"
    if not convolutions:
        return "LinearBlock"
    if "add" not in ops:
        return "Block"
    shrinks = graph.shapes[piece.exit][1:] != graph.shapes[piece.entry][1:]
    summed = next(node for node in reversed(nodes) if node.op == "add")
    projected = piece.entry not in summed.inputs
    return "DownBlock" if shrinks and projected else "ProjectionBlock" if projected else "ResidualBlock"


__all__ = ["BlockClass", "Parameter", "find_classes", "has_module"]
