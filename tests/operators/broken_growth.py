"""Growing operators with one fault each, the check that must find it, and the family of networks on which it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network
from rlnas.operators import Edit, Operator, Tensors
from rlnas.operators.deepen import Deepen
from rlnas.operators.dense import DenseGrowth
from rlnas.operators.expand import ExpandInvertedResidual
from rlnas.operators.fill import FRESH, IDENTITY, MIRROR, ZERO
from rlnas.operators.gate import AddGate
from rlnas.operators.groups import FewerGroups
from rlnas.operators.kernel import GrowKernel
from rlnas.operators.path import InsertNode, ReplaceIdentity, ReplicateAdd, SplitConcat
from rlnas.operators.residual import InsertResidual
from rlnas.operators.skip import AddSkip
from tests.operators.families import FAMILIES

Spoil = Callable[[dict[str, Tensor], Edit, Site], None]


def spoiled(operator: Operator, spoil: Spoil) -> Operator:
    """The operator, its tensors spoiled after it made them."""
    made = operator.tensors

    def tensors(network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        result = made(network, site, edit, **arguments)
        values = {name: tensor.clone() for name, tensor in result.values.items()}
        spoil(values, edit, site)
        return replace(result, values=values)

    operator.tensors = tensors  # type: ignore[method-assign]
    return operator


def refilled(operator: Operator, old: Any, new: Any) -> Operator:
    """The operator, which fills its new layers in another way."""
    rewrite = operator.rewrite

    def refill(graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = rewrite(graph, site)
        return after, {**plan, "fill": {id: new if how == old else how for id, how in plan["fill"].items()}}

    operator.rewrite = refill  # type: ignore[method-assign]
    return operator


def shift(name: str) -> Spoil:
    """Move the weights of a layer by one place."""

    def spoil(values: dict[str, Tensor], edit: Edit, site: Site) -> None:
        id = site.anchor if name == "anchor" else next(iter(edit.plan["fill"]))
        values[f"{id}.weight"] = values[f"{id}.weight"].roll(1, -1)

    return spoil


def turn_rows(values: dict[str, Tensor], edit: Edit, site: Site) -> None:
    """The first branch gets the last one's channels in part."""
    first = f"{edit.plan['branches'][0]}.weight"
    if first in values:
        values[first] = values[first].flip(0)


def fill_zeros(values: dict[str, Tensor], edit: Edit, site: Site) -> None:
    """No weight stays zero."""
    for name, tensor in values.items():
        if tensor.dim() > 1:
            values[name] = torch.where(tensor == 0, 0.01, tensor)


def put_in_one_block(values: dict[str, Tensor], edit: Edit, site: Site) -> None:
    """All groups read the same inputs."""
    weight = values[f"{site.anchor}.weight"]
    width = weight.shape[1] // edit.plan["merged"]
    summed = sum(weight[:, k : k + width] for k in range(0, weight.shape[1], width))
    values[f"{site.anchor}.weight"] = torch.zeros_like(weight)
    values[f"{site.anchor}.weight"][:, :width] = summed


class ShutByHalf(AddGate):
    """Forgets the factor 2."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        nodes = [n.replace(value=1.0) if n.op == "mul_scalar" else n for n in after.nodes]
        return Graph(tuple(nodes), after.output), plan


class Activates(InsertNode):
    """Inserts more than an identity."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = Node.make(Names(graph).new("tanh"), "tanh", site.anchor)
        return insert_after(graph, site.anchor, [node], output=node.id), {}


class Sums(ReplicateAdd):
    """Adds copies of an identity edge up, and does not divide."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        nodes = [n.replace(value=1.0) if n.op == "div_scalar" else n for n in after.nodes]
        return Graph(tuple(nodes), after.output), plan


def with_identities(graph: Graph) -> Graph:
    """An identity edge after each hidden activation."""
    for node in graph.nodes:
        if InsertNode().obstacle(graph, Site("insert_node", node.id)) is None and node.op in Deepen.anchors:
            graph = InsertNode().edit(graph, Site("insert_node", node.id)).graph
    return graph


BROKEN_GROWTH: dict[str, tuple[Operator, str, Graph]] = {
    "mirror without its minus": (refilled(Deepen(), MIRROR, FRESH), "check_function", FAMILIES["transformer"]()),
    "identity off its place": (spoiled(Deepen(), shift("new")), "check_function", FAMILIES["resnet"]()),
    "kernel off its centre": (spoiled(GrowKernel(), shift("anchor")), "check_function", FAMILIES["signal"]()),
    "groups that read alike": (spoiled(FewerGroups(), put_in_one_block), "check_function", FAMILIES["signal"]()),
    "block that is not zero": (
        refilled(InsertResidual("bottleneck"), ZERO, FRESH),
        "check_function",
        FAMILIES["volume"](),
    ),
    "block that is all zero": (
        refilled(InsertResidual("inverted"), FRESH, ZERO),
        "check_everything_learns",
        FAMILIES["squeezenet"](),
    ),
    "skip that carries": (spoiled(AddSkip(), fill_zeros), "check_function", FAMILIES["squeezenet"]()),
    "gate without its factor": (ShutByHalf(), "check_function", FAMILIES["mobilenet"]()),
    "gate that is all zero": (refilled(AddGate(), FRESH, ZERO), "check_everything_learns", FAMILIES["volume"]()),
    "copies alike": (ReplicateAdd(noise=0.0), "check_everything_learns", FAMILIES["resnet"]()),
    "copies not divided": (Sums(), "check_function", with_identities(FAMILIES["volume"]())),
    "branches in disorder": (spoiled(SplitConcat(), turn_rows), "check_function", FAMILIES["mobilenet"]()),
    "identity that acts": (Activates(), "check_function", FAMILIES["squeezenet"]()),
    "edge off its place": (
        spoiled(ReplaceIdentity(), shift("new")),
        "check_function",
        with_identities(FAMILIES["volume"]()),
    ),
    "edge that is random": (
        refilled(ReplaceIdentity(separable=True), IDENTITY, FRESH),
        "check_function",
        with_identities(FAMILIES["mobilenet"]()),
    ),
    "expansion that is read": (
        spoiled(ExpandInvertedResidual(), fill_zeros),
        "check_function",
        FAMILIES["mobilenet"](),
    ),
    "mini-layer that is read": (spoiled(DenseGrowth(), fill_zeros), "check_function", FAMILIES["densenet"]()),
}
