"""Simplification of published networks, as they come in and with superfluous parts planted in them."""

from __future__ import annotations

import pytest
import torch

from rlnas.network import Network
from rlnas.operators.simplify import PASSES, simplify
from tests.networks import NETWORKS
from tests.operators.sameness import EXACT, make_inputs, relative
from tests.operators.simplify.exactness import GROWS
from tests.operators.simplify.planting import plant
from tests.operators.test_published import NAMED, take_in

QUICK = ("resnet20_b", "mobilenet_v2_grey", "densenet_narrow", "repvgg", "vit_narrow", "gpt_tied", "pointnet")
SMALL = [name for name, fixture in NETWORKS.items() if fixture.small]


def check(network: Network, *, every: int) -> Network:
    """Some findings of every pass, each by itself, and all together."""
    inputs = make_inputs(network.graph, 0, n=1)
    with torch.no_grad():
        expected = network.module().eval()(inputs)
        assert expected.isfinite().all()

        def error(after: Network) -> float:
            return relative(expected, after.module().eval()(inputs))

        for kind in PASSES.values():
            findings = kind().find(network)
            for finding in findings[::every]:
                after = kind().take_out(network, [finding])
                assert error(after) <= EXACT, finding
                assert after.graph.n_params == network.graph.n_params - finding.n_params
                assert after.graph.macs == network.graph.macs - finding.macs <= network.graph.macs
                assert finding.n_params >= 0 or kind.name in GROWS
        after = simplify(network)
        assert error(after) <= EXACT
    assert simplify(after).history == after.history
    return after


@pytest.mark.parametrize("name", QUICK)
def test_some_networks(name: str) -> None:
    network = take_in(name)
    norms = sum(node.op.startswith("batch_norm") for node in network.graph.nodes)
    folded = [entry for entry in check(network, every=9).history if entry.site.operator == "fold_batch_norm"]
    assert bool(folded) == bool(norms)


@pytest.mark.parametrize("name", QUICK)
def test_some_networks_with_superfluous_parts(name: str) -> None:
    network = plant(take_in(name), 1)
    after = check(network, every=9)
    if name != "gpt_tied":
        assert after.graph.n_params < network.graph.n_params


def test_branches_of_repvgg_become_one_convolution_each() -> None:
    before = take_in("repvgg")
    after = simplify(before)
    assert after.graph.n_params < 0.9 * before.graph.n_params and after.graph.macs < before.graph.macs


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("planted", [False, True])
def test_every_small_network(name: str, planted: bool) -> None:
    network = take_in(name)
    check(plant(network, 1) if planted else network, every=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMED)
def test_every_large_network(name: str) -> None:
    check(take_in(name), every=10)
