"""Every operator at its sites on published networks, as they come in by `from_module`."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import rlnas
from rlnas.network import Network
from rlnas.operators import OPERATORS, Operator
from tests.networks import NETWORKS, enliven
from tests.networks.fixture import image
from tests.operators.sameness import EXACT, generator, make_inputs, relative

SMALLER = {"vgg16": image(3, 64), "vgg11_bn": image(3, 64)}
"""Examples that take less time than the fixtures' own; the networks pool to a fixed size."""

NAMED = [name for name, fixture in NETWORKS.items() if fixture.named]
QUICK = {"resnet20_b": 19, "mobilenet_v2_grey": 17, "vit_narrow": 5, "gpt_tied": 5, "squeezenet1_1": 37}
"""Networks of the quick test, and how many sites it goes on at once."""

SMALL = 500_000
"""Parameters of the largest network that is tried at every site; of a larger one, each site takes a second."""

FEW = 3
"""About how many sites of each operator are tried on larger networks, evenly spread from the first."""


def take_in(name: str) -> Network:
    """A fixture's network in float64, with norms and biases that do something."""
    fixture = NETWORKS[name]
    torch.manual_seed(0)
    module = enliven(fixture.make(), generator=generator(0)).eval()
    return rlnas.from_module(module, SMALLER.get(name, fixture.example)()).to(torch.float64)


def outputs(module: nn.Module, inputs: Tensor, *, modes: bool) -> list[Tensor]:
    """What a module gives in eval mode, and, where that makes a difference, in training mode and after it."""
    with torch.no_grad():
        found = [module.eval()(inputs)]
        if modes:
            found += [module.train()(inputs), module.eval()(inputs)]
    return found


@lru_cache(maxsize=1)
def prepared(name: str) -> tuple[Network, Tensor, list[Tensor], bool]:
    """A network, inputs, what it gives for them, and whether training mode makes a difference."""
    network = take_in(name)
    ops = {node.op for node in network.graph.nodes}
    modes = not any(op.startswith("dropout") for op in ops) and any(op.startswith("batch_norm") for op in ops)
    inputs = make_inputs(network.graph, 0, n=3 if modes else 1)
    return network, inputs, outputs(network.module(), inputs, modes=modes), modes


def check_sites(name: str, every: int, operator: Operator) -> None:
    """Exactness or a reported drift, shapes and declared costs, at one of so many sites of an operator."""
    before, inputs, expected, modes = prepared(name)
    graph = before.graph
    for site in operator.sites(graph)[::every]:
        edit = operator.edit(graph, site)
        after = operator.apply(before, site, generator=generator(1), calibration=None if operator.exact else inputs)
        module = after.module().eval()
        assert after.graph == edit.graph and after.graph.output_shape == graph.output_shape
        assert sum(p.numel() for p in module.parameters()) == graph.n_params + edit.cost_delta.n_params, site
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
            first = module(inputs[:1])
        assert counter.get_total_flops() == 2 * (graph.macs + edit.cost_delta.macs), site
        assert tuple(first.shape[1:]) == graph.output_shape and bool(first.isfinite().all())
        if operator.exact:
            for old, new in zip(expected, outputs(module, inputs, modes=modes), strict=True):
                assert relative(old, new) <= EXACT, site
        else:
            drift = after.history[-1].drift
            assert drift is not None and drift >= 0.0, site


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", QUICK)
def test_some_sites(name: str, operator: str) -> None:
    check_sites(name, QUICK[name], OPERATORS[operator])


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", NAMED)
def test_sites_at_length(name: str, operator: str) -> None:
    graph = prepared(name)[0].graph
    n_sites = len(OPERATORS[operator].sites(graph))
    check_sites(name, 1 if graph.n_params <= SMALL else max(1, n_sites // FEW), OPERATORS[operator])
