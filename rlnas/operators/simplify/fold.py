"""Fold BatchNorm into the layers around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlnas.graph import Graph, Node
from rlnas.network import Network
from rlnas.operators.simplify.base import Finding, Simplification, Tensors, alone, kept, reread
from rlnas.operators.simplify.layers import bias_of, by_blocks, from_blocks, groups_of, is_layer, pads_zeros, read_axis

NORMS = ("batch_norm1d", "batch_norm2d", "batch_norm3d")


class FoldBatchNorm(Simplification):
    """Fold a BatchNorm into the layer before it, or else into all layers after it. Holds in eval mode only.

    Before: ``W' = W * s`` and ``b' = (b - mean) * s + beta`` with ``s = gamma / sqrt(var + eps)``, for convolutions of
    any number of groups, transposed ones and linear layers. After: the same on the columns of the layers that read it,
    where they pad no zeros, for a zero in the padding was not normalized. Layers get a bias that had none, so that a
    norm without parameters, or one read by several layers, may leave more parameters than there were.

    References:
        Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, arXiv:1712.05877.
    """

    name = "fold_batch_norm"

    def find(self, network: Network) -> tuple[Finding, ...]:
        graph, found = network.graph, []
        taken: set[str] = set()
        for id in graph.order:
            if self.training or graph.node(id).op not in NORMS or id in graph.shared:
                continue
            sides = {"before": _before(graph, id), "after": _after(network, id)}
            side = next((side for side, ids in sides.items() if ids and not taken.intersection(ids)), None)
            if side is None:
                continue
            places = sides[side]
            taken.update((id, *places))
            text = f"{id} folds into {', '.join(places)}, {side} it"
            added = sum(graph.node(i)["out_channels"] for i in places if not graph.node(i)["bias"])
            n_params = graph.facts[id].n_params - added
            found.append(Finding(self.name, (id, *places), n_params, 0, text, plan=(side,)))
        return tuple(found)

    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        for finding in findings:
            (id, *places), (side,) = finding.nodes, finding.plan
            norm, made = graph.node(id), dict(tensors)
            scale, shift = scale_and_shift(norm, tensors)
            for place in places:
                node, weight = graph.node(place), tensors[f"{place}.weight"]
                blocks, shape = by_blocks(node, tensors), (groups_of(node), -1, 1, 1)
                if side == "before":
                    bias = bias_of(node, tensors) * scale + shift
                    blocks = blocks * scale.view(shape)
                else:
                    by_column = (blocks * shift.view(shape).transpose(1, 2)).sum((2, 3))
                    bias = bias_of(node, tensors) + by_column.flatten()
                    blocks = blocks * scale.view(shape).transpose(1, 2)
                made[f"{place}.weight"] = from_blocks(node, blocks, weight)
                made[f"{place}.bias"] = bias.to(weight.dtype)
            after = reread(graph, id, norm.inputs[0], *[graph.node(place).replace(bias=True) for place in places])
            assert after is not None
            graph, tensors = after, kept(after, made)
        return graph, tensors


def _before(graph: Graph, id: str) -> tuple[str, ...]:
    """The layer whose channels the norm alone reads."""
    source = graph.node(id).inputs[0]
    if not is_layer(graph, source) or alone(graph, source) != id:
        return ()
    return (source,) if graph.facts[source].flow.axis == graph.facts[id].flow.axis else ()


def _after(network: Network, id: str) -> tuple[str, ...]:
    """The layers that read the norm, if nothing else does and they can take it over."""
    graph = network.graph
    readers = tuple(dict.fromkeys(graph.consumers[id]))
    if id == graph.output or not all(is_layer(graph, i) for i in readers):
        return ()
    shifts = bool((scale_and_shift(graph.node(id), network.tensors)[1] != 0).any())
    if any(read_axis(graph, i) != graph.facts[id].flow.axis for i in readers):
        return ()
    return () if shifts and any(pads_zeros(graph.node(i)) for i in readers) else readers


def scale_and_shift(norm: Node, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """A BatchNorm in eval mode as a factor and a summand for each channel, in float64."""
    mean, var = (tensors[f"{norm.id}.running_{name}"].double() for name in ("mean", "var"))
    scale, shift = torch.rsqrt(var + norm["eps"]), torch.zeros_like(mean)
    if norm["affine"]:
        scale, shift = scale * tensors[f"{norm.id}.weight"].double(), tensors[f"{norm.id}.bias"].double()
    return scale, shift - mean * scale
