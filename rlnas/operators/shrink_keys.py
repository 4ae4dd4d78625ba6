"""Narrower queries and keys, turned so that what is lost of the scores is least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Site
from rlnas.graph.edit import bypass, resize
from rlnas.network import Network, tensor_name
from rlnas.operators.attention import LINEAR, Heads, find_heads
from rlnas.operators.base import Edit, Operator, Tensors, kept_tensors
from rlnas.operators.compensate import moments
from rlnas.operators.patches import BATCH, check_finite, sample
from rlnas.operators.remap import carry, remap
from rlnas.operators.remove import ancestors
from rlnas.operators.shrink_heads import shorter


class ShrinkKeys(Operator):
    """Make the queries and keys of every head narrower.

    The scores are products of queries and keys, so that both may be turned against each other; they are, and scaled,
    so that those directions go that add least to the scores, by the singular values of the product of their second
    moments' roots. With calibration inputs these are measured, else they follow from the weights, as if all that the
    layers read were uncorrelated. The scale of the scores stays. The amount is the share of each head's channels that
    goes.

    References:
        Eckart, Young, The Approximation of One Matrix by Another of Lower Rank, Psychometrika 1936.
        Hsu et al., Language Model Compression with Weighted Low-rank Factorization, ICLR 2022, arXiv:2207.00112.
    """

    name = "shrink_keys"
    exact = False
    shrinks = True
    amounts = (0.25, 0.5)
    anchors = frozenset({"attention"})

    def obstacle(self, graph: Graph, site: Site) -> str | None:
        heads = find_heads(graph, site.anchor)
        found = heads if isinstance(heads, str) else self._lengths(graph, heads, site.amount)
        if isinstance(found, str):
            return found
        for source in graph.node(site.anchor).inputs[:2]:
            if graph.input.id not in ancestors(graph, source):
                return "its queries or keys do not depend on the network's input"
        for cell in found:
            if (reason := _between(graph, cell)) is not None:
                return reason
        return None

    def _lengths(self, graph: Graph, heads: Heads, share: float) -> dict[int, int] | str:
        found = [shorter(graph, heads, name, share) for name in ("query", "key")]
        lengths: dict[int, int] = {}
        for each in found:
            if isinstance(each, str):
                return each
            lengths |= each
        return lengths

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        heads = find_heads(graph, site.anchor)
        assert isinstance(heads, Heads)
        lengths = self._lengths(graph, heads, site.amount)
        assert not isinstance(lengths, str)
        return resize(graph, graph.channels, lengths), {"heads": heads, "lengths": lengths}

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        heads, lengths = edit.plan["heads"], edit.plan["lengths"]
        given = calibration is not None
        seen = _seen(network, site.anchor, calibration) if calibration is not None else _from_weights(network, lengths)
        turns: dict[int, Tensor] = {}
        for k, ((key, _),) in enumerate(heads.key):
            queries = [part[0][0] for part in heads.query[k * heads.shared : (k + 1) * heads.shared]]
            shared = torch.stack([seen[cell] for cell in queries]).sum(0)
            left, right = _turns(shared, seen[key], lengths[key])
            turns |= {cell: left for cell in queries} | {key: right}
        maps = {cell: torch.arange(n) for cell, n in lengths.items()}
        values = remap(network, maps, noise=0.0, generator=generator)
        return Tensors(values | _turned(network, turns), compensated=given, carry=carry(network, maps))


def _between(graph: Graph, cell: int) -> str | None:
    """Why channels of a cell cannot be turned: between the layers that make them and an attention they are not left."""
    for id in graph.order:
        touched = any([row and cell in dict(row) for row in graph.channels.axes[id]])
        if touched and graph.facts[id].flow.kind != "layer" and graph.node(id).op not in LINEAR:
            return f"{graph.node(id).op} {id} lies between the layers that make its queries and keys and itself"
        if cell in dict(graph.channels.rows[id].get("in", ())):
            return f"{id} reads its queries or keys too"
    return None


def _turns(query: Tensor, key: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices A and B of that rank for which (A q)'(B k) comes closest to q'k in the mean square.

    Args:
        query: Second moments of the queries, shape (width, width).
        key: Those of the keys.
    """
    (root_q, inverse_q), (root_k, inverse_k) = _roots(query), _roots(key)
    u, s, v = torch.linalg.svd(root_q @ root_k)
    scale = s[:rank].sqrt()[:, None]
    return scale * u.T[:rank] @ inverse_q, scale * v[:rank] @ inverse_k


