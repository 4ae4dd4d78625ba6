"""A network before and after: what it costs, and how far its outputs move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlnas.graph import Graph
from rlnas.network import Network, example_inputs

SAMPLES = 64
"""Random inputs on which outputs are compared where none are given."""


def cost_lines(before: Graph, after: Graph) -> list[str]:
    """What the edit costs."""
    rows = [
        ("parameters", before.n_params, after.n_params),
        ("MACs", before.macs, after.macs),
        ("peak memory [B]", before.peak_memory_bytes, after.peak_memory_bytes),
        ("nodes", len(before), len(after)),
    ]
    width = max(len(f"{value:,}") for _, *values in rows for value in values)
    return [
        f"{name:<15} {old:>{width},} -> {new:>{width},}   {f'{100 * (new - old) / old:+.1f} %' if old else ''}".rstrip()
        for name, old, new in rows
    ]


@dataclass(frozen=True)
class Change:
    """How much outputs change: the largest difference, the largest output, and the relative root-mean-square."""

    largest: float
    scale: float
    drift: float


def change(before: Network, after: Network, inputs: Tensor) -> Change:
    """Compare two networks in eval mode."""
    with torch.no_grad():
        old, new = (network.module().eval()(inputs) for network in (before, after))
    apart = (new - old).abs()
    drift = apart.square().mean().sqrt() / old.square().mean().sqrt().clamp_min(1e-30)
    return Change(float(apart.max()), float(old.abs().max()), float(drift))


def output_lines(before: Network, after: Network, inputs: Tensor | None = None, *, kind: str) -> list[str]:
    """How far the outputs move.

    Args:
        inputs: On which they are compared; random ones if not given.
        kind: What is promised of them, in words.
    """
    where = "calibration"
    if inputs is None:
        generator = torch.Generator().manual_seed(0)
        inputs, where = example_inputs(before.graph, SAMPLES, generator=generator, dtype=before.dtype), "random"
    elif inputs.is_floating_point():
        inputs = inputs.to(before.dtype)
    found = change(before, after, inputs)
    return [
        f"{'drift':<15} {found.drift:.2e} of the outputs on {len(inputs)} {where} inputs ({kind})",
        f"{'output changes':<15} by {found.largest:.2e} at most; the largest output is {found.scale:.2e}",
    ]
