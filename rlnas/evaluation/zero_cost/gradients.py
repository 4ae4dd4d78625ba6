"""Scores from gradients at initialization: of the loss, of the outputs by the inputs, and along all paths."""

from __future__ import annotations

import math

import torch

from rlnas.errors import EvaluationError
from rlnas.evaluation.zero_cost.probe import Probe, weights

CORRELATION_OFFSET = 1e-5


def grad_norm(probe: Probe) -> float:
    """Sum over layers of the norm of the gradient of the loss.

    References:
        Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134.
    """
    return float(sum(gradient.norm() for _, gradient in probe.gradients))


def snip(probe: Probe) -> float:
    """Sum over weights of the size of weight x gradient of the loss.

    References:
        Lee et al., SNIP: Single-shot Network Pruning based on Connection Sensitivity, ICLR 2019, arXiv:1810.02340.
        Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134.
    """
    return float(sum((weight * gradient).abs().sum(dtype=torch.float64) for weight, gradient in probe.gradients))


def synflow(probe: Probe) -> float:
    """Logarithm of the sum over weights of weight x gradient, all weights made positive and norms left out.

    The input is all ones, so that the score is of the graph and the sizes of its weights alone.

    References:
        Tanaka et al., Pruning neural networks without any data by iteratively conserving synaptic flow, NeurIPS 2020,
        arXiv:2006.05467.
        Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134.
    """
    module = probe.linearized()
    ones = torch.ones_like(probe.inputs[:1])
    ones = ones.double() if ones.is_floating_point() else ones
    layers = weights(module)
    outputs = module(ones).sum()
    found = torch.autograd.grad(outputs, layers, materialize_grads=True)
    total = float(sum((w.detach() * g).abs().sum() for w, g in zip(layers, found, strict=True)))
    if not 0 < total < math.inf:
        raise EvaluationError(f"synflow is not defined: the flow through the network is {total}")
    return math.log(total)


def jacob_cov(probe: Probe) -> float:
    """How little the gradients of the outputs by the inputs of different samples are correlated.

    Minus the sum over the eigenvalues v of the matrix of correlations of log(v + k) + 1 / (v + k).

    References:
        Mellor et al., Neural Architecture Search without Training (first version), 2020, arXiv:2006.04647v1.
        Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021, arXiv:2101.08134.
    """
    if not probe.inputs.is_floating_point():
        raise EvaluationError("jacob_cov is not defined: the network reads whole numbers, which have no gradient")
    inputs = probe.inputs.clone().requires_grad_()
    (found,) = torch.autograd.grad(probe.module()(inputs).sum(), inputs)
    rows = found.flatten(1).double()
    rows = rows - rows.mean(dim=1, keepdim=True)
    lengths = rows.norm(dim=1, keepdim=True)
    if not bool((lengths > 0).all()):
        raise EvaluationError("jacob_cov is not defined: the outputs do not depend on the inputs")
    rows = rows / lengths
    eigenvalues = torch.linalg.eigvalsh(rows @ rows.T).clamp_min(0) + CORRELATION_OFFSET
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())
