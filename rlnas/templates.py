"""The modules of graphs: each is made once without values, and copied for every network that has this graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import GraphError
from rlnas.graph import Graph, constructors, to_source

CHANGEABLE = (dict, list, set)


def filled(graph: Graph, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A module of a graph with those tensors themselves, in training mode.

    PyTorch initializes every layer that it makes, which takes longer than all the rest; a copy does without.

    Args:
        tensors: All of them, named as in the module's ``state_dict``.

    Raises:
        GraphError: If one is missing or left over.
    """
    if tensors.keys() != _names(graph):
        raise GraphError(f"not the tensors of this graph's module: {', '.join(sorted(tensors.keys() ^ _names(graph)))}")
    module = _copy(template(graph))
    for name, tensor in tensors.items():
        owner, _, own_name = name.rpartition(".")
        holder = module.get_submodule(owner)
        if own_name in holder._parameters:
            holder._parameters[own_name] = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        else:
            holder._buffers[own_name] = tensor
    return module


@lru_cache(maxsize=64)
def template(graph: Graph) -> nn.Module:
    """A module of a graph whose tensors have no values; to be copied, not to be used."""
    kind = module_class(to_source(graph))
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    for id, text in constructors(graph).items():
        setattr(made, id, _layer(text))
    return made


@lru_cache(maxsize=64)
def _names(graph: Graph) -> frozenset[str]:
    """Names of the tensors of a graph's modules."""
    return frozenset(template(graph).state_dict())


@lru_cache(maxsize=1024)
def _layer(text: str) -> nn.Module | nn.Parameter:
    """What a constructor's text makes, without values."""
    with torch.device("meta"):
        made: nn.Module | nn.Parameter = eval(text, {"torch": torch, "nn": nn})
    return made


@lru_cache(maxsize=512)
def module_class(source: str) -> type[nn.Module]:
    """The class ``Network`` that a text defines."""
    names: dict[str, Any] = {}
    exec(compile(source, "<rlnas network>", "exec"), names)
    found: type[nn.Module] = names["Network"]
    return found


def _copy(module: nn.Module) -> nn.Module:
    """A module that shares nothing with the given one that can be changed, but for its tensors."""
    made = object.__new__(type(module))
    kept: dict[str, Any] = {
        name: value.copy() if isinstance(value, CHANGEABLE) else value for name, value in vars(module).items()
    }
    kept["_modules"] = {name: _copy(child) for name, child in kept["_modules"].items()}
    vars(made).update(kept)
    return made
