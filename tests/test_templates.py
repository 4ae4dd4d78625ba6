"""Modules copied from templates: the same as those that PyTorch makes, and nothing shared between them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from rlnas.errors import GraphError
from rlnas.graph import Graph, to_source
from rlnas.spaces import conv_stages
from rlnas.templates import filled, module_class, template
from tests.graphs import graphs
from tests.operators.sameness import make_network

QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def state(module: nn.Module) -> dict[str, Any]:
    """All attributes of a module and of what is in it, tensors by what can be said of them."""
    found = {}
    for place, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers"):
                value = {k: t if t is None else (type(t), t.shape, t.dtype, t.requires_grad) for k, t in value.items()}
            elif name == "_modules":
                value = {k: type(child) for k, child in value.items()}
            found[f"{place}:{name}"] = value
    return found


@given(graph=graphs(dropout=True), seed=st.integers(0, 100))
@QUICK
def test_a_copy_has_all_that_pytorch_gives_a_module(graph: Graph, seed: int) -> None:
    tensors = make_network(graph, seed, torch.float32).tensors
    made = module_class(to_source(graph))()
    made.load_state_dict(tensors)
    copied = filled(graph, tensors)
    assert state(copied) == state(made) and str(copied) == str(made)
    given = copied.state_dict()
    assert given.keys() == tensors.keys() and all(given[n].data_ptr() == t.data_ptr() for n, t in tensors.items())


def test_what_is_done_to_one_module_is_seen_in_no_other() -> None:
    graph = conv_stages((1, 8, 8), 10)
    tensors = make_network(graph, 0, torch.float32).tensors
    first = filled(graph, tensors)
    before = copy.deepcopy(state(first))
    calls: list[str] = []
    first.eval().requires_grad_(False)
    first.register_buffer("extra", torch.zeros(1))
    first.conv1.register_forward_hook(lambda *_: calls.append("hook"))
    first.conv1.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    first.conv1.stride = (2, 2)
    first.conv2 = nn.Identity()
    del first.linear1
    second = filled(graph, tensors)
    assert state(second) == before
    second(torch.randn(2, 1, 8, 8))
    assert not calls
    assert all(t.is_meta for t in template(graph).state_dict().values())


def test_other_tensors_than_the_modules_are_refused() -> None:
    graph = conv_stages((1, 8, 8), 10)
    tensors = dict(make_network(graph, 0, torch.float32).tensors)
    with pytest.raises(GraphError, match=r"module: conv1\.extra$"):
        filled(graph, tensors | {"conv1.extra": torch.zeros(1)})
    del tensors["bn1.weight"]
    with pytest.raises(GraphError, match=r"module: bn1\.weight$"):
        filled(graph, tensors)


def test_copies_can_be_copied_and_pickled() -> None:
    graph = conv_stages((1, 8, 8), 10)
    module = filled(graph, make_network(graph, 0, torch.float32).tensors).eval()
    inputs = torch.randn(2, 1, 8, 8)
    assert torch.equal(copy.deepcopy(module)(inputs), module(inputs))
    layer = pickle.loads(pickle.dumps(module.get_submodule("conv1")))
    assert torch.equal(layer(inputs), module.get_submodule("conv1")(inputs))
