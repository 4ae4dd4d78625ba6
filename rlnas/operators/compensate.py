"""Least-squares compensation: after something was removed, let the layers that read it make up for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Node
from rlnas.network import Network

RIDGE = 0.1
"""Times the sum of variances over the number of rows; held-out drift is flat about it, with many rows and with few."""

MAX_ROWS = 16384
CHUNK = 16


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
    """(input, output) of some layers of a network in eval mode; each token counts as a sample.

    Raises:
        OperatorError: If one of them is not finite, so that nothing can be fitted to it.
    """
    module = network.module().eval()
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(id: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            pair = (args[0].detach(), output.detach())
            tokens = network.graph.node(id).op == "linear"
            seen[id] = (pair[0].flatten(0, -2), pair[1].flatten(0, -2)) if tokens else pair

        module.get_submodule(id).register_forward_hook(hook)

    for id in ids:
        keep(id)
    with torch.no_grad():
        module(inputs)
    for id, pair in seen.items():
        if not all(bool(values.isfinite().all()) for values in pair):
            raise OperatorError(f"what {id} reads or makes of the calibration inputs is not finite")
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
        node, weight, shift_in = graph.node(id), values[f"{id}.weight"], intercept_name(graph, id)
        n = node["groups"] if node.op == "conv2d" else 1  # a grouped layer may have become a depthwise one
        new, shifts = [], []
        for x, w, missing in zip(read.chunk(n, 1), weight.chunk(n), (wanted[id] - made).chunk(n, 1), strict=True):
            change, shift = _fit(*_rows(x, missing, node), intercept=shift_in is not None)
            new.append(w + change.reshape(w.shape).to(w.dtype))
            shifts.append(shift.to(w.dtype))
        values[f"{id}.weight"] = torch.cat(new)
        if shift_in is not None:
            sign = 1.0 if shift_in == f"{id}.bias" else -1.0
            values[shift_in] = values[shift_in] + sign * torch.cat(shifts)
    return values


def intercept_name(graph: Graph, id: str) -> str | None:
    """The tensor that shifts what a layer makes: its bias, or the running mean of a BatchNorm that alone reads it."""
    if "bias" in graph.params(id):
        return f"{id}.bias"
    consumers = graph.consumers[id]
    alone = len(consumers) == 1 and graph.output != id
    return f"{consumers[0]}.running_mean" if alone and graph.node(consumers[0]).op == "batch_norm2d" else None


def sample(n: int) -> Tensor:
    """At most MAX_ROWS of n rows, the same for the same n, spread at random so that no place of a map is left out."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))[:MAX_ROWS].sort().values


def covariance(rows: Tensor) -> tuple[Tensor, float]:
    """Second moments of centred columns with a ridge added; and the ridge: the more, the fewer rows for the columns."""
    gram = rows.T @ rows / len(rows)
    ridge = max(RIDGE * float(gram.trace()) / len(rows), 1e-30)
    gram.diagonal().add_(ridge)
    return gram, ridge


def _rows(x: Tensor, missing: Tensor, node: Node) -> tuple[Tensor, Tensor]:
    """What a layer reads, shape (rows, weights of one output), and what it misses, shape (rows, outputs)."""
    if node.op != "conv2d":
        chosen = sample(len(x))
        return x[chosen].double(), missing[chosen].double()
    places = missing[0, 0].numel()
    chosen = sample(len(x) * places)
    patches = []
    for first in range(0, len(x), CHUNK):
        unfolded = F.unfold(
            x[first : first + CHUNK], node["kernel_size"], node["dilation"], node["padding"], node["stride"]
        )
        here = chosen[(chosen >= first * places) & (chosen < (first + CHUNK) * places)]
        patches.append(unfolded.transpose(1, 2).flatten(0, 1)[here - first * places].double())
    return torch.cat(patches), missing.flatten(2).transpose(1, 2).flatten(0, 1)[chosen].double()


def _fit(a: Tensor, y: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """Ridge regression of y on a: (weights, shape (outputs, columns); shift, shape (outputs,))."""
    mean_a, mean_y = (a.mean(0), y.mean(0)) if intercept else (torch.zeros_like(a[0]), torch.zeros_like(y[0]))
    a, y = a - mean_a, y - mean_y
    weights = torch.linalg.solve(covariance(a)[0], a.T @ y / len(a)).T
    return weights, mean_y - weights @ mean_a
