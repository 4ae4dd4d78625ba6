"""What an optimizer has gathered goes along with an edit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rlnas.errors import OperatorError
from rlnas.network import Network
from rlnas.operators import OPERATORS
from rlnas.operators.prune import PruneChannels
from rlnas.operators.widen import Widen
from rlnas.spaces import conv_stages
from tests.operators.sameness import generator, make_inputs, make_network


def gradients(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    module = network.module()
    targets = torch.arange(len(inputs)) % network.graph.output_shape[0]
    nn.functional.cross_entropy(module(inputs), targets).backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def network() -> Network:
    return make_network(conv_stages((1, 8, 8), 10), 0)


@pytest.mark.parametrize(("kind", "power"), [("momentum_buffer", 1), ("exp_avg", 1), ("exp_avg_sq", 2)])
def test_replicas_have_the_moments_that_their_own_gradients_give(network: Network, kind: str, power: int) -> None:
    inputs, widen = make_inputs(network.graph, 1), Widen(noise=0.0)
    before = {name: g**power for name, g in gradients(network, inputs).items()}
    for site in widen.sites(network.graph):
        after, state = widen.apply_with_optimizer(network, site, {kind: before}, generator=generator(0))
        for name, expected in gradients(after, inputs).items():
            assert torch.allclose(state[kind][name], expected**power, rtol=1e-9, atol=1e-14), (site, name)


def test_a_pruned_network_keeps_the_moments_of_what_is_left(network: Network) -> None:
    moments = {name: tensor.clone() for name, tensor in network.tensors.items() if "running" not in name}
    prune = PruneChannels()
    after, state = prune.apply_with_optimizer(
        network, prune.sites(network.graph)[0], {"exp_avg": moments}, generator=generator(0)
    )
    assert all(torch.equal(values, after.tensors[name]) for name, values in state["exp_avg"].items())


@pytest.mark.parametrize("name", OPERATORS)
def test_state_fits_whatever_the_edit(name: str, network: Network) -> None:
    moments = {name: torch.ones_like(p) for name, p in network.module().named_parameters()}
    operator, inputs = OPERATORS[name], make_inputs(network.graph, 0)
    calibration = inputs if operator.needs_calibration else None
    for site in operator.sites(network.graph):
        after, state = operator.apply_with_optimizer(
            network, site, {"exp_avg": moments}, generator=generator(0), calibration=calibration
        )
        parameters = dict(after.module().named_parameters())
        assert {k: v.shape for k, v in state["exp_avg"].items()} == {k: p.shape for k, p in parameters.items()}
        untouched = [k for k in state["exp_avg"] if k in moments and moments[k].shape == parameters[k].shape]
        assert any(bool((state["exp_avg"][k] == 1).all()) for k in untouched)


def test_unknown_moments_are_refused(network: Network) -> None:
    widen = Widen()
    with pytest.raises(OperatorError, match=r"unknown optimizer moment 'exp_avgs'\. Did you mean 'exp_avg"):
        widen.apply_with_optimizer(network, widen.sites(network.graph)[0], {"exp_avgs": {}}, generator=generator(0))
