"""Networks with superfluous parts, planted at random or by hand."""

from __future__ import annotations

import random

import torch

from rlnas.graph import OPS
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.operators.sameness import generator

KINDS = ("zero", "rows", "columns", "duplicate", "proportional", "dirac", "nothing", "nothing")


def plant(network: Network, seed: int) -> Network:
    """Zero, equal or proportional channels, layers that copy, parameters of zeros, in about half of all nodes."""
    rng, graph = random.Random(seed), network.graph
    tensors = {name: tensor.clone() for name, tensor in network.tensors.items()}
    for id in graph.order:
        names = [name for name in graph.params(id) if name != "num_batches_tracked"]
        if graph.node(id).op == "parameter":
            if graph.node(id)["trained"] and rng.random() < 0.4:
                tensors[id].fill_(rng.choice([0.0, 1.0]))
        elif "weight" in names and OPS[graph.node(id).op].family in ("conv", "linear"):
            _plant_in_layer(tensors[f"{id}.weight"], tensors.get(f"{id}.bias"), rng)
        elif "weight" in names and OPS[graph.node(id).op].family == "norm":
            kind, i, j = rng.choice(KINDS), *_two(rng, len(tensors[f"{id}.weight"]))
            for name in names:
                tensor = tensors[f"{id}.{name}"]
                if kind == "duplicate":
                    tensor[i] = tensor[j]
                elif kind == "rows":
                    tensor.fill_(0.7)
                elif kind == "zero" and name in ("weight", "bias"):
                    tensor.zero_()
    return network.with_tensors(tensors)


def _plant_in_layer(weight: torch.Tensor, bias: torch.Tensor | None, rng: random.Random) -> None:
    kind, i, j = rng.choice(KINDS), *_two(rng, len(weight))
    factor = {"duplicate": 1.0, "proportional": 1.7, "rows": 0.0}.get(kind)
    if kind == "zero":
        weight.zero_()
        if bias is not None and rng.random() < 0.7:
            bias.zero_()
    elif kind == "columns":
        weight[:, rng.randrange(weight.shape[1])] = 0.0
    elif kind == "dirac" and weight.shape[0] == weight.shape[1]:
        torch.nn.init.dirac_(weight) if weight.dim() > 2 else torch.nn.init.eye_(weight)
        if bias is not None:
            bias.zero_()
    elif factor is not None:
        weight[i] = factor * weight[j]
        if bias is not None and factor:
            bias[i] = factor * bias[j]


def _two(rng: random.Random, n: int) -> tuple[int, int]:
    return rng.randrange(n), rng.randrange(n)


def grow(network: Network, picks: list[int], *, most: int = 30_000) -> Network:
    """The network after some operators that keep its function, while it is small."""
    for pick in picks:
        offers = [(op, site) for op in OPERATORS.values() if op.exact for site in op.sites(network.graph)]
        if not offers or network.graph.n_params > most:
            break
        operator, site = offers[pick % len(offers)]
        network = operator.apply(network, site, generator=generator(pick))
    return network
