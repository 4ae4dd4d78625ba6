"""What a network for the tests is, and how its example input and its weights are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Fixture:
    """A published network, written as its reference implementation writes it.

    Args:
        make: Builds the module; whoever calls it seeds torch's generator.
        example: Its input, always the same. Several tensors only where the network takes several inputs.
        named: One that must be imported and edited whatever else happens.
        family: The file it is in.
        small: Under a million parameters.
        n_params: Count of the original publication or its reference implementation, where the fixture is not narrowed.
        refused: Why it cannot become a graph, where it cannot; refused.py lists the reasons.
    """

    make: Callable[[], nn.Module]
    example: Callable[[], Tensor | tuple[Tensor, ...]]
    named: bool = False
    family: str = ""
    small: bool = True
    n_params: int | None = None
    refused: str = ""


def image(channels: int, height: int, width: int = 0, *, batch: int = 1) -> Callable[[], Tensor]:
    return noise(channels, height, width or height, batch=batch)


def noise(*shape: int, batch: int = 1) -> Callable[[], Tensor]:
    return lambda: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))


def tokens(length: int, vocabulary: int, *, batch: int = 1) -> Callable[[], Tensor]:
    return lambda: torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def enliven(module: nn.Module, *, generator: torch.Generator) -> nn.Module:
    """Give fresh modules weights as after training, in place: running statistics, noise on all that starts constant.

    Zero biases, unit scales, LayerScale at 1e-6 or zeroed last scales of residual branches hide mistakes.
    """
    for part in module.modules():
        mean, variance = getattr(part, "running_mean", None), getattr(part, "running_var", None)
        if mean is not None and variance is not None:
            mean.copy_(0.1 * torch.randn(mean.shape, generator=generator))
            variance.copy_(0.5 + torch.rand(variance.shape, generator=generator))
    for parameter in module.parameters():
        first = parameter.flatten()[0]
        if parameter.numel() == 1 or bool((parameter == first).all()):
            parameter.copy_(first + 0.1 * torch.randn(parameter.shape, generator=generator))
    return module
