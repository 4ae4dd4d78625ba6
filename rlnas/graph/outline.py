"""The outline of a graph: stem, stages of blocks, transitions and head, as a person would sketch the network.

A value through which everything passes is a cut. What lies between two cuts is a knot (a residual block, a dense layer,
a gate) or a single node of a chain; knots and the layers that belong to them make blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rlnas.graph.node import Node, Shape
from rlnas.graph.ops import OPS, is_depthwise
from rlnas.graph.order import reading_order

if TYPE_CHECKING:
    from rlnas.graph.graph import Graph

WEIGHTY = ("conv", "linear", "attention")
Kind = Literal["stem", "block", "transition", "head", "whole"]


@dataclass(frozen=True)
class Group:
    """Nodes that belong together.

    Attributes:
        kind: What they are.
        name: Name that prefixes those of its layers: ``stage2_block1``; empty for a network without blocks.
        stage: Number of its stage, counted from 1; None for what is in none.
        nodes: Ids in reading order.
        shape: Shape of the value it ends with.
    """

    kind: Kind
    name: str
    stage: int | None
    nodes: tuple[str, ...]
    shape: Shape


def flattened_concats(graph: Graph, order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Inputs of every node, a concat of what an earlier one joins already reading that one instead.

    ``cat([a, b, c])`` after ``d = cat([a, b])`` is ``cat([d, c])``: the same values, and nothing but ``d`` is kept.
    """
    found: dict[str, tuple[str, ...]] = {}
    earlier: dict[tuple[int, tuple[str, ...]], str] = {}
    for id in order:
        node = graph.node(id)
        inputs = node.inputs
        if node.op == "concat":
            for n in range(len(inputs) - 1, 1, -1):
                known = earlier.get((node["axis"], inputs[:n]))
                if known is not None:
                    inputs = (known, *inputs[n:])
                    break
            earlier.setdefault((node["axis"], node.inputs), id)
        found[id] = inputs
    return found


def outline(graph: Graph) -> tuple[Group, ...]:
    """Every node of a graph in one group, the groups in reading order."""
    order = reading_order(graph)
    reads = flattened_concats(graph, order)
    units = _units(graph, _segments(graph, order, reads))
    return _named(graph, units)


# ---------------------------------------------------------------------------------------------------------- segments


def _segments(graph: Graph, order: Sequence[str], reads: Mapping[str, tuple[str, ...]]) -> list[list[str]]:
    """The nodes cut wherever a single value is alive; a parameter goes with what reads it."""
    left = {id: 0 for id in order}
    for inputs in reads.values():
        for i in inputs:
            left[i] += 1
    segments: list[list[str]] = [[]]
    alive: set[str] = set()
    for id in order:
        segments[-1].append(id)
        if graph.node(id).op == "parameter":
            continue
        for i in reads[id]:
            left[i] -= 1
            if not left[i]:
                alive.discard(i)
        alive.add(id)
        if len(alive) == 1:
            segments.append([])
    if not segments[-1]:
        segments.pop()
    return segments


@dataclass
class _Unit:
    """A block, or layers of a chain with at most one that is weighty."""

    nodes: list[str]
    block: bool = False

    def weighty(self, graph: Graph) -> list[Node]:
        """Its layers that compute."""
        return [graph.node(id) for id in self.nodes if OPS[graph.node(id).op].family in WEIGHTY]


def _units(graph: Graph, segments: list[list[str]]) -> list[_Unit]:
    return _transformers(graph, _squeezed(graph, _inverted(graph, _first(graph, segments))))


def _first(graph: Graph, segments: list[list[str]]) -> list[_Unit]:
    """Knots as blocks, the rest as one unit for each weighty layer."""
    units: list[_Unit] = []
    for segment in segments:
        nodes = [graph.node(id) for id in segment]
        last = nodes[-1]
        inner = [node for node in nodes if node.op != "parameter"]
        family = OPS[last.op].family
        if len(inner) > 1 and any(OPS[node.op].family in WEIGHTY for node in nodes) and not _gate(graph, inner):
            units.append(_Unit(list(segment), block=True))
        elif not units or (units[-1].block and family != "activation") or _begins(graph, units[-1], last):
            units.append(_Unit(list(segment)))
        else:
            units[-1].nodes += segment
    return units


def _gate(graph: Graph, nodes: list[Node]) -> bool:
    """True for a knot that scales a value by what it computes from it, such as squeeze and excitation."""
    last = nodes[-1]
    return last.op == "mul" and len({graph.shapes[i] for i in last.inputs}) > 1


def _begins(graph: Graph, unit: _Unit, node: Node) -> bool:
    """True if a node of a chain does not belong to the unit before it."""
    family = OPS[node.op].family
    if family in (*WEIGHTY, "embedding"):
        pre = not unit.block and all(OPS[graph.node(id).op].family in ("norm", "activation") for id in unit.nodes)
        return not pre
    return family == "norm" and OPS[graph.node(unit.nodes[0]).op].family == "norm" and bool(unit.weighty(graph))


def _pointwise(node: Node) -> bool:
    return node.op.startswith("conv") and set(node["kernel_size"]) == {1} and node["groups"] == 1


def _expands(graph: Graph, node: Node) -> bool:
    return bool(node["out_channels"] > graph.input_shapes(node.id)[0][0])


