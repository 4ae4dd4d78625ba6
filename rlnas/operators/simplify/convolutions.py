"""Merge two convolutions or linear layers between which nothing stands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rlnas.graph import Graph, Node
from rlnas.network import Network
from rlnas.operators.simplify.base import Finding, Simplification, Tensors, alone, kept, replaced, saved
from rlnas.operators.simplify.layers import TRANSPOSED, bias_of, by_blocks, is_layer, pads_zeros


class MergeConvolutions(Simplification):
    """Merge a convolution or linear layer into the one that alone reads it, where that makes the network smaller.

    The kernels are convolved, to a size of ``d1 (k1 - 1) + s1 d2 (k2 - 1) + 1`` with strides s and dilations d; strides
    multiply, and groups are the greatest common divisor. Padding of the second layer is exact only if the first reads
    single places, and its bias is zero or the padding repeats values: past the border the first layer's output is not
    zero otherwise. Nothing is merged where parameters or multiply-accumulates would grow.

    References:
        Ding et al., RepVGG, CVPR 2021, arXiv:2101.03697; Kim et al., LayerMerge, ICML 2024, arXiv:2406.12837.
    """

    name = "merge_convolutions"

    def find(self, network: Network) -> tuple[Finding, ...]:
        graph, found = network.graph, []
        taken: set[str] = set()
        for id in graph.order:
            second = alone(graph, id) if is_layer(graph, id) else None
            if second is None or taken.intersection((id, second)):
                continue
            node = merged(graph, network.tensors, id, second)
            if node is None:
                continue
            after = replaced(graph, node)
            assert after is not None
            n_params, macs = saved(graph, after)
            if min(n_params, macs) >= 0 and max(n_params, macs) > 0:
                taken.update((id, second))
                text = f"{id} merges into {second}, with nothing between"
                found.append(Finding(self.name, (second, id), n_params, macs, text))
        return tuple(found)

    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        for finding in findings:
            second, first = finding.nodes
            node = merged(graph, tensors, first, second)
            assert node is not None
            made = dict(tensors)
            made[f"{second}.weight"], bias = composed(graph, tensors, first, node)
            if node["bias"]:
                made[f"{second}.bias"] = bias
            after = replaced(graph, node)
            assert after is not None
            graph, tensors = after, kept(after, made)
        return graph, tensors


def merged(graph: Graph, tensors: Tensors, first: str, second: str) -> Node | None:
    """The node that does what two layers in a row do; None if no such one is exact."""
    a, b = graph.node(first), graph.node(second)
    if a.op != b.op or a.op in TRANSPOSED:
        return None
    bias = a["bias"] or b["bias"]
    if a.op == "linear":
        return b.replace(inputs=a.inputs, bias=bias)
    padding_mode = a["padding_mode"]
    if any(b["padding"]):
        points = max(a["kernel_size"]) == 1 and not any(a["padding"])
        if pads_zeros(b):
            shifts = bool((bias_of(a, tensors) != 0).any())
            if max(a["kernel_size"]) > 1 or shifts or (any(a["padding"]) and not pads_zeros(a)):
                return None
        elif not points or max(a["stride"]) > 1:
            return None
        padding_mode = b["padding_mode"]
    dilation, kernel = zip(*[_window(a, b, i) for i in range(len(a["stride"]))], strict=True)
    return b.replace(
        inputs=a.inputs,
        bias=bias,
        groups=math.gcd(a["groups"], b["groups"]),
        kernel_size=kernel,
        dilation=dilation,
        stride=tuple(s * t for s, t in zip(a["stride"], b["stride"], strict=True)),
        padding=tuple(p + s * q for p, s, q in zip(a["padding"], a["stride"], b["padding"], strict=True)),
        padding_mode=padding_mode,
    )


def _window(a: Node, b: Node, i: int) -> tuple[int, int]:
    """Dilation and size of the merged kernel along an axis."""
    k1, k2 = a["kernel_size"][i], b["kernel_size"][i]
    step1, step2 = a["dilation"][i], a["stride"][i] * b["dilation"][i]
    step = math.gcd(step1 if k1 > 1 else 0, step2 if k2 > 1 else 0) or 1
    return step, (step1 * (k1 - 1) + step2 * (k2 - 1)) // step + 1


def composed(graph: Graph, tensors: Tensors, first: str, node: Node) -> tuple[Tensor, Tensor]:
    """Weight and bias of the node that `merged` gave, which still has the name of the second layer."""
    a, b, like = graph.node(first), graph.node(node.id), tensors[f"{node.id}.weight"]
    x, y = _dense(a, tensors), _dense(b, tensors)
    bias = bias_of(b, tensors) + y.view(*y.shape[:2], -1).sum(2) @ bias_of(a, tensors)
    if a.op == "linear":
        return (y @ x).to(like.dtype), bias.to(like.dtype)
    steps = [s * d for s, d in zip(a["stride"], b["dilation"], strict=True)]
    convolve = getattr(nn.functional, a.op.replace("conv", "conv_transpose"))
    full = convolve(y, x, stride=steps, dilation=a["dilation"])
    for axis, step in enumerate(node["dilation"], start=2):
        full = full.index_select(axis, torch.arange(0, full.shape[axis], step))
    n, each = node["groups"], torch.arange(node["groups"])
    blocks = full.view(n, len(y) // n, n, x.shape[1] // n, *full.shape[2:])[each, :, each]
    return blocks.flatten(0, 1).to(like.dtype), bias.to(like.dtype)


def _dense(layer: Node, tensors: Tensors) -> Tensor:
    """The weight of a layer as one without groups."""
    blocks, kernel = by_blocks(layer, tensors), tensors[f"{layer.id}.weight"].shape[2:]
    n, out, width, _ = blocks.shape
    made, each = blocks.new_zeros(n, out, n, width, *kernel), torch.arange(n)
    made[each, :, each] = blocks.view(n, out, width, *kernel)
    return made.view(n * out, n * width, *kernel)
