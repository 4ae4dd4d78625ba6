"""What every operator must do, as plain functions, so that deliberately broken operators can be shown to fail."""

from __future__ import annotations

import json

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import Operator

EXACT = 1e-12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_network(graph: Graph, seed: int, dtype: torch.dtype = torch.float64) -> Network:
    """Random weights; BatchNorm with statistics and scales that are not the default ones."""
    network = Network.initialize(graph, generator=generator(seed)).to(dtype)
    g = generator(seed + 1)
    tensors = dict(network.tensors)
    for name, tensor in tensors.items():
        if name.endswith(("bias", "running_mean")):
            tensors[name] = (0.3 * torch.randn(tensor.shape, generator=g, dtype=torch.float64)).to(dtype)
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensors[name] = (0.5 + torch.rand(tensor.shape, generator=g, dtype=torch.float64)).to(dtype)
    return network.with_tensors(tensors)


def make_inputs(graph: Graph, seed: int, n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, *graph.input_shape, generator=generator(seed), dtype=torch.float64).to(dtype)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-6))


def check_exact(before: Network, after: Network, inputs: Tensor, *, tolerance: float = EXACT) -> None:
    """Same outputs in eval mode and in training mode, and in eval mode again after the statistics have moved."""
    old, new = before.module(), after.module()
    for training in (False, True, False):
        old.train(training)
        new.train(training)
        with torch.no_grad():
            error = relative(old(inputs), new(inputs))
        assert error <= tolerance, f"drift {error:.1e} in {'training' if training else 'eval'} mode"


def check_costs(operator: Operator, before: Network, site: Site, after: Network) -> None:
    """Declared cost is counted cost is torch's count."""
    edit = operator.edit(before.graph, site)
    assert edit.graph == after.graph
    assert edit.cost_delta.n_params == after.graph.n_params - before.graph.n_params
    assert edit.cost_delta.macs == after.graph.macs - before.graph.macs
    assert operator.shrinks or (edit.cost_delta.n_params >= 0 and edit.cost_delta.macs >= 0)
    module = after.module().eval()
    assert sum(p.numel() for p in module.parameters()) == after.graph.n_params
    inputs = torch.zeros(1, *after.graph.input_shape, dtype=next(module.parameters()).dtype)
    with FlopCounterMode(display=False) as counter:
        output = module(inputs)
    assert counter.get_total_flops() == 2 * after.graph.macs
    assert tuple(output.shape[1:]) == after.graph.output_shape


def check_input_untouched(operator: Operator, network: Network, site: Site, calibration: Tensor | None) -> None:
    """The given network, its inputs and torch's global generator stay as they are; tensors are not shared."""
    copies = {name: tensor.clone() for name, tensor in network.tensors.items()}
    state = torch.get_rng_state()
    after = operator.apply(network, site, generator=generator(0), calibration=calibration)
    assert torch.equal(state, torch.get_rng_state()), "drew from the global generator"
    for tensor in after.module().parameters():
        tensor.data.add_(1.0)
    assert all(torch.equal(tensor, copies[name]) for name, tensor in network.tensors.items())


def check_reproducible(operator: Operator, network: Network, site: Site, calibration: Tensor | None) -> None:
    """The same seed gives the same bits."""
    first, second = (operator.apply(network, site, generator=generator(3), calibration=calibration) for _ in range(2))
    assert first.graph == second.graph
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def check_round_trip(after: Network, site: Site) -> None:
    """Through JSON and safetensors."""
    graph = Graph.from_json(json.loads(json.dumps(after.graph.to_json())))
    assert graph.key == after.graph.key and set(graph.nodes) == set(after.graph.nodes)
    again = Network.from_bytes(after.to_bytes())
    assert again.content_hash == after.content_hash and again.history == after.history
    assert Site.from_json(json.loads(json.dumps(site.to_json()))) == site


def check_trains(after: Network, inputs: Tensor) -> None:
    """Two steps of training leave every parameter with a finite gradient."""
    module = after.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    targets = torch.arange(len(inputs)) % after.graph.output_shape[0]
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(inputs), targets).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert bool(parameter.grad.isfinite().all()), name
        optimizer.step()
