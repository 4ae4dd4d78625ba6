"""Distillation: a network learns from another one's outputs beside the labels.

References:
    Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.fitting import Diverged, Loss, inference_batch, predict
from rlnas.network import Network


def check_distillation(share: float, temperature: float, teacher: Network | None) -> None:
    """Raise if the settings make no sense.

    Raises:
        ConfigError: If a value is out of range, or a teacher is given whose outputs count nothing.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"distill={share} must be at least 0 and at most 1")
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature={temperature} must be above 0")
    if teacher is not None and not share:
        raise ConfigError("a teacher does nothing with distill=0: set the share of the loss that its outputs give")


def distilled(
    loss: Loss, targets: Tensor, inputs: Tensor, teacher: Network, *, share: float, temperature: float
) -> tuple[Loss, Tensor]:
    """A loss that also follows a teacher, and the targets to train on with it: the numbers of the samples.

    The loss is ``(1 - share) * loss + share * T^2 * KL(teacher / T || network / T)``. The teacher looks at the inputs
    once, in eval mode.

    Args:
        loss: Loss of outputs and targets.
        targets: Targets of the training inputs.
        inputs: The training inputs.
        share: Share of the teacher, above 0.
        temperature: T.

    Raises:
        EvaluationError: If the teacher's outputs are not finite.
    """
    try:
        given = predict(teacher.module(), inputs, batch_size=inference_batch(teacher.graph.peak_memory_bytes)).clone()
    except Diverged:
        raise EvaluationError("the teacher's outputs are not finite") from None
    soft = F.log_softmax(given / temperature, dim=1)

    def both(outputs: Tensor, samples: Tensor) -> Tensor:
        own = F.log_softmax(outputs / temperature, dim=1)
        apart = F.kl_div(own, soft.index_select(0, samples), reduction="batchmean", log_target=True)
        followed = share * temperature**2 * apart
        if share == 1:
            return followed
        return (1 - share) * loss(outputs, targets.index_select(0, samples)) + followed

    return both, torch.arange(len(targets))
