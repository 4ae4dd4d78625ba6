"""Which channels always hold the same values, or one a multiple of the other, or a constant.

A channel is ``factor`` times whatever all channels of its ``kind`` are. Kinds are made by what a channel is computed
from, as a compiler numbers values, so that equal kinds are equal for every input.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CONSTANT = 0
"""The kind of what is one everywhere; a constant is its value times that."""


@dataclass(frozen=True, eq=False)
class Alike:
    """What is known of the channels along one axis of a value.

    Attributes:
        kinds: Kind of each channel.
        factors: What it is multiplied by, in float64: positive, but for constants.
    """

    kinds: Tensor
    factors: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def constant(self) -> Tensor:
        """Which channels are constant."""
        return self.kinds == CONSTANT

    @property
    def zero(self) -> Tensor:
        """Which channels are zero."""
        return self.constant & (self.factors == 0)

    def with_constants(self, where: Tensor, values: Tensor) -> Alike:
        """The same with constants in some places."""
        return Alike(self.kinds.masked_fill(where, CONSTANT), torch.where(where, values, self.factors))

    def choose(self, index: Tensor) -> Alike:
        """Some of the channels."""
        return Alike(self.kinds[index], self.factors[index])


class Kinds:
    """Makes kinds.

    Attributes:
        slack: Largest difference that counts as none, relative to the largest value beside it: a few roundings.
    """

    def __init__(self, slack: float) -> None:
        self.slack = slack
        self._next = CONSTANT + 1

    def _new(self, n: int) -> Tensor:
        self._next += n
        return torch.arange(self._next - n, self._next)

    def different(self, n: int) -> Alike:
        """Channels of which nothing is known."""
        return Alike(self._new(n), torch.ones(n, dtype=torch.float64))

    def equal(self, n: int) -> Alike:
        """One value that stands in all of n places."""
        return Alike(self._new(1).expand(n), torch.ones(n, dtype=torch.float64))

    def by(self, keys: Tensor, rows: Tensor, *, scaled: bool) -> Alike:
        """Channels that are computed in the same way from the same things.

        Args:
            keys: What each channel is computed from, shape (channels, n); must agree.
            rows: The numbers that tell how, shape (channels, m); must agree up to `slack`.
            scaled: True if a channel is proportional to its row, so that rows need to agree up to a factor only; a row
                of zeros then makes a channel that is zero.
        """
        rows = rows.double()
        size = rows.abs().amax(1) if rows.shape[1] else rows.new_ones(len(rows))
        divisor = torch.where(size > 0, size, 1.0)
        units = rows / divisor[:, None]
        first = torch.arange(len(rows))
        for run in self._near(keys, units):
            while len(run) > 1:
                close = ((units[run] - units[run[0]]).abs() <= self.slack).all(1)
                if not scaled:
                    close &= (size[run] - size[run[0]]).abs() <= self.slack * size[run[0]]
                first[run[close]] = run[0]
                run = run[~close]
        made = Alike(self._new(len(rows))[first], divisor if scaled else torch.ones_like(size))
        return made.with_constants(size == 0, size) if scaled else made

    def _near(self, keys: Tensor, units: Tensor) -> Iterator[Tensor]:
        """Sets of rows with equal keys beyond which no two are close: told apart by where they lie on one line."""
        blocks = torch.unique(keys, dim=0, return_inverse=True)[1].tolist() if keys.shape[1] else [0] * len(units)
        generator = torch.Generator().manual_seed(0)
        direction = torch.rand(units.shape[1], generator=generator, dtype=torch.float64) + 0.5
        near, line = 4 * self.slack * float(direction.sum()), (units @ direction).tolist()
        order = sorted(range(len(units)), key=lambda i: (blocks[i], line[i]))
        start = 0
        for stop in range(1, len(order) + 1):
            if stop < len(order):
                i, j = order[stop - 1], order[stop]
                if blocks[i] == blocks[j] and line[j] - line[i] <= near:
                    continue
            if stop - start > 1:
                yield torch.tensor(sorted(order[start:stop]))
            start = stop

    def mapped(self, given: Alike, *, homogeneous: bool, constant: Tensor | None = None) -> Alike:
        """Channels after an op that does the same to each.

        Args:
            homogeneous: True if a positive factor can be drawn out of it.
            constant: What it makes of the channels that are constant; None if they don't stay so (but zero stays zero
                where the op is homogeneous).
        """
        drawn = ~given.constant if homogeneous else torch.zeros_like(given.constant)
        ones = torch.ones_like(given.factors)
        rows = torch.where(drawn, ones, given.factors)[:, None]
        made = Alike(self.by(given.kinds[:, None], rows, scaled=False).kinds, torch.where(drawn, given.factors, ones))
        if constant is not None:
            return made.with_constants(given.constant, constant)
        return made.with_constants(given.zero, given.factors) if homogeneous else made
