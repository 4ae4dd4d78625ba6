"""Cells of channels that can be split and identified with each other."""

from __future__ import annotations

Axis = tuple[tuple[int, int], ...]
"""Row of (cell, block): the channels along one axis, in order, each filling ``block`` places."""


class Cells:
    """Runs of channels that stay whole wherever they go; old numbers stay valid through `resolve`.

    Attributes:
        lengths: Channels in each cell.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._forward: dict[int, tuple[int, ...]] = {}

    def new(self, length: int) -> int:
        """A cell of that many channels."""
        self.lengths.append(length)
        return len(self.lengths) - 1

    def resolve(self, axis: Axis) -> Axis:
        """The row in cells that are still whole."""
        forward = self._forward
        if not any([cell in forward for cell, _ in axis]):
            return axis
        row: list[tuple[int, int]] = []
        for cell, block in axis:
            if cell in forward:
                row.extend(self.resolve(tuple([(part, block) for part in forward[cell]])))
            else:
                row.append((cell, block))
        return tuple(row)

    def places(self, axis: Axis) -> int:
        """Places that a row fills."""
        return sum([self.lengths[cell] * block for cell, block in axis])

    def cut(self, axis: Axis, positions: set[int]) -> bool:
        """Make every position a border between cells; False if one lies within a channel's places."""
        while True:
            start = 0
            for cell, block in self.resolve(axis):
                inside = [p - start for p in positions if start < p < start + self.lengths[cell] * block]
                if inside:
                    if min(inside) % block:
                        return False
                    self._split(cell, min(inside) // block)
                    break
                start += self.lengths[cell] * block
            else:
                return True

    def between(self, axis: Axis, start: int, stop: int) -> Axis:
        """The cells between two positions that are borders."""
        found, at = [], 0
        for cell, block in self.resolve(axis):
            if start <= at < stop:
                found.append((cell, block))
            at += self.lengths[cell] * block
        return tuple(found)

    def evenly(self, axis: Axis, n: int) -> list[Axis]:
        """The row in n parts of equal length; nothing where blocks make that impossible."""
        size, rest = divmod(self.places(self.resolve(axis)), n)
        if rest or not self.cut(axis, {size * i for i in range(1, n)}):
            return []
        return [self.between(axis, size * i, size * (i + 1)) for i in range(n)]

    def unify(self, left: Axis, right: Axis) -> bool:
        """Identify two rows channel by channel; False if their blocks differ."""
        while True:
            a, b = self.resolve(left), self.resolve(right)
            if a == b:
                return True
            pair = next(((x, y) for x, y in zip(a, b, strict=False) if x != y), None)
            if pair is None or pair[0][1] != pair[1][1]:
                return False
            (cell_a, _), (cell_b, _) = pair
            if cell_a == cell_b:
                return False
            length_a, length_b = self.lengths[cell_a], self.lengths[cell_b]
            if length_a == length_b:
                self._forward[cell_b] = (cell_a,)
            elif length_a > length_b:
                self._split(cell_a, length_b)
            else:
                self._split(cell_b, length_a)

    def _split(self, cell: int, at: int) -> None:
        self._forward[cell] = (self.new(at), self.new(self.lengths[cell] - at))
