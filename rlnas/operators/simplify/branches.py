"""Merge branches that compute the same, and layers side by side of which only the sum is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.table.moves import DROPOUTS
from rlnas.network import Network, tensor_name
from rlnas.operators.simplify.base import Finding, Simplification, Tensors, kept, reread, saved
from rlnas.operators.simplify.layers import CONVOLUTIONS, is_layer


class MergeEqualBranches(Simplification):
    """Merge nodes that compute the same, and layers that are read in the same sum only.

    Two nodes compute the same if they are of one kind, read the same and have equal tensors; followed along the
    network, that finds whole branches. Layers that read the same and meet in an add become one with the sum of their
    weights, whatever these are, zeros around the smaller kernels. Dropout that drops something is no equal of another.

    References:
        Ding et al., RepVGG, CVPR 2021, arXiv:2101.03697.
    """

    name = "merge_equal_branches"

    def find(self, network: Network) -> tuple[Finding, ...]:
        return tuple(self._equal(network)) or tuple(self._summed(network.graph))

    def _equal(self, network: Network) -> Iterator[Finding]:
        graph, stands = network.graph, _stand_for(network)
        for id in graph.order:
            inner = id != graph.output and all(stands[i] != i for i in graph.consumers[id])
            if stands[id] == id or inner or not graph.node(id).inputs:  # an inner node goes with what reads it
                continue
            after = reread(graph, id, stands[id])
            if after is not None:
                text = f"{id} computes the same as {stands[id]}"
                yield Finding(self.name, (stands[id], id), *saved(graph, after), text, plan=("equal",))

    def _summed(self, graph: Graph) -> Iterator[Finding]:
        for id in graph.order:
            node = graph.node(id)
            sets: dict[object, list[str]] = {}
            for source in dict.fromkeys(node.inputs if node.op == "add" else ()):
                layer = graph.node(source)
                alone = source != graph.output and set(graph.consumers[source]) == {id}
                if alone and is_layer(graph, source):
                    sets.setdefault(_kind(layer), []).append(source)
            for layers in sets.values():
                layers.sort(key=lambda i: -math.prod(_kernel(graph.node(i))))  # stable
                fits = [
                    i for i in layers if all(map(operator.le, _kernel(graph.node(i)), _kernel(graph.node(layers[0]))))
                ]
                if sum(map(node.inputs.count, fits)) > 1:
                    after, text = _with_sum(graph, node, fits), f"{id} adds up layers that read the same"
                    yield Finding(
                        self.name, (id, *fits), *saved(graph, after), f"{text}: {', '.join(fits)}", plan=("sum",)
                    )
                    break

    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        for finding in findings:
            id, *layers = finding.nodes
            if finding.plan == ("equal",):
                after = reread(graph, layers[0], id)
                assert after is not None
            else:
                node, made = graph.node(id), dict(tensors)
                after = _with_sum(graph, node, layers)
                for name in after.params(layers[0]):
                    values = [tensors[f"{i}.{name}"] * node.inputs.count(i) for i in layers if name in graph.params(i)]
                    made[f"{layers[0]}.{name}"] = torch.stack([_padded(v, values[0].shape) for v in values]).sum(0)
                tensors = made
            graph = after
        return graph, kept(graph, tensors)


def _stand_for(network: Network) -> dict[str, str]:
    """For each node one that computes the same and stays; itself for most."""
    graph, first = network.graph, {id: id for id in network.graph.order}
    known: dict[object, list[str]] = {}
    for id in graph.order:
        node = graph.node(id)
        drops = node.op in DROPOUTS and node["p"] > 0
        if not drops and node.op not in ("input", "opaque") and id not in graph.shared:
            read = [first[i] for i in node.inputs]
            key = (node.op, node.attrs, tuple(sorted(read) if OPS[node.op].commutative else read), graph.shapes[id])
            others = known.setdefault(key, [])
            first[id] = next((other for other in others if _same_tensors(network, id, other)), id)
            others += [id] * (first[id] == id)
    stays: dict[str, str] = {}
    for id in graph.order:  # of a branch all stay, or none
        same = [i for i in graph.order if first[i] == first[id]] if first[id] not in stays else []
        whole = [i for i in same if all(stays[first[k]] == k for k in graph.node(i).inputs)]
        stays.setdefault(first[id], (whole or [id])[0])
    return {id: stays[first[id]] for id in graph.order}


def _same_tensors(network: Network, a: str, b: str) -> bool:
    names = [name for name in network.graph.params(a) if name != "num_batches_tracked"]
    return all(torch.equal(network.tensors[tensor_name(a, n)], network.tensors[tensor_name(b, n)]) for n in names)


def _kernel(layer: Node) -> tuple[int, ...]:
    return () if layer.op == "linear" else tuple(layer["kernel_size"])


def _kind(layer: Node) -> object:
    """What two layers have in common if zeros around the kernel of one make it one of the other's kind."""
    if layer.op == "linear":
        return layer.op, layer.inputs
    sizes = zip(layer["kernel_size"], layer["dilation"], layer["padding"], strict=True)
    middles = tuple([(k % 2, 2 * p - d * (k - 1)) for k, d, p in sizes])
    if layer.op in CONVOLUTIONS:
        layer = layer.replace(kernel_size=(1,) * len(middles), padding=(0,) * len(middles))
    return layer.op, layer.inputs, layer.replace(bias=True).attrs, middles


def _padded(weight: Tensor, shape: Sequence[int]) -> Tensor:
    """A kernel, or a bias, with zeros around it."""
    around = [(size - own) // 2 for size, own in zip(shape, weight.shape, strict=True)]
    return nn.functional.pad(weight, [n for n in reversed(around) for _ in range(2)])


def _with_sum(graph: Graph, node: Node, layers: Sequence[str]) -> Graph:
    """The graph in which the first of some layers stands for all that an add reads."""
    stays = graph.node(layers[0])
    stays = stays.replace(bias=any(graph.node(i)["bias"] for i in layers))
    rest = tuple([i for k, i in enumerate(node.inputs) if i not in layers or k == node.inputs.index(stays.id)])
    if len(rest) > 1:
        after = reread(graph, "", "", stays, node.replace(inputs=rest))
    else:
        after = reread(graph, node.id, stays.id, stays)
    assert after is not None
    return after
