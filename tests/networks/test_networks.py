"""The fixtures are what they say: they run, are always the same, and have the published number of parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.networks import FAMILIES, NETWORKS, enliven

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
