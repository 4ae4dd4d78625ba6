"""Least-squares compensation: after something was removed, let the layers that read it make up for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from rlnas.graph import Graph
from rlnas.graph.ops import is_depthwise
from rlnas.network import Network
from rlnas.operators.patches import (
    check_finite,
    from_matrix,
    intercept_name,
    is_layer,
    n_columns,
    rows,
    shifted,
    to_matrix,
    waves,
)

RIDGE = 0.1
"""Times the sum of variances over the number of rows; held-out drift is flat about it, with many rows and with few."""

CHUNK = 2048


def next_readers(graph: Graph, id: str) -> tuple[str, ...]:
    """The first layers that mix what a node makes, through anything that does not, in canonical order."""
    found, seen, stack = set(), {id}, list(graph.consumers[id])
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if is_layer(graph, current) and not is_depthwise(graph.node(current), graph.input_shapes(current)):
            found.add(current)
        else:
            stack += graph.consumers[current]
    return tuple(i for i in graph.order if i in found and i not in graph.shared)


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
    solution of Y - W X on X; the mean difference goes into its bias, or else into the BatchNorm that follows. Layers
    that read others are refitted after them.

    Args:
        before: The network before the edit.
        graph: The graph after it.
        tensors: All tensors after it, not yet compensated.
        readers: Layers to refit that both graphs have.
        inputs: Calibration inputs, shape (samples, *input shape).
        kept: For readers that lost outputs themselves, the old indices of those that are left.

    Raises:
        OperatorError: If what a layer reads or makes is not finite.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
    """
    values, kept = dict(tensors), kept or {}
    order = waves(graph, readers)
    columns = {id: n_columns(graph, id) for ids in order for id in ids}
    wanted = {id: seen.made for id, seen in rows(before, columns, inputs, reads=False).items()}
    wanted |= {id: wanted[id].index_select(1, kept[id]) for id in wanted if id in kept}
    for ids in order:
        for id, seen in rows(Network(graph, values), {id: columns[id] for id in ids}, inputs).items():
            values |= refitted(graph, values, id, seen.read, wanted[id] - seen.made)
    return values


def refitted(graph: Graph, values: Mapping[str, Tensor], id: str, read: Tensor, missing: Tensor) -> dict[str, Tensor]:
    """Tensors of a layer, changed so that it makes more of what it misses.

    Args:
        read: What it reads, shape (rows, groups, columns).
        missing: What it should make more, shape (rows, outputs).
    """
    node, name, shift_in = graph.node(id), f"{id}.weight", intercept_name(graph, id)
    weight = values[name]
    matrix = to_matrix(weight, node)
    fits = [
        fit(x, y, intercept=shift_in is not None)
        for x, y in zip(read.unbind(1), missing.chunk(read.shape[1], 1), strict=True)
    ]
    change = torch.stack([weights for weights, _ in fits])
    made = {name: weight + from_matrix(change.to(weight.dtype).reshape(matrix.shape), weight.shape, node)}
    if shift_in is not None:
        made[shift_in] = shifted(values, shift_in, torch.cat([shift for _, shift in fits]))
    return made


def fit(a: Tensor, y: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """Ridge regression of y on a: (weights, shape (outputs, columns); shift, shape (outputs,)), in double precision."""
    mean_a = a.double().mean(0) if intercept else a.new_zeros(a.shape[1], dtype=torch.float64)
    mean_y = y.double().mean(0) if intercept else y.new_zeros(y.shape[1], dtype=torch.float64)
    a, y = a - mean_a.to(a.dtype), y - mean_y.to(y.dtype)
    if len(a) >= a.shape[1]:
        gram, _ = covariance(a)
        weights = torch.cholesky_solve(moments(a, y), torch.linalg.cholesky(gram)).T
    else:  # the same in terms of the rows, which are fewer
        gram, _ = covariance(a.T, n=len(a))
        weights = torch.linalg.solve(gram, y.double()).T @ a.double() / len(a)
    check_finite("a layer to be refitted", weights)
    return weights, mean_y - weights @ mean_a


def moments(a: Tensor, b: Tensor) -> Tensor:
    """Mean over rows of the products of columns, shape (columns of a, columns of b), summed up in double precision."""
    total = a.new_zeros(a.shape[1], b.shape[1], dtype=torch.float64)
    for first in range(0, len(a), CHUNK):
        total += a[first : first + CHUNK].T @ b[first : first + CHUNK]
    return total / max(len(a), 1)


def covariance(rows: Tensor, *, n: int | None = None) -> tuple[Tensor, float]:
    """Second moments of centred columns with a ridge added; and the ridge: the more, the fewer rows for the columns.

    Args:
        n: Number of rows to divide by and to count, if not that of the tensor.
    """
    count = len(rows) if n is None else n
    gram = moments(rows, rows) * (len(rows) / count)
    ridge = max(RIDGE * float(gram.trace()) / count, 1e-30)
    gram.diagonal().add_(ridge)
    return gram, ridge