def _roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric root of a matrix of second moments, and its pseudo-inverse."""
    values, vectors = torch.linalg.eigh(moments)
    values = values.clamp_min(0.0).sqrt()
    inverse = torch.where(values > 1e-9 * values.max(), 1 / values, 0.0)
    return (vectors * values) @ vectors.T, (vectors * inverse) @ vectors.T


def _turned(network: Network, turns: Mapping[int, Tensor]) -> dict[str, Tensor]:
    """The tensors of the layers that make cells, with the channels of each turned."""
    graph, made = network.graph, {}
    for id in graph.order:
        row = graph.channels.rows[id].get("out", ())
        if graph.facts[id].flow.kind != "layer" or not any([cell in turns for cell, _ in row]):
            continue
        for name, param in graph.params(id).items():
            if "out" in param.axes:
                full = tensor_name(id, name)
                tensor = network.tensors[full].movedim(param.axes.index("out"), 0)
                parts = torch.split(tensor, [graph.channels.lengths[cell] * block for cell, block in row])
                new = [
                    torch.tensordot(turns[cell], part.double(), 1).to(part.dtype) if cell in turns else part
                    for (cell, _), part in zip(row, parts, strict=True)
                ]
                made[full] = torch.cat(new).movedim(0, param.axes.index("out")).contiguous()
    return made


def _from_weights(network: Network, cells: Mapping[int, int]) -> dict[int, Tensor]:
    """Second moments of channels if all that their layers read were uncorrelated, with a variance of 1."""
    graph, lengths = network.graph, network.graph.channels.lengths
    found = {cell: torch.zeros(lengths[cell], lengths[cell], dtype=torch.float64) for cell in cells}
    for id in graph.order:
        row = graph.channels.rows[id].get("out", ())
        if graph.facts[id].flow.kind != "layer" or not any([cell in cells for cell, _ in row]):
            continue
        for name, param in graph.params(id).items():
            if "out" in param.axes:
                tensor = network.tensors[tensor_name(id, name)].double().movedim(param.axes.index("out"), 0)
                parts = torch.split(tensor.reshape(len(tensor), -1), [lengths[cell] for cell, _ in row])
                for (cell, _), part in zip(row, parts, strict=True):
                    if cell in cells:
                        found[cell] += part @ part.T
    return found


def _seen(network: Network, id: str, inputs: Tensor) -> dict[int, Tensor]:
    """Second moments of queries and keys, by their cells, as an attention reads them."""
    graph = network.graph
    found: dict[int, Tensor] = {}
    for name, source in zip(("query", "key"), graph.node(id).inputs, strict=False):
        row = graph.channels.rows[id][name]
        values = _value(network, source, inputs).flatten(0, -2)
        check_finite(source, values)
        some = values[sample(len(values), values.shape[1])]
        parts = torch.split(some, [graph.channels.lengths[cell] for cell, _ in row], 1)
        found |= {cell: moments(part, part) for (cell, _), part in zip(row, parts, strict=True)}
    return found


def _value(network: Network, id: str, inputs: Tensor) -> Tensor:
    """What a node makes of the inputs, in eval mode."""
    graph = bypass(network.graph, network.graph.output, id)
    part = Network(graph, kept_tensors(network, graph)).module().eval()
    return torch.cat([part(inputs[first : first + BATCH]) for first in range(0, len(inputs), BATCH)])
