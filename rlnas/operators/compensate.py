"""Least-squares compensation: after something was removed, let the layers that read it make up for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlnas.graph import Graph
from rlnas.network import Network

RIDGE = 1e-3
MAX_ROWS = 16384


def next_readers(graph: Graph, id: str) -> tuple[str, ...]:
    """The first dense or grouped layers that read a node, through anything that is neither, in canonical order."""
    found, seen, stack = set(), {id}, list(graph.consumers[id])
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if any("in" in param.axes for param in graph.params(current).values()):
            found.add(current)
        else:
            stack += graph.consumers[current]
    return tuple(i for i in graph.order if i in found)


def capture(network: Network, ids: Iterable[str], inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """(input, output) of some layers of a network in eval mode."""
    module = network.module().eval()
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(id: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen[id] = (args[0].detach(), output.detach())

        module.get_submodule(id).register_forward_hook(hook)

    for id in ids:
        keep(id)
    with torch.no_grad():
        module(inputs)
    return seen


def compensate(
    before: Network,
    graph: Graph,
    tensors: Mapping[str, Tensor],
    readers: Iterable[str],
    inputs: Tensor,
    *,
    kept: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Refit the weights of some layers so that they give again what they gave before the edit.

    For each layer, with X the patches it reads now and Y what it made before, the change of its weights is the ridge
    solution of Y - W X on X; the mean difference goes into its bias, or else into the BatchNorm that follows.

    Args:
        before: The network before the edit.
        graph: The graph after it.
        tensors: All tensors after it, not yet compensated.
        readers: Layers to refit that both graphs have, in topological order.
        inputs: Calibration inputs, shape (samples, *input shape).
        kept: For readers that lost outputs themselves, the old indices of those that are left.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """
    values, order = dict(tensors), list(readers)
    wanted = {id: output for id, (_, output) in capture(before, order, inputs).items()}
    wanted |= {id: wanted[id].index_select(1, index) for id, index in (kept or {}).items()}
    for id in order:
        read, made = capture(Network(graph, values), [id], inputs)[id]
        node = graph.node(id)
        weight = values[f"{id}.weight"]
        n = node["groups"] if node.op == "conv2d" else 1  # a grouped layer may have become a depthwise one
        norm = _norm_after(graph, id)
        shift_in = f"{id}.bias" if f"{id}.bias" in values else f"{norm}.running_mean" if norm else None
        new, shifts = [], []
        for x, w, target, present in zip(
            read.chunk(n, 1), weight.chunk(n), wanted[id].chunk(n, 1), made.chunk(n, 1), strict=True
        ):
            delta, shift = _solve(x, target - present, w, graph, id, intercept=shift_in is not None)
            new.append(w + delta)
            shifts.append(shift)
        values[f"{id}.weight"] = torch.cat(new)
        if shift_in is not None:
            sign = 1.0 if shift_in.endswith(".bias") else -1.0
            values[shift_in] = values[shift_in] + sign * torch.cat(shifts)
    return values


def _norm_after(graph: Graph, id: str) -> str | None:
    """The BatchNorm that alone reads a layer."""
    consumers = graph.consumers[id]
    alone = len(consumers) == 1 and graph.output != id
    return consumers[0] if alone and graph.node(consumers[0]).op == "batch_norm2d" else None


def _solve(
    x: Tensor, residual: Tensor, weight: Tensor, graph: Graph, id: str, *, intercept: bool
) -> tuple[Tensor, Tensor]:
    """Ridge regression of the residual on patches of x: (change of the weight, shift of the output)."""
    node = graph.node(id)
    if node.op == "conv2d":
        patches = F.unfold(x, node["kernel_size"], node["dilation"], node["padding"], node["stride"])
        a = patches.transpose(1, 2).reshape(-1, patches.shape[1])
        y = residual.flatten(2).transpose(1, 2).reshape(-1, residual.shape[1])
    else:
        a, y = x, residual
    step = -(-len(a) // MAX_ROWS)
    a, y = a[::step].double(), y[::step].double()
    mean_a, mean_y = (a.mean(0), y.mean(0)) if intercept else (torch.zeros_like(a[0]), torch.zeros_like(y[0]))
    a, y = a - mean_a, y - mean_y
    gram = a.T @ a / len(a)
    ridge = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    gram.diagonal().add_(ridge)
    solution = torch.linalg.solve(gram, a.T @ y / len(a))  # (patch, out)
    shift = mean_y - mean_a @ solution
    return solution.T.reshape(weight.shape).to(weight.dtype), shift.to(weight.dtype)
