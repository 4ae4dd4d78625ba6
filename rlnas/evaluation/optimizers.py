"""SGD and AdamW on one flat vector of parameters.

For the small networks of a search, optimizers that loop over tensors cost as much as the arithmetic; `torch.optim` also
imports the compiler stack, nearly a second in every fresh worker process. Here all parameters of a module lie in one
vector, and so do their gradients, so that a step is a handful of operations whatever the number of layers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

ALIGNMENT = 16  # values: parameters start at multiples of 64 bytes, as if allocated one by one
MOST_BLOCKED = 16
"""Channels that oneDNN handles at once with AVX-512; 8 with AVX2."""


class FlatOptimizer(ABC):
    """Owns the memory of a module's parameters and gradients.

    Four-dimensional weights lie in the vector as channels_last stores them, which is faster for small convolutions too,
    unless `corrupts_memory` tells not to.

    Attributes:
        values: All parameters, with zeros between them.
        gradient: All gradients; ``backward`` adds to it.
    """

    def __init__(self, module: nn.Module, *, clip_norm: float) -> None:
        parameters = list(module.parameters())
        starts, size = [], 0
        for parameter in parameters:
            starts.append(size)
            size += math.ceil(parameter.numel() / ALIGNMENT) * ALIGNMENT
        self.values = torch.zeros(size)
        self.gradient = torch.zeros(size)
        self._clip_norm = clip_norm
        view = _view if corrupts_memory(module) else _view_channels_last
        for parameter, start in zip(parameters, starts, strict=True):
            values = view(self.values, start, parameter.shape)
            values.copy_(parameter.detach())
            parameter.data = values
            parameter.grad = view(self.gradient, start, parameter.shape)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Clip the gradient, take one step and set the gradient to zero."""
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((self._clip_norm / (norm + 1e-6)).clamp_(max=1.0))
        self._update(learning_rate)
        self.gradient.zero_()

    @abstractmethod
    def _update(self, learning_rate: float) -> None: ...


class SGD(FlatOptimizer):
    """Stochastic gradient descent with Nesterov momentum; weight decay is part of the gradient."""

    def __init__(self, module: nn.Module, *, clip_norm: float, momentum: float, weight_decay: float) -> None:
        super().__init__(module, clip_norm=clip_norm)
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._velocity = torch.zeros_like(self.values)

    def _update(self, learning_rate: float) -> None:
        gradient = self.gradient.add_(self.values, alpha=self._weight_decay)
        self._velocity.mul_(self._momentum).add_(gradient)
        gradient.add_(self._velocity, alpha=self._momentum)
        self.values.add_(gradient, alpha=-learning_rate)


class AdamW(FlatOptimizer):
    """Adam with decoupled weight decay.

    References:
        Loshchilov, Hutter, Decoupled Weight Decay Regularization, ICLR 2019, arXiv:1711.05101.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        clip_norm: float,
        momentum: float,
        weight_decay: float,
        second_momentum: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(module, clip_norm=clip_norm)
        self._beta1, self._beta2, self._eps = momentum, second_momentum, eps
        self._weight_decay = weight_decay
        self._mean = torch.zeros_like(self.values)
        self._square = torch.zeros_like(self.values)
        self._steps = 0

    def _update(self, learning_rate: float) -> None:
        self._steps += 1
        self._mean.lerp_(self.gradient, 1 - self._beta1)
        self._square.mul_(self._beta2).addcmul_(self.gradient, self.gradient, value=1 - self._beta2)
        scale = self._square.sqrt().div_(math.sqrt(1 - self._beta2**self._steps)).add_(self._eps)
        self.values.mul_(1 - learning_rate * self._weight_decay)
        self.values.addcdiv_(self._mean, scale, value=-learning_rate / (1 - self._beta1**self._steps))


OPTIMIZERS: dict[str, type[SGD] | type[AdamW]] = {"sgd": SGD, "adamw": AdamW}
"""Optimizers by name."""


def corrupts_memory(module: nn.Module) -> bool:
    """True if training it in channels_last would write beyond what is allocated.

    With that layout, oneDNN's weight gradient of a strided 1x1 convolution that reads fewer channels than a block has
    overruns its workspace: wrong gradients, or a crash later on.

    References:
        https://github.com/uxlfoundation/oneDNN/issues/6035 (open; in oneDNN 3.12 and torch 2.13).
    """

    def affected(part: nn.Module) -> bool:
        if not isinstance(part, nn.Conv2d | nn.ConvTranspose2d) or max(part.kernel_size) > 1 or max(part.stride) == 1:
            return False
        channels = part.in_channels if isinstance(part, nn.Conv2d) else part.out_channels
        return channels // part.groups < MOST_BLOCKED

    return any(affected(part) for part in module.modules())


def _view(flat: Tensor, start: int, shape: torch.Size) -> Tensor:
    return flat[start : start + shape.numel()].view(shape)


def _view_channels_last(flat: Tensor, start: int, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return _view(flat, start, shape)
    out, channels, height, width = shape
    return _view(flat, start, torch.Size((out, height, width, channels))).permute(0, 3, 1, 2)
