"""A smaller kernel, refitted to what the layer made before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import replace_node
from rlnas.network import Network
from rlnas.operators.base import Edit, Operator, Reach, Tensors, whole
from rlnas.operators.compensate import compensate
from rlnas.operators.style import CONVOLUTIONS


class ShrinkKernel(Operator):
    """Take the border off a convolution's kernel, and as much padding off its input.

    With calibration inputs the layer is refitted by least squares to what it made before, else the middle of the
    kernel stays as it is. The amount is how much smaller the kernel gets, an even number: 2 makes 3 x 3 into 1 x 1.
    Axes along which the kernel is 1 stay.

    Optimizer state: what belongs to the weights that are left is kept.

    References:
        Cai et al., Once-for-All, ICLR 2020, arXiv:1908.09791 (smaller kernels from the middle of larger ones).
    """

    name = "shrink_kernel"
    exact = False
    shrinks = True
    amounts = (2,)
    anchors = frozenset(CONVOLUTIONS) | {"conv_transpose2d"}

    def reach(self, op: str) -> Reach | None:
        return "value"

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        node = graph.node(site.anchor)
        if node.op not in self.anchors:
            return f"{site.anchor} is a {node.op}, not a convolution"
        if not whole(site.amount) or site.amount < 2 or site.amount % 2:
            return "the amount is how much smaller the kernel gets, an even number"
        if max(node["kernel_size"]) == 1:
            return "its kernel is 1 already"
        less = _less(node, int(site.amount))
        if any([k - n < 1 for k, n in zip(node["kernel_size"], less, strict=True)]):
            return f"its kernel {node['kernel_size']} is not larger than that"
        if min(_padding(node, less)) < 0:
            return f"its padding {node['padding']} is too narrow for the output to keep its size"
        return None

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        node = graph.node(site.anchor)
        less = _less(node, int(site.amount))
        kernel = tuple([k - n for k, n in zip(node["kernel_size"], less, strict=True)])
        smaller = node.replace(kernel_size=kernel, padding=_padding(node, less))
        return replace_node(graph, smaller), {"border": tuple([n // 2 for n in less])}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        name, border = f"{site.anchor}.weight", edit.plan["border"]
        middle: Any = (..., *[slice(n, -n if n else None) for n in border])

        def crop(values: Mapping[str, Tensor], power: int = 1) -> dict[str, Tensor]:
            return dict(values) | ({name: values[name][middle].clone()} if name in values else {})

        values = crop(network.tensors)
        if calibration is None:
            return Tensors(values, carry=crop)
        values = compensate(network, edit.graph, values, [site.anchor], calibration)
        return Tensors(values, compensated=True, carry=crop)


def _less(node: Node, amount: int) -> tuple[int, ...]:
    """How much smaller the kernel gets along each axis."""
    return tuple([amount if k > 1 else 0 for k in node["kernel_size"]])


def _padding(node: Node, less: tuple[int, ...]) -> tuple[int, ...]:
    return tuple([p - n // 2 * d for p, n, d in zip(node["padding"], less, node["dilation"], strict=True)])
