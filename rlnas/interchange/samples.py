"""Samples to run a module on, made from the example that a person gives."""

from __future__ import annotations

import torch
from torch import Tensor

MIXED = 0.25
"""Share of noise in samples made from the example."""


def samples(example: Tensor, n: int, *, varied: bool = True) -> Tensor:
    """As many samples as asked for, no two of them alike, with values of the range of the example's.

    They must differ, or what depends on the example could be taken for a constant.

    Args:
        varied: False to repeat the example's.
    """
    given = [example[i % len(example)] for i in range(n)]
    generator = torch.Generator().manual_seed(0)
    made = []
    for i, sample in enumerate(given):
        if i == 0 or not varied:
            made.append(sample)
        elif sample.is_floating_point():
            noise = torch.rand(sample.shape, generator=generator, dtype=torch.float32).to(sample.dtype)
            made.append(torch.lerp(sample, noise, MIXED))
        else:
            made.append(sample.roll(i, -1) if i >= len(example) else sample)
    return torch.stack(made)
