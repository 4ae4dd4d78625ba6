"""The training loop and what goes with it: schedule, BatchNorm statistics, prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation.optimizers import OPTIMIZERS, FlatOptimizer

Loss = Callable[[Tensor, Tensor], Tensor]

ACTIVATION_BUDGET_BYTES = 32 * 2**20
MAX_INFERENCE_BATCH = 1024


class Diverged(Exception):
    """Training or scoring met a number that is not finite."""


@dataclass(frozen=True)
class Schedule:
    """How a network is trained.

    Attributes:
        epochs: Passes over the training inputs; may be fractional.
        batch_size: Samples in a step; what is left over at the end of a pass is skipped.
        optimizer: ``"sgd"`` (with Nesterov momentum) or ``"adamw"``.
        learning_rate: Highest learning rate.
        momentum: SGD's momentum, AdamW's first beta.
        weight_decay: Added to the gradient by SGD, decoupled in AdamW.
        warmup: Share of all steps in which the learning rate rises linearly; then it falls to zero as a half cosine.
        clip_norm: Largest norm of the gradient.

    Raises:
        ConfigError: If a value is out of range.
    """

    epochs: float
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    clip_norm: float

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(unknown_name("optimizer", self.optimizer, OPTIMIZERS))
        for name, value, good, wanted in (
            ("epochs", self.epochs, 0 < self.epochs < math.inf, "above 0"),
            ("batch_size", self.batch_size, self.batch_size >= 1, "at least 1"),
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0"),
            ("momentum", self.momentum, 0 < self.momentum < 1, "between 0 and 1"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0"),
            ("warmup", self.warmup, 0 <= self.warmup < 1, "at least 0 and below 1"),
            ("clip_norm", self.clip_norm, 0 < self.clip_norm < math.inf, "above 0"),
        ):
            if not good:
                raise ConfigError(f"{name}={value} must be {wanted}")

    def steps(self, samples: int) -> int:
        """Number of steps for so many training samples."""
        return max(1, round(self.epochs * max(1, samples // self.batch_size)))

    def learning_rates(self, steps: int) -> list[float]:
        """Learning rate of each step."""
        rising = round(self.warmup * steps)
        falling = steps - rising
        up = [self.learning_rate * (i + 1) / (rising + 1) for i in range(rising)]
        return up + [self.learning_rate * 0.5 * (1 + math.cos(math.pi * i / falling)) for i in range(falling)]

    def make_optimizer(self, module: nn.Module) -> FlatOptimizer:
        """A fresh optimizer, which takes over the memory of the module's parameters."""
        make = OPTIMIZERS[self.optimizer]
        return make(module, clip_norm=self.clip_norm, momentum=self.momentum, weight_decay=self.weight_decay)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global generator (which dropout draws from) start from a seed, and restore it afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fit(
    module: nn.Module,
    inputs: Float[Tensor, "samples ..."],
    targets: Int[Tensor, " samples"],
    *,
    loss: Loss,
    schedule: Schedule,
    generator: torch.Generator,
) -> None:
    """Train a module in place.

    Args:
        generator: Decides the order of the samples.

    Raises:
        Diverged: If the loss is not finite.
    """
    module.train()
    if next(module.parameters(), None) is None:
        return
    optimizer = schedule.make_optimizer(module)
    batch_size = min(schedule.batch_size, len(inputs))
    batches: Iterator[Tensor] = iter(())
    total = torch.zeros(())
    for rate in schedule.learning_rates(schedule.steps(len(inputs))):
        chosen = next(batches, None)
        if chosen is None:
            _check_finite(total, "the training loss")
            order = torch.randperm(len(inputs), generator=generator)
            batches = iter(order[: len(inputs) // batch_size * batch_size].view(-1, batch_size))
            chosen = next(batches)
        value = loss(module(inputs.index_select(0, chosen)), targets.index_select(0, chosen))
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step(rate)
        total += value.detach()
    _check_finite(total, "the training loss")


def inference_batch(peak_memory_bytes: int) -> int:
    """Samples to run at once so that activations stay within a fixed budget."""
    return max(16, min(MAX_INFERENCE_BATCH, ACTIVATION_BUDGET_BYTES // max(1, peak_memory_bytes)))


def reestimate_batch_norm(module: nn.Module, inputs: Float[Tensor, "samples ..."], *, batch_size: int) -> None:
    """Replace BatchNorm's running statistics by averages over the inputs, with the weights as they are now."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    module.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    with torch.no_grad():
        # Equal batches: each one has the same weight in the cumulative average.
        parts = math.ceil(len(inputs) / batch_size)
        for batch in inputs.tensor_split(parts):
            module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


def predict(
    module: nn.Module, inputs: Float[Tensor, "samples ..."], *, batch_size: int
) -> Float[Tensor, "samples classes"]:
    """Outputs in eval mode.

    Raises:
        Diverged: If an output is not finite.
    """
    module.eval()
    with torch.inference_mode():
        parts = math.ceil(len(inputs) / batch_size)
        outputs = torch.cat([module(batch) for batch in inputs.tensor_split(parts)])
    _check_finite(outputs.sum(), "an output of the trained network")
    return outputs


def _check_finite(value: Tensor, what: str) -> None:
    if not bool(value.isfinite()):
        raise Diverged(f"{what} is not finite")
