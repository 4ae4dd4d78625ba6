"""What is taken for granted of ops while channels are followed, on an example of every op of the table."""

from __future__ import annotations

import pytest
import torch

from rlnas.graph import OPS
from rlnas.network import Network
from rlnas.operators.simplify.follow import HOMOGENEOUS, KEEPS_CONSTANTS, computed
from tests.graph.examples import example
from tests.operators.sameness import make_inputs, make_network


def module(name: str) -> tuple[Network, torch.nn.Module]:
    network = make_network(example(name), 0)
    return network, network.module().eval()


def by_value(name: str) -> bool:
    graph = example(name)
    return bool(OPS[name].call) and OPS[name].arity == 1 and graph.facts["a"].flow.kind == "elementwise"


BY_VALUE = sorted(name for name in OPS if name not in ("opaque", "logical_not") and by_value(name))


@pytest.mark.parametrize("name", sorted(HOMOGENEOUS))
def test_a_positive_factor_can_be_drawn_out(name: str) -> None:
    network, run = module(name)
    inputs = make_inputs(network.graph, 1)
    with torch.no_grad():
        assert torch.allclose(run(3.0 * inputs), 3.0 * run(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", sorted(KEEPS_CONSTANTS))
def test_a_constant_stays_what_it_is(name: str) -> None:
    network, run = module(name)
    with torch.no_grad():
        found = run(torch.full_like(make_inputs(network.graph, 1), -1.7))
    assert torch.allclose(found, torch.full_like(found, -1.7), rtol=1e-14)


@pytest.mark.parametrize("name", BY_VALUE)
def test_constants_are_computed_as_the_network_does(name: str) -> None:
    network, run = module(name)
    inputs = make_inputs(network.graph, 1)
    for value in (-1.5, 0.0, 0.25, 2.5):
        with torch.no_grad():
            expected = run(torch.full_like(inputs, value)).double()
        made = value if name in KEEPS_CONSTANTS else computed(network.graph.node("a"), torch.tensor([value]).double())
        assert torch.allclose(expected, torch.as_tensor(made).double().expand(expected.shape), equal_nan=True)
