"""Edits of the paths between two nodes, by which a layer grows into a tree of branches.

References:
    Cai et al., Path-Level Network Transformation for Efficient Architecture Search, ICML 2018, arXiv:1806.02639.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node, Site
from rlnas.graph.edit import Names, bypass, insert_after
from rlnas.graph.facts import complete
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors, whole
from rlnas.operators.deepen import IDEMPOTENT
from rlnas.operators.fill import IDENTITY, filled
from rlnas.operators.style import CONVOLUTIONS, HIDDEN, Chain, form_of, kernel_obstacle

EDGES = frozenset({*CONVOLUTIONS, "linear", "identity"})
"""Ops that can be parted into branches."""

PASSED = ("identity", "max_pool1d", "max_pool2d", "max_pool3d", "flatten")
MOST = 8


def _branch_obstacle(graph: Graph, site: Site) -> str | None:
    if graph.node(site.anchor).op not in EDGES:
        return f"{graph.node(site.anchor).op} is neither a layer nor an identity edge"
    if not whole(site.amount) or not 2 <= site.amount <= MOST:
        return f"the amount is the number of branches, a whole number from 2 to {MOST}"
    if form_of(graph, site.anchor) is None:
        return "nothing tells along which axis its channels lie"
    return None


class ReplicateAdd(Operator):
    """Let several copies of a layer, or of an identity edge, stand side by side and average what they make.

    Each copy of a layer has its share of the weights, plus random values that cancel out over the copies, so that they
    part in training; their outputs are added up. Copies of an identity edge are added up and divided by their number.
    The amount is the number of copies.

    Optimizer state: each copy of a layer takes over that of the layer, since its gradients are the same at first.

    References:
        Cai et al., Path-Level Network Transformation, ICML 2018, arXiv:1806.02639.
    """

    name = "replicate_add"
    exact = True
    amounts = (2, 3)
    anchors = EDGES

    def __init__(self, *, noise: float = 0.5) -> None:
        self.noise = noise

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        return _branch_obstacle(graph, site)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node, names, n = graph.node(site.anchor), Names(graph), int(site.amount)
        copies = [Node(names.new(_prefix(node)), node.op, node.inputs, node.attrs) for _ in range(n - 1)]
        ids = (node.id, *[copy.id for copy in copies])
        nodes = [*copies, Node.make(names.new("add"), "add", ids)]
        if node.op == "identity":
            nodes.append(Node.make(names.new("scale"), "div_scalar", nodes[-1].id, value=float(n)))
        return insert_after(graph, site.anchor, nodes, output=nodes[-1].id), {"copies": ids}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        values, copies = dict(network.tensors), edit.plan["copies"]
        for name in network.graph.params(site.anchor):
            shares = _shares(network.tensors[f"{site.anchor}.{name}"], len(copies), self.noise, generator)
            values |= {f"{id}.{name}": share for id, share in zip(copies, shares, strict=True)}

        def carry(given: Mapping[str, Tensor], power: int) -> dict[str, Tensor]:
            names = [name for name in network.graph.params(site.anchor) if f"{site.anchor}.{name}" in given]
            return dict(given) | {f"{id}.{name}": given[f"{site.anchor}.{name}"] for id in copies for name in names}

        return Tensors(values, carry=carry)


def _shares(tensor: Tensor, n: int, noise: float, generator: torch.Generator) -> Tensor:
    """Equal shares of a tensor plus random values that cancel out."""
    scale = noise * (float(tensor.square().mean().sqrt()) or max(tensor[0].numel(), 1) ** -0.5) / n
    random = torch.randn((n, *tensor.shape), generator=generator, dtype=torch.float64).to(tensor.dtype) * scale
    return tensor / n + random - random.mean(0)


class SplitConcat(Operator):
    """Part the channels that a layer, or an identity edge, makes among several branches, and concatenate them.

    Each branch of a dense layer reads all that the layer read; a branch of a grouped or depthwise convolution, or of an
    identity edge, reads its part. The amount is the number of branches; their sizes differ by one channel at most.

    Optimizer state: that of the layer is parted like its weights.

    References:
        Cai et al., Path-Level Network Transformation, ICML 2018, arXiv:1806.02639.
    """

    name = "split_concat"
    exact = True
    amounts = (2,)
    anchors = EDGES

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if (reason := _branch_obstacle(graph, site)) is not None:
            return reason
        node, form = graph.node(site.anchor), form_of(graph, site.anchor)
        assert form is not None
        units = _units(node, form.channels)
        if site.amount > units:
            return f"its {units} {'channels' if units == form.channels else 'groups'} do not make so many branches"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node, names, n = graph.node(site.anchor), Names(graph), int(site.amount)
        form = form_of(graph, site.anchor)
        assert form is not None
        axis = 0 if form.places else form.rank - 1
        units = _units(node, form.channels)
        counts = [units // n + (i < units % n) for i in range(n)]
        outputs = [count * form.channels // units for count in counts]
        reads = graph.input_shapes(node.id)[0][axis]
        nodes: list[Node] = []
        branches: list[str] = []
        for i, count in enumerate(counts):
            source = node.inputs[0]
            if _reads_part(node):
                start, stop = (sum(counts[:k]) * reads // units for k in (i, i + 1))
                part = Node.make(names.new("slice"), "slice", source, axis=axis, start=start, stop=stop)
                nodes.append(complete(part))
                source = part.id
            attrs = dict(node.attrs)
            attrs |= {"out_channels": outputs[i]} if "out_channels" in attrs else {}
            attrs |= {"groups": count} if _reads_part(node) and "groups" in attrs else {}
            branches.append(names.new(_prefix(node)) if i else node.id)
            nodes.append(Node.make(branches[-1], node.op, source, **attrs))
        nodes.append(Node.make(names.new("concat"), "concat", tuple(branches), axis=axis))
        return _put(graph, site.anchor, nodes), {"branches": tuple(branches), "outputs": tuple(outputs)}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        def part(given: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            made = dict(given)
            for name in network.graph.params(site.anchor):
                if f"{site.anchor}.{name}" in given:
                    parts = torch.split(given[f"{site.anchor}.{name}"], edit.plan["outputs"])
                    made |= {f"{id}.{name}": p for id, p in zip(edit.plan["branches"], parts, strict=True)}
            return made

        return Tensors(part(network.tensors), carry=part)


def _reads_part(node: Node) -> bool:
    return node.op == "identity" or (node.op in CONVOLUTIONS and node["groups"] > 1)


def _units(node: Node, channels: int) -> int:
    """What can be parted: channels, or the groups of a grouped convolution."""
    return int(node["groups"]) if node.op in CONVOLUTIONS and node["groups"] > 1 else channels


def _put(graph: Graph, anchor: str, nodes: Sequence[Node]) -> Graph:
    """Put nodes in the place of another; what read that one reads the last of them."""
    last = nodes[-1].id
    edited: list[Node] = []
    for node in graph.sorted_nodes:
        if node.id == anchor:
            edited += nodes
        elif anchor in node.inputs:
            edited.append(node.replace(inputs=tuple([last if i == anchor else i for i in node.inputs])))
        else:
            edited.append(node)
    return Graph(tuple(edited), last if graph.output == anchor else graph.output)


class InsertNode(Operator):
    """Insert an identity edge, which `replicate_add`, `split_concat` and `replace_identity` turn into more.

    The amount is 1.

    Optimizer state: all is kept.

    References:
        Cai et al., Path-Level Network Transformation, ICML 2018, arXiv:1806.02639.
    """

    name = "insert_node"
    exact = True
    amounts = (1,)
    anchors = HIDDEN | {op.name for op in OPS.values() if op.family in ("conv", "linear", "norm", "pool", "merge")}

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if graph.node(site.anchor).op not in self.anchors:
            return "an identity edge goes after a layer, a norm, an activation, a pooling layer or a merge"
        if site.amount != 1:
            return "the amount is 1"
        if form_of(graph, site.anchor) is None:
            return "nothing tells along which axis its channels lie"
        if any([graph.node(id).op == "identity" for id in graph.consumers[site.anchor]]):
            return "there is an identity edge already"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = Node.make(Names(graph).new("identity"), "identity", site.anchor)
        return insert_after(graph, site.anchor, [node], output=node.id), {}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(kept_tensors(network, edit.graph))


class ReplaceIdentity(Operator):
    """Put a layer that passes its input on in the place of an identity edge.

    The layer is dense, or, if ``separable``, a depthwise convolution followed by one of kernel 1. If the values come
    from ReLU or ReLU6, the same activation follows, which leaves them as they are. The amount is the kernel size.

    Optimizer state: the new layers start from zero, all else is kept.

    References:
        Cai et al., Path-Level Network Transformation, ICML 2018, arXiv:1806.02639.
    """

    exact = True
    anchors = frozenset({"identity"})

    def __init__(self, *, separable: bool = False) -> None:
        self.name = "replace_identity_separable" if separable else "replace_identity"
        self.amounts = (3, 5) if separable else (1, 3)
        self.separable = separable

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        if graph.node(site.anchor).op != "identity":
            return f"{site.anchor} is a {graph.node(site.anchor).op}, not an identity edge"
        form = form_of(graph, site.anchor)
        if self.separable and (form is None or not form.places or site.amount == 1):
            return "a depthwise convolution needs a map and a kernel of at least 3"
        return kernel_obstacle(form, site.amount)

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        chain, kernel = Chain(graph, site.anchor), int(site.amount)
        channels = chain.form.channels
        if self.separable:
            chain.layer(channels, IDENTITY, kernel=kernel, groups=channels)
        chain.layer(channels, IDENTITY, kernel=1 if self.separable else kernel)
        activation = _activated_by(graph, site.anchor)
        if activation is not None:
            chain.activation(activation)
        after = insert_after(graph, site.anchor, chain.nodes, output=chain.last)
        return bypass(after, site.anchor, graph.node(site.anchor).inputs[0]), {"fill": chain.fill}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        return Tensors(filled(network, edit.graph, edit.plan["fill"], generator=generator))


def _activated_by(graph: Graph, id: str) -> Node | None:
    """The activation that would leave a node's values as they are, since they come from it."""
    node = graph.node(id)
    while node.op in PASSED:
        node = graph.node(node.inputs[0])
    return node if node.op in IDEMPOTENT else None


def _prefix(node: Node) -> str:
    return "conv" if node.op in CONVOLUTIONS else node.op
