"""Scores from linear regions: how differently a network's activations switch for different samples."""

from __future__ import annotations

import torch
from torch import Tensor

from rlnas.errors import EvaluationError
from rlnas.evaluation.zero_cost.probe import KINKED, Probe, watching

RIDGE = 1e-3
"""Added to the diagonal, so that samples that switch everything alike give a low score and not minus infinity."""


def naswot(probe: Probe) -> float:
    """Log-determinant of the matrix that counts, for two samples, the activations that both switch alike.

    Activations are those that are linear on either side of zero: ReLU, ReLU6, leaky and parametric ReLU.

    References:
        Mellor et al., Neural Architecture Search without Training, ICML 2021, arXiv:2006.04647.
    """
    n = len(probe.inputs)
    alike = torch.zeros(n, n, dtype=torch.float64)
    seen = 0

    def see(values: Tensor) -> None:
        nonlocal seen
        codes = (values.detach().flatten(1) > 0).float() * 2 - 1
        alike.add_((codes @ codes.T + codes.shape[1]) / 2)
        seen += 1

    with watching(KINKED, see), torch.no_grad():
        probe.module()(probe.inputs)
    if not seen:
        raise EvaluationError("naswot is not defined: the network has no ReLU or other activation with a kink at zero")
    return float(torch.linalg.slogdet(alike + RIDGE * torch.eye(n, dtype=torch.float64)).logabsdet)
