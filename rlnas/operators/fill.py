"""Tensors of new layers: at random, zero, or such that the layer passes its input on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rlnas.graph import Graph, Param
from rlnas.network import Network, fresh_tensor, tensor_name
from rlnas.operators.base import kept_tensors

IDENTITY = "identity"
"""Each output is the input of its place."""
MIRROR = "mirror"
"""The input, then the input with its sign turned."""
ZERO = "zero"
FRESH = "fresh"


def unmirror(slope: float) -> tuple[str, float]:
    """Inverse of `MIRROR` and an activation a with a(x) - a(-x) = (1 + slope) x."""
    return "unmirror", 1.0 + slope


def filled(network: Network, graph: Graph, fill: Mapping[str, Any], *, generator: torch.Generator) -> dict[str, Tensor]:
    """The tensors that a network has for another graph's nodes, and those of new nodes.

    Args:
        fill: For each new node with tensors `FRESH`, `ZERO`, `IDENTITY`, `MIRROR` or what `unmirror` gives.
    """
    values, dtype = kept_tensors(network, graph), network.dtype
    for id, how in fill.items():
        for name, param in graph.params(id).items():
            values[tensor_name(id, name)] = _tensor(name, param, how, generator, dtype)
    return values


def _tensor(name: str, param: Param, how: Any, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    if how == FRESH:
        return fresh_tensor(param, generator=generator, dtype=dtype)
    if how == ZERO or name != "weight":
        return torch.zeros(param.shape, dtype=dtype)
    out, reads = param.shape[:2]
    if how == IDENTITY:
        return diagonal(param.shape, dtype)
    if how == MIRROR:
        half = diagonal((out // 2, *param.shape[1:]), dtype)
        return torch.cat([half, -half])
    kind, scale = how
    assert kind == "unmirror"
    half = diagonal((out, reads // 2, *param.shape[2:]), dtype) / scale
    return torch.cat([half, -half], dim=1)


def diagonal(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Weight of a layer that passes each channel on; in a grouped one within its group."""
    weight = torch.zeros(shape, dtype=dtype)
    rows = torch.arange(shape[0])
    middle = weight.flatten(2) if len(shape) > 2 else weight[..., None]
    middle[rows, rows % shape[1], math.prod(shape[2:]) // 2] = 1.0
    return weight
