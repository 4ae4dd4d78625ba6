"""What scores look at: a graph with fresh weights, a batch, and the passes that several scores share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from rlnas.errors import EvaluationError
from rlnas.evaluation.build import seed_from
from rlnas.evaluation.zero_cost.blocks import between, block_ends
from rlnas.graph import Graph
from rlnas.network import Network, example_inputs

Loss = Callable[[Tensor, Tensor], Tensor]

NORMS: Final = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
WEIGHTED: Final = (nn.modules.conv._ConvNd, nn.Linear)
KINKED: Final = (F.relu, F.relu6, F.leaky_relu, F.prelu, torch.relu, torch.prelu)
"""Functions that are linear on either side of zero."""

PASSES: Final[dict[str, tuple[int, bool]]] = {
    "gradients": (3, True),
    "activations": (1, True),
    "blocks": (3, True),
    "input gradients": (3, True),
    "one sample": (3, False),
}
"""What the passes cost: in forward passes (a backward one counts as two), of the whole batch or of one sample."""


class Step(NamedTuple):
    """One block of a network at work.

    Attributes:
        before: What it reads, a leaf that gradients can be taken of; None for the first block.
        after: What it makes.
    """

    before: Tensor | None
    after: Tensor


class Probe:
    """A graph at initialization, ready to be scored.

    The weights are always fresh: what scores say, they say of networks at initialization; of trained or inherited
    weights they say nothing.

    Args:
        graph: The architecture.
        inputs: A batch of training inputs.
        targets: Their targets.
        loss: Loss of outputs and targets.
        seed: Decides the weights and what else is drawn.
        blocks: Ids of the values that blocks end with, first to last; found in the graph by default.
    """

    def __init__(
        self,
        graph: Graph,
        inputs: Tensor,
        targets: Tensor,
        *,
        loss: Loss,
        seed: int,
        blocks: Sequence[str] | None = None,
    ) -> None:
        self.graph = graph
        self.inputs = inputs
        self.targets = targets
        self.blocks = block_ends(graph) if blocks is None else tuple(blocks)
        self._loss = loss
        self._seed = seed
        self._network = Network.initialize(graph, generator=self.generator("weights"))

    def generator(self, name: str) -> torch.Generator:
        """A source of randomness of its own for each use, so that no score depends on which others are computed."""
        return torch.Generator().manual_seed(seed_from(f"{self._seed} {name}"))

    def module(self) -> nn.Module:
        """The network in training mode (BatchNorm uses the batch), without dropout."""
        return _ready(self._network.module())

    @cached_property
    def gradients(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, gradient of the loss) of each convolution and linear layer."""
        module = self.module()
        layers = weights(module)
        value = self._loss(module(self.inputs), self.targets)
        found = torch.autograd.grad(value, layers, materialize_grads=True)
        return [(w.detach(), g) for w, g in zip(layers, found, strict=True)]

    @cached_property
    def steps(self) -> list[Step]:
        """The blocks at work on random inputs, one after the other; no gradient flows from one into another."""
        if not self.blocks:
            raise EvaluationError("the score looks at the values between blocks, and the network has no such value")
        steps: list[Step] = []
        last: str | None = None
        value = example_inputs(self.graph, len(self.inputs), generator=self.generator("inputs"))
        for end in self.blocks:
            before = value.detach().requires_grad_() if last is not None else None
            if end == last:
                assert before is not None
                value = before
            else:
                value = _ready(between(self._network, last, end).module())(value if before is None else before)
            steps.append(Step(before, value))
            last = end
        return steps

    def linearized(self) -> nn.Module:
        """The network in float64 with absolute weights and without norms: a plain sum over paths."""
        module = self._network.to(torch.float64).module()
        for name, part in list(module.named_children()):
            if isinstance(part, NORMS):
                setattr(module, name, nn.Identity())
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.is_floating_point():
                    parameter.abs_()
        return _ready(module)


def weights(module: nn.Module) -> list[Tensor]:
    """Weights of convolutions and linear layers.

    Raises:
        EvaluationError: If there are none.
    """
    found: list[Tensor] = [part.weight for part in module.modules() if isinstance(part, WEIGHTED)]
    if not found:
        raise EvaluationError("the score looks at convolutions and linear layers, and the network has none")
    return found


@contextmanager
def watching(functions: tuple[Any, ...], see: Callable[[Tensor], None]) -> Iterator[None]:
    """Show the first argument of every call of some functions."""

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in functions:
                see(args[0])
            return func(*args, **(kwargs or {}))

    with Watch():
        yield


def _ready(module: nn.Module) -> nn.Module:
    module.train()
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.eval()
    return module
