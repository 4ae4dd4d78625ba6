"""Dropping inputs of linear layers one after the other, each time those that are missed least."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ROUND = 64
"""Units that are dropped from a large layer before it is solved anew."""
CANDIDATES = 4
"""Times as many units are weighed in such a round."""


class Elimination:
    """What a linear layer would miss of its output if more of its inputs went and the others were refitted.

    With A the covariance of what it reads plus a ridge, P its inverse, W the weights, refitted after each loss, and
    G = W'W, the loss of inputs U costs tr(G_UU (P_UU)^-1) less what the ridge adds: nothing if they are constant,
    little if others give them too.

    Args:
        gram: A, shape (inputs, inputs), double.
        ridge: What was added along its diagonal.
        weights: W, shape (outputs, inputs).
        units: Number of the unit of each input, which come and go together; -1 for inputs that stay.

    References:
        Hassibi, Stork, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon, NeurIPS 1992.
    """

    def __init__(self, gram: Tensor, ridge: float, weights: Tensor, units: Tensor) -> None:
        self._gram, self._ridge, self._weights = gram, ridge, weights.double()
        self._precision = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        self._products = self._weights.T @ self._weights
        self._units, self._alive = units, torch.arange(len(gram))

    def among(self, units: Tensor) -> Elimination:
        """The same for some of the units only, as long as no other one goes."""
        mine = torch.isin(self._units, units).nonzero().flatten()
        part = object.__new__(Elimination)
        part._ridge, part._units, part._alive = self._ridge, self._units[mine], self._alive[mine]
        part._precision = self._precision[mine][:, mine]
        part._products = self._products[mine][:, mine]
        return part

    def costs(self, n: int) -> Tensor:
        """Cost of the loss of each of n units."""
        total = torch.zeros(n, dtype=torch.float64)
        sizes = torch.bincount(self._units[self._units >= 0], minlength=n)
        order = self._units.argsort(stable=True)
        order = order[self._units[order] >= 0]
        for size in sorted(set(sizes.tolist()) - {0}):
            mine = order[sizes[self._units[order]] == size].view(-1, size)
            p = self._precision[mine[:, :, None], mine[:, None, :]]
            g = self._products[mine[:, :, None], mine[:, None, :]]
            diagonal = g.diagonal(dim1=1, dim2=2).sum(1)
            lost = g.flatten() / p.flatten() if size == 1 else torch.linalg.solve(p, g).diagonal(dim1=1, dim2=2).sum(1)
            total[self._units[mine[:, 0]]] = (lost - self._ridge * diagonal).clamp_min(0.0)
        return total

    def drop(self, units: Tensor) -> None:
        """Lose some units and refit."""
        going = torch.isin(self._units, units)
        if not bool(going.any()):
            return
        kept, gone = (~going).nonzero().flatten(), going.nonzero().flatten()
        p, g = self._precision, self._products
        share = torch.linalg.solve(p[gone][:, gone], p[gone][:, kept])
        half = (g[kept][:, gone] - 0.5 * share.T @ g[gone][:, gone]) @ share
        self._products = g[kept][:, kept] - half - half.T
        self._precision = p[kept][:, kept] - p[kept][:, gone] @ share
        self._units, self._alive = self._units[kept], self._alive[kept]

    def weights(self) -> Tensor:
        """The refitted weights, zero for what went, shape (outputs, inputs)."""
        made = torch.zeros_like(self._weights)
        made[:, self._alive] = self._weights @ self._gram[:, self._alive] @ self._precision
        return made


def eliminate(layers: Sequence[Elimination], pools: Tensor, spare: Sequence[int]) -> Tensor:
    """Drop units from all layers, each time that which costs least.

    Of many units, the cheapest few are weighed against each other until some have gone, and then all anew.

    Args:
        pools: The pool of each unit.
        spare: How many units of each pool go.

    Returns:
        True for each unit that has gone.
    """
    n, left = len(pools), torch.tensor(spare)
    gone = torch.zeros(n, dtype=torch.bool)
    while bool((left > 0).any()):
        shut = gone | (left[pools] == 0)
        chosen = _total(layers, n).masked_fill(shut, torch.inf).argsort(stable=True)[: CANDIDATES * ROUND]
        chosen = chosen[~shut[chosen]]
        parts = [layer.among(chosen) for layer in layers]
        most = len(chosen) if len(chosen) == int((~shut).sum()) else ROUND
        going: list[int] = []
        while len(going) < most and not bool(shut[chosen].all()):
            worst = int(chosen[_total(parts, n)[chosen].masked_fill(shut[chosen], torch.inf).argmin()])
            gone[worst] = True
            left[pools[worst]] -= 1
            shut = gone | (left[pools] == 0)
            going.append(worst)
            for part in parts:
                part.drop(torch.tensor([worst]))
        for layer in layers:
            layer.drop(torch.tensor(going))
    return gone


def _total(layers: Sequence[Elimination], n: int) -> Tensor:
    return torch.stack([layer.costs(n) for layer in layers]).sum(0) if layers else torch.zeros(n, dtype=torch.float64)
