"""Every operator at every one of its sites on published networks, as they come in by `from_module`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import rlnas
from rlnas.network import Network
from rlnas.operators import OPERATORS
from tests.networks import NETWORKS, enliven
from tests.networks.fixture import image
from tests.operators.checks import EXACT, generator, make_inputs, relative

SMALLER = {"vgg16": image(3, 64), "vgg11_bn": image(3, 64)}
"""Examples that take less time than the fixtures' own; the networks pool to a fixed size."""

NAMED = [name for name, fixture in NETWORKS.items() if fixture.named]
QUICK = {"resnet20_b": 19, "mobilenet_v2_grey": 17, "vit_narrow": 5, "gpt_tied": 5, "squeezenet1_1": 37}
"""Networks of the quick test, and how many sites it goes on at once."""


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


def check_sites(name: str, every: int, *, exact: bool) -> None:
    """Exactness or a reported drift, shapes and declared costs, at one of so many sites of each operator."""
    before = take_in(name)
    graph = before.graph
    ops = {node.op for node in graph.nodes}
    modes = not any(op.startswith("dropout") for op in ops) and any(op.startswith("batch_norm") for op in ops)
    inputs = make_inputs(graph, 0, n=3 if modes else 1)
    expected = outputs(before.module(), inputs, modes=modes)
    for operator in [operator for operator in OPERATORS.values() if operator.exact == exact]:
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


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "approximate"])
@pytest.mark.parametrize("name", QUICK)
def test_some_sites(name: str, exact: bool) -> None:
    check_sites(name, QUICK[name], exact=exact)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "approximate"])
@pytest.mark.parametrize("name", NAMED)
def test_every_site(name: str, exact: bool) -> None:
    check_sites(name, 1, exact=exact)
