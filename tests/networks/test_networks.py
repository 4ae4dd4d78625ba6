"""The fixtures are what they say: they run, are always the same, and have the published number of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.networks import FAMILIES, NETWORKS, REFUSED, enliven

SLOW = {"vgg16", "gpt2"}
EVERY = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS]


def n_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def output(name: str, *, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    module = enliven(NETWORKS[name].make(), generator=torch.Generator().manual_seed(seed)).eval()
    with torch.no_grad():
        return module(NETWORKS[name].example())


@pytest.mark.parametrize("name", EVERY)
def test_runs_and_says_something(name: str) -> None:
    found = output(name, seed=0)
    assert found.shape[0] == NETWORKS[name].example().shape[0]
    assert found.isfinite().all()
    assert found.std() > 1e-4, "weights that say nothing about the input hide mistakes"


@pytest.mark.parametrize("name", [name for name, fixture in NETWORKS.items() if fixture.n_params])
def test_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        module = NETWORKS[name].make()
    assert n_params(module) == NETWORKS[name].n_params


@pytest.mark.parametrize("name", NETWORKS)
def test_small_ones_are_small(name: str) -> None:
    with torch.device("cpu" if NETWORKS[name].small else "meta"):
        module = NETWORKS[name].make()
    assert NETWORKS[name].small == (n_params(module) < 1_000_000)


def test_no_name_is_taken_twice() -> None:
    assert len(NETWORKS) == sum(len(family.NETWORKS) for family in FAMILIES)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_ones_run_and_have_the_fault_they_are_refused_for(name: str) -> None:
    fixture, example = REFUSED[name], REFUSED[name].example()
    torch.manual_seed(0)
    module = enliven(fixture.make(), generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        found = module(*example) if isinstance(example, tuple) else module(example)
    if fixture.refused == "inputs":
        assert isinstance(example, tuple)
    elif fixture.refused == "outputs":
        assert not isinstance(found, torch.Tensor)
    elif fixture.refused == "batch":
        with torch.no_grad():
            alone = module(example[:1])
        samples_are_groups = name == "dynamic_convolution"
        assert torch.allclose(alone, found[:1], atol=1e-3) == samples_are_groups
    elif fixture.refused == "control flow":
        with pytest.raises((torch.fx.proxy.TraceError, TypeError)):
            torch.fx.symbolic_trace(module)
    else:
        assert fixture.refused == "op"
        assert found.isfinite().all()


def test_no_name_is_taken_by_a_network_that_is_refused() -> None:
    assert not NETWORKS.keys() & REFUSED.keys()