def _inverted(graph: Graph, units: list[_Unit]) -> list[_Unit]:
    """Make blocks of depthwise layers outside of knots: with the expansion before and the projection behind."""
    made: list[_Unit] = []
    i = 0
    while i < len(units):
        unit = units[i]
        own = unit.weighty(graph) if not unit.block else []
        if not (own and any(is_depthwise(node, graph.input_shapes(node.id)) for node in own)):
            made.append(unit)
            i += 1
            continue
        nodes = list(unit.nodes)
        before = made[-1].weighty(graph) if made and not made[-1].block else []
        if len(before) == 1 and _pointwise(before[0]) and _expands(graph, before[0]):
            nodes = made.pop().nodes + nodes
        if i + 1 < len(units) and not units[i + 1].block:
            after = units[i + 1].weighty(graph)
            if after and _pointwise(after[-1]):
                nodes += units[i + 1].nodes
                i += 1
        made.append(_Unit(nodes, block=True))
        i += 1
    return made


def _squeezed(graph: Graph, units: list[_Unit]) -> list[_Unit]:
    """Join a pointwise layer with the branches that all read it and end in a concat (a fire module)."""
    made: list[_Unit] = []
    for unit in units:
        own = made[-1].weighty(graph) if made and not made[-1].block else []
        if unit.block and len(own) == 1 and _pointwise(own[0]):
            read = made[-1].nodes[-1]
            entries = [graph.node(id) for id in unit.nodes if read in graph.node(id).inputs]
            if graph.node(unit.nodes[-1]).op == "concat" and all(OPS[e.op].family in WEIGHTY for e in entries):
                made[-1] = _Unit(made[-1].nodes + unit.nodes, block=True)
                continue
        made.append(unit)
    return made


def _transformers(graph: Graph, units: list[_Unit]) -> list[_Unit]:
    """Join the branch that attends with the one behind it, and norms between blocks with the block before."""
    made: list[_Unit] = []
    for i, unit in enumerate(units):
        before = made[-1] if made and made[-1].block else None
        inside = i + 1 < len(units) and units[i + 1].block
        norms = not unit.block and all(OPS[graph.node(id).op].family == "norm" for id in unit.nodes)
        second = unit.block and before is not None and _attends(graph, before) and not _attends(graph, unit)
        if before is not None and (second or (norms and inside)):
            before.nodes = before.nodes + unit.nodes
            continue
        nodes = list(unit.nodes)
        if before is not None and not unit.block and _ends_with_norm(graph, made[:-1], before):
            while nodes and OPS[graph.node(nodes[0]).op].family == "norm":
                before.nodes.append(nodes.pop(0))
        if nodes:
            made.append(_Unit(nodes, unit.block))
    return made


def _ends_with_norm(graph: Graph, earlier: Sequence[_Unit], last: _Unit) -> bool:
    """True if a block that attends lacks the norm behind it which those before it have (one normed after its sums)."""
    ends = [OPS[graph.node(unit.nodes[-1]).op].family for unit in earlier if _attends(graph, unit)]
    return _attends(graph, last) and bool(ends) and set(ends) == {"norm"}


def _attends(graph: Graph, unit: _Unit) -> bool:
    return unit.block and any(OPS[graph.node(id).op].family == "attention" for id in unit.nodes)


# ------------------------------------------------------------------------------------------------------------ stages


def _named(graph: Graph, units: list[_Unit]) -> tuple[Group, ...]:
    blocks = [i for i, unit in enumerate(units) if unit.block]
    if not blocks:
        nodes = tuple(id for unit in units for id in unit.nodes)
        return (Group("whole", "", None, nodes, graph.output_shape),)
    stages = _stages(graph, units)
    several = max(stages.values()) > 1
    groups: list[Group] = []
    chain: list[str] = []
    transitions = count = 0
    for i, unit in enumerate(units):
        if not unit.block:
            chain += unit.nodes
            continue
        if chain:
            transitions += i > blocks[0]
            groups.append(_chain(graph, chain, "stem" if i == blocks[0] else "transition", transitions))
            chain = []
        previous = next((group.stage for group in reversed(groups) if group.stage), None)
        count = count + 1 if previous == stages[i] else 1
        name = f"stage{stages[i]}_block{count}" if several else f"block{count}"
        groups.append(Group("block", name, stages[i], tuple(unit.nodes), graph.shapes[unit.nodes[-1]]))
    if chain:
        groups.append(_chain(graph, chain, "head", 0))
    return tuple(groups)


def _chain(graph: Graph, nodes: list[str], kind: Literal["stem", "transition", "head"], number: int) -> Group:
    return Group(kind, f"{kind}{number}" if number else kind, None, tuple(nodes), graph.shapes[nodes[-1]])


def _stages(graph: Graph, units: list[_Unit]) -> dict[int, int]:
    """Number of the stage of each block: a new one where the map's size changes, or its channels between residuals."""
    stages: dict[int, int] = {}
    stage, before = 0, None
    for i, unit in enumerate(units):
        if not unit.block:
            continue
        shape = graph.shapes[unit.nodes[-1]]
        ops = [graph.node(id).op for id in unit.nodes]
        summed = len(ops) - ops[::-1].index("add") if "add" in ops else 0
        joins = "concat" in ops[summed:]
        this = (shape[1:] if len(shape) == 3 else shape[:-1], None if joins else _width(shape))
        stage += this != before
        before = this
        stages[i] = stage
    return stages


def _width(shape: Shape) -> int:
    return shape[0] if len(shape) == 3 else shape[-1]
