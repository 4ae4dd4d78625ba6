"""Add a skip connection that carries nothing at first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import insert_after
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors
from rlnas.operators.fill import ZERO, filled
from rlnas.operators.style import CONVOLUTIONS, HIDDEN, REMEMBERED, Chain, Form, form_of

ENDS = HIDDEN | {"add", "concat"} | {op.name for op in OPS.values() if op.family == "pool" and op.name != "reduce"}
LISTED = 8
LAYERS = ("conv", "linear", "attention")


class AddSkip(Operator):
    """Add the value of an earlier node to that of a later one, times a learned factor for each channel, zero at first.

    Both are maps with the same places, or values with the same other axes; if they differ in channels, a layer of
    kernel 1 that is zero takes the place of the factors. The second node comes after the first by at least one layer.
    The amount says which it is: 1 is the nearest of the same shape, 2 the next, and after those come the others.

    Optimizer state: the factors start from zero, all else is kept.

    References:
        Elsken, Metzen, Hutter, Simple and Efficient Architecture Search for CNNs, 2017, arXiv:1711.04528.
        Zhang, Rao, Agrawala, Adding Conditional Control (zero convolutions), ICCV 2023, arXiv:2302.05543.
    """

    name = "add_skip"
    exact = True
    amounts = (1, 2)
    anchors = ENDS
    takes_target = True

    def sites(self, graph: Graph, amounts: tuple[float, ...] | None = None) -> tuple[Site, ...]:
        """Every site where the operator applies, in canonical order of their anchors, then of the amounts."""
        offered = self.amounts if amounts is None else amounts
        targets = find_targets(graph)
        return tuple(
            [
                Site(self.name, id, targets[id][int(amount) - 1], amount)
                for id in self.candidates(graph)
                for amount in offered
                if _counts(amount, targets.get(id, ()))
            ]
        )

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        targets = find_targets(graph).get(site.anchor, ())
        if site.target not in targets:
            return f"a skip connection from {site.anchor} can lead to {_listed(targets)}"
        if site.amount != targets.index(site.target) + 1:
            return f"{site.target} comes as number {targets.index(site.target) + 1}; that is the amount"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        target = graph.node(site.target or "")
        chain, end = Chain(graph, site.anchor), form_of(graph, target.id)
        assert end is not None
        if chain.form.channels == end.channels:
            shape = (end.channels, *[1 for _ in end.places])
            chain.add("mul", site.anchor, chain.parameter("gate", shape, ZERO))
        else:
            chain.layer(end.channels, ZERO)
        chain.add("add", target.id, chain.last)
        return insert_after(graph, target.id, chain.nodes, output=chain.last), {"fill": chain.fill}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(filled(network, edit.graph, edit.plan["fill"], generator=generator))


@lru_cache(maxsize=REMEMBERED)
def find_targets(graph: Graph) -> Mapping[str, tuple[str, ...]]:
    """For each node the later ones to which a skip connection from it can lead, those of the same shape first."""
    layers: dict[str, int] = {}
    before: dict[str, int] = {}
    place = {id: 1 << i for i, id in enumerate(graph.order)}
    ends: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    found: dict[str, list[str]] = {}
    for id in graph.order:
        node = graph.node(id)
        layers[id] = max([layers[i] for i in node.inputs], default=0) + (OPS[node.op].family in LAYERS)
        before[id] = 0
        for i in node.inputs:
            before[id] |= before[i] | place[i]
        form = form_of(graph, id)
        if form is None or node.op not in ENDS:
            continue
        sources = ends.setdefault(_others(graph, id, form), [])
        if any([graph.node(reader).op != "add" for reader in graph.consumers[id]]) or id == graph.output:
            taken = _connected(graph, node)
            for source in sources:
                if before[id] & place[source] and layers[source] < layers[id] and source not in taken:
                    found[source].append(id)
        sources.append(id)
        found[id] = []
    shapes = graph.shapes
    return {id: tuple(sorted(targets, key=lambda t: shapes[t] != shapes[id])) for id, targets in found.items()}


def _others(graph: Graph, id: str, form: Form) -> tuple[int, tuple[int, ...]]:
    """What two values must have in common: the number of axes and the sizes of all but that of the channels."""
    return form.rank, form.places or (0, *graph.shapes[id][:-1])


def _connected(graph: Graph, node: Node) -> set[str]:
    """Nodes whose values a node adds up already, as they are, times factors, or through a layer of kernel 1."""
    found: set[str] = set()
    stack = list(node.inputs) if node.op == "add" else []
    while stack:
        id = stack.pop()
        found.add(id)
        term = graph.node(id)
        if term.op == "add":
            stack += term.inputs
        elif term.op in ("mul", "linear") or (term.op in CONVOLUTIONS and set(term["kernel_size"]) == {1}):
            found.update(term.inputs)
    return found


def _counts(amount: float, targets: tuple[str, ...]) -> bool:
    return amount in range(1, len(targets) + 1)


def _listed(targets: tuple[str, ...]) -> str:
    more = ", ..." if len(targets) > LISTED else ""
    return ", ".join(targets[:LISTED]) + more if targets else "no other node"
