"""What tensors of a running module are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.views import Sample

BATCH = 2
"""Samples on which a module runs while it is written down."""
ALONG = (
    "it works along the batch, so that samples would be mixed; in a graph each sample goes its own way. Is the batch "
    "in front of the input, and does nothing take statistics of it?"
)


@dataclass(frozen=True, eq=False)
class Traced:
    """What a tensor of the running module is.

    Attributes:
        node: The node whose value it shows.
        positions: For each entry its place in a batch of that node's values; None if it is that batch as it is.
        origin: Of a view, what it is a view of, and how.
        tensor: The tensor itself, kept alive so that no other takes its address.
    """

    node: str
    positions: Tensor | None
    tensor: Tensor
    origin: tuple[Traced, Callable[[Tensor], Tensor]] | None = None


@dataclass(frozen=True)
class Unknown:
    """A tensor that depends on the input but is no value of the graph.

    Attributes:
        why: What it is, after "it reads".
        tensor: The tensor itself, kept alive so that no other takes its address.
        before: What it was before it was changed through another view of its memory.
    """

    why: str
    tensor: Tensor
    before: Traced | None = None


@dataclass(frozen=True)
class Value:
    """An operand as the graph has it.

    Attributes:
        node: Id of its node.
        shape: Shape of one sample.
        sample: Where the batch stands in the running module's tensor.
        rank: Axes of that tensor.
    """

    node: str
    shape: tuple[int, ...]
    sample: Sample
    rank: int

    def axis(self, dim: int) -> int:
        """The axis of a sample for an axis of the running module's tensor."""
        found = self.sample.axis(dim, self.rank)
        if found is None:
            raise GraphError(ALONG)
        return found


class Tied(Exception):
    """Parameters are read by layers and by other things as well."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.tensors = tuple(tensors)


def together(value: Value, like: Value) -> Value:
    """An operand whose batch must stand where another's does, counted from the end.

    Raises:
        GraphError: If it does not.
    """
    one, other = value.sample, like.sample
    if (value.rank - one.batch, one.merged, one.outer) != (like.rank - other.batch, other.merged, other.outer):
        raise GraphError("its inputs have their batch at different axes")
    return value
