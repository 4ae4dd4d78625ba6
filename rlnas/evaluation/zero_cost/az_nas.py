"""AZ-NAS's scores: what the values between blocks can express, whether it grows, and how gradients pass.

They look at random inputs, normal or ids of tokens, and at no data.

References:
    Lee, Ham, AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, CVPR 2024, arXiv:2403.19232.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from rlnas.errors import EvaluationError
from rlnas.evaluation.zero_cost.probe import Probe, Step

WORST_TRAINABILITY = -1e6
"""For a block that lets no gradient pass, and for one that does nothing."""


def expressivity(probe: Probe) -> float:
    """Sum over blocks of the entropy of the normalized principal components of what they make."""
    return sum(_entropies(probe))


def progressivity(probe: Probe) -> float:
    """Smallest increase of that entropy from one block to the next."""
    found = _entropies(probe)
    if len(found) < 2:
        raise EvaluationError("progressivity is not defined: the network has a single block")
    return min(after - before for before, after in pairwise(found))


def trainability(probe: Probe) -> float:
    """Mean over blocks of ``2 - s - 1 / s``, s being the largest singular value of the block's mean Jacobian.

    The Jacobian is estimated by gradients of random signs.
    """
    generator = probe.generator("signs")
    found = [
        _trainability(step, _channel_axis(probe, end), _channel_axis(probe, start), generator)
        for start, end, step in zip(probe.blocks, probe.blocks[1:], probe.steps[1:], strict=False)
    ]
    if not found:
        raise EvaluationError("trainability is not defined: the network has a single block")
    return fmean(found)


def _channel_axis(probe: Probe, id: str) -> int:
    axis = probe.graph.channel_axes[id]
    assert axis is not None
    return axis + 1


def _entropies(probe: Probe) -> list[float]:
    axes = [_channel_axis(probe, id) for id in probe.blocks]
    return [_entropy(_places(step.after.detach(), axis)) for step, axis in zip(probe.steps, axes, strict=True)]


def _places(value: Tensor, axis: int) -> Tensor:
    """A row for each sample and place, a column for each channel."""
    return value.movedim(axis, -1).flatten(0, -2)


def _entropy(rows: Tensor) -> float:
    rows = (rows - rows.mean(dim=0)).double()
    spectrum = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp_min(0)
    if not float(spectrum.sum()) > 0:
        return 0.0
    shares = spectrum / spectrum.sum()
    return -float((shares * (shares + 1e-8).log()).sum())


def _trainability(step: Step, after_axis: int, before_axis: int, generator: torch.Generator) -> float:
    before, after = step
    assert before is not None
    if after is before:
        return WORST_TRAINABILITY
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after.dtype) * 2 - 1
    (pulled,) = torch.autograd.grad(after, before, signs)
    pulled = pulled.movedim(before_axis, 1)
    signs = signs.movedim(after_axis, 1)
    factor = _shrinkage(pulled, signs)
    if factor is None:
        # Places do not correspond, as between tokens and maps: compare the means over places.
        pulled, signs = (x.flatten(2).mean(dim=2, keepdim=True) if x.dim() > 2 else x for x in (pulled, signs))
    elif factor > 1:
        pulled = F.pixel_unshuffle(pulled, factor)
    rows, columns = _places(pulled, 1), _places(signs, 1)
    largest = float(torch.linalg.matrix_norm(rows.T @ columns / len(columns), ord=2))
    return max(WORST_TRAINABILITY, 2 - largest - 1 / (largest + 1e-6)) if math.isfinite(largest) else WORST_TRAINABILITY


def _shrinkage(before: Tensor, after: Tensor) -> int | None:
    """How many times wider and higher the first is; None if places of the two do not correspond."""
    old, new = before.shape[2:], after.shape[2:]
    if old == new:
        return 1
    if len(old) != 2 or len(new) != 2:
        return None
    factors = {o // n if o % n == 0 else 0 for o, n in zip(old, new, strict=True)}
    factor = factors.pop()
    return factor if not factors and factor > 0 else None
