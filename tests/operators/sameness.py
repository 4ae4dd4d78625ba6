"""Random networks and inputs for operators, and whether two networks compute the same."""

from __future__ import annotations

import torch
from torch import Tensor

from rlnas.graph import OPS, Graph, Node
from rlnas.network import Network, example_inputs, tensor_specs
from rlnas.operators.attention import find_heads
from rlnas.operators.remap import remap

EXACT = 1e-12


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_network(graph: Graph, seed: int, dtype: torch.dtype = torch.float64) -> Network:
    """Random weights and parameters; norms with statistics and scales that are not the default ones."""
    network = Network.initialize(graph, generator=generator(seed)).to(dtype)
    g = generator(seed + 1)
    tensors = dict(network.tensors)
    for name, tensor in tensors.items():
        if name.endswith(("bias", "running_mean")) or "." not in name:
            tensors[name] = (0.3 * torch.randn(tensor.shape, generator=g, dtype=torch.float64)).to(dtype)
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensors[name] = (0.5 + torch.rand(tensor.shape, generator=g, dtype=torch.float64)).to(dtype)
    return network.with_tensors(tensors)


def make_inputs(graph: Graph, seed: int, n: int = 6, dtype: torch.dtype = torch.float64) -> Tensor:
    inputs = example_inputs(graph, n, generator=generator(seed), dtype=torch.float64)
    return inputs.to(dtype) if inputs.is_floating_point() else inputs


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference relative to the largest value of a."""
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-6))


def drifts(before: Network, after: Network, inputs: Tensor) -> dict[str, float]:
    """Relative error in eval mode, in training mode, and in eval mode with the statistics that training mode left."""
    old, new = in_all_modes(before, inputs), in_all_modes(after, inputs)
    return {mode: relative(old[mode], new[mode]) for mode in old}


@torch.no_grad()
def in_all_modes(network: Network, inputs: Tensor) -> dict[str, Tensor]:
    """Outputs in eval mode, in training mode, and in eval mode with the statistics that training mode left."""
    module = network.module()
    modes = {"eval": False, "training": True, "eval after training": False}
    return {mode: module.train(training)(inputs) for mode, training in modes.items()}


def check_exact(before: Network, after: Network, inputs: Tensor, *, tolerance: float = EXACT) -> None:
    """Same outputs in all modes."""
    for mode, error in drifts(before, after, inputs).items():
        assert error <= tolerance, f"drift {error:.1e} in {mode} mode"


def permuted(network: Network, seed: int) -> Network:
    """The network with the channels of every free group in another order, and those within heads of attention."""
    channels, g = network.graph.channels, generator(seed)
    free = [cell for group in channels if not group.fixed for cell in group.cells]
    maps = {cell: torch.randperm(channels.lengths[cell], generator=g) for cell in free}
    for node in network.graph.nodes:
        heads = find_heads(network.graph, node.id)
        if isinstance(heads, str):
            continue
        for ((cell, _),) in heads.value:
            maps[cell] = torch.randperm(channels.lengths[cell], generator=g)
        for k, ((cell, _),) in enumerate(heads.key):
            maps[cell] = torch.randperm(channels.lengths[cell], generator=g)
            maps |= {part[0][0]: maps[cell] for part in heads.query[k * heads.shared :][: heads.shared]}
    return Network(network.graph, remap(network, maps, noise=0.0, generator=g))


def with_leaky_activations(network: Network) -> Network:
    """The network with activations that let every gradient through, so that a zero gradient is the operator's fault.

    A sigmoid does so itself, and a gate made with it would be shut by another activation's zero.
    """

    def leaky(node: Node) -> Node:
        if OPS[node.op].family != "activation" or node.op == "sigmoid":
            return node
        return Node.make(node.id, "leaky_relu", node.inputs, negative_slope=0.1)

    graph = Graph(tuple(leaky(node) for node in network.graph.nodes), network.graph.output)
    return Network(graph, {name: network.tensors[name] for name in tensor_specs(graph)})
