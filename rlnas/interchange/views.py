"""Values that only show another value's entries elsewhere: which graph nodes give them.

While a module runs, a view is kept as its base and a tensor of positions in it, to which the same calls were applied as
to the view itself. What the view is, is read off that tensor only when something is computed from it, so that every
spelling of a rearrangement ends in the same few nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST_PLACES = 4096
"""More places than this are not picked one by one."""

Step = tuple[str, dict[str, Any]]
"""An op and its attributes."""


@dataclass(frozen=True)
class Sample:
    """A traced tensor seen as a batch of samples.

    Attributes:
        positions: For each entry of one sample its place in the base; None if it is the base as it is.
        shape: Shape of one sample.
        batch: Axis of the traced tensor that holds the batch.
        merged: How many places of a sample that axis holds beside the batch.
        outer: How many of those places are outside the batch: samples follow one another within each of them.
    """

    positions: Tensor | None
    shape: tuple[int, ...]
    batch: int = 0
    merged: int = 1
    outer: int = 1

    def axis(self, dim: int, rank: int) -> int | None:
        """The axis of a sample for an axis of the traced tensor; None for that of the batch."""
        dim = dim % rank
        if dim == self.batch:
            return None
        return dim if self.merged > 1 or dim < self.batch else dim - 1


def base_positions(batch: int, shape: tuple[int, ...]) -> Tensor:
    """Positions of a whole batch of values of a shape."""
    return torch.arange(batch * math.prod(shape)).view(batch, *shape)


def placed(batch: int, shape: tuple[int, ...], at: int, merged: int, outer: int = 1) -> Tensor:
    """Positions of a value whose batch is to stand at another axis, merged with that many places."""
    base = base_positions(batch, shape)
    if merged == 1:
        return base.movedim(0, at)
    parts = base.view(batch, *shape[:at], outer, merged // outer, *shape[at + 1 :])
    return parts.movedim(0, at + 1).flatten(at, at + 2)


def find_sample(positions: Tensor, batch: int, size: int) -> Sample | None:
    """Find the axis of the batch in a view; None if samples are mixed.

    Args:
        positions: Places in a batch of values of ``size`` entries each.
    """
    shape = tuple(positions.shape)
    for axis in range(len(shape)):
        if shape[axis] % batch:
            continue
        merged = shape[axis] // batch
        for outer in sorted([n for n in range(1, merged + 1) if merged % n == 0], key=lambda n: n not in (1, merged)):
            parts = (outer, batch, merged // outer)
            split = positions.reshape(*shape[:axis], *parts, *shape[axis + 1 :]).movedim(axis + 1, 0)
            split = split.flatten(axis + 1, axis + 2)
            first = split[0]
            steps = torch.arange(batch).view(-1, *[1] * first.dim()) * size
            if bool((split == first + steps).all()) and bool((first < size).all()):
                sample = first.squeeze(axis) if merged == 1 else first
                return Sample(sample, tuple(sample.shape), axis, merged, outer)
    return None


def steps_to(positions: Tensor, shape: tuple[int, ...]) -> list[Step] | None:
    """Nodes that lead from a value of some shape to a view of it; None if no short way is known.

    Args:
        positions: For each entry of the view its place in the value.
    """
    wanted = tuple(positions.shape)
    flat = positions.flatten()
    size = math.prod(shape)
    if len(flat) == size and bool((flat == torch.arange(size)).all()):
        return list(_reshape(shape, wanted))
    coordinates = torch.unravel_index(flat, shape)
    chosen = [_first_met(c, shape[axis]) for axis, c in enumerate(coordinates)]
    steps: list[Step] = []
    current = shape
    for axis, kept in enumerate(chosen):
        if len(kept) < shape[axis] or bool((kept[1:] < kept[:-1]).any()):
            steps.append(_choice(axis, kept, shape[axis]))
            current = (*current[:axis], len(kept), *current[axis + 1 :])
    if steps:
        places = torch.zeros(size, dtype=torch.int64)
        grid = torch.cartesian_prod(*chosen).view(-1, len(shape)) if len(shape) > 1 else chosen[0][:, None]
        places[_ravel(grid, shape)] = torch.arange(math.prod(current))
        flat = places[flat]
    rest = _rearrange(flat.view(wanted), current)
    return None if rest is None else steps + rest


def _ravel(grid: Tensor, shape: tuple[int, ...]) -> Tensor:
    places = torch.zeros(len(grid), dtype=torch.int64)
    for axis, size in enumerate(shape):
        places = places * size + grid[:, axis]
    return places


def _first_met(places: Tensor, size: int) -> Tensor:
    """The different places, in the order in which they are first met."""
    first = torch.full((size,), len(places), dtype=torch.int64)
    first.scatter_reduce_(0, places, torch.arange(len(places)), "amin")
    order = first.argsort(stable=True)
    return order[: int((first < len(places)).sum())]


def _choice(axis: int, kept: Tensor, size: int) -> Step:
    step = int(kept[1] - kept[0]) if len(kept) > 1 else 1
    if len(kept) == size and bool((kept == (torch.arange(size) + kept[0]) % size).all()):
        return "roll", {"axis": axis, "shift": size - int(kept[0])}
    if step > 0 and bool((kept[1:] - kept[:-1] == step).all()):
        start = int(kept[0])
        return "slice", {"axis": axis, "start": start, "stop": int(kept[-1]) + 1, "step": step}
    return "index_select", {"axis": axis, "indices": tuple(kept.tolist())}


def _reshape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[Step]:
    if shape == wanted:
        return
    start = len(wanted) - 1
    if 0 <= start < len(shape) and shape[:start] == wanted[:start]:
        yield "flatten", {"start": start}
    else:
        yield "reshape", {"shape": wanted}


def _rearrange(positions: Tensor, shape: tuple[int, ...]) -> list[Step] | None:
    """Steps for a view that shows every entry: by reshaping and permuting, or by picking along single axes."""
    wanted = tuple(positions.shape)
    if math.prod(wanted) == math.prod(shape) and bool((positions.flatten() == torch.arange(math.prod(shape))).all()):
        return list(_reshape(shape, wanted))
    factors = [_factors(positions, axis) for axis in range(len(wanted))]
    runs = [(size, stride, axis) for axis, found in enumerate(factors) for size, stride in found if size > 1]
    if _affine(positions, factors):
        repeated = [run for run in runs if run[1] == 0]
        if repeated:
            return _expanded(positions, shape, factors)
        order = sorted(range(len(runs)), key=lambda i: -runs[i][1])
        sizes = tuple(runs[i][0] for i in order)
        strides = [math.prod(sizes[k + 1 :]) for k in range(len(sizes))]
        if [runs[i][1] for i in order] == strides and math.prod(sizes) == math.prod(shape):
            steps = list(_reshape(shape, sizes))
            dims = tuple(order.index(i) for i in range(len(runs)))
            if dims != tuple(range(len(dims))):
                steps.append(("permute", {"dims": dims}))
            moved = tuple(size for size, _, _ in runs)
            return steps + list(_reshape(moved, wanted))
    return _picked(positions, shape)


def _factors(positions: Tensor, axis: int) -> list[tuple[int, int]]:
    """(size, stride) of the runs that make up an axis, outermost first."""
    line = positions
    for other in range(positions.dim()):
        if other != axis:
            line = line.narrow(other, 0, 1)
    values = line.flatten()
    found: list[tuple[int, int]] = []
    while len(values) > 1:
        steps = values[1:] - values[:-1]
        other_steps = (steps != steps[0]).nonzero()
        run = int(other_steps[0]) + 1 if len(other_steps) else len(values)
        if len(values) % run:
            return [(len(line.flatten()), -1)]
        found.append((run, int(steps[0])))
        values = values[::run]
    return found[::-1]


def _affine(positions: Tensor, factors: list[list[tuple[int, int]]]) -> bool:
    expected = torch.zeros((), dtype=torch.int64)
    for axis, found in enumerate(factors):
        if any(stride < 0 for _, stride in found):
            return False
        line = torch.zeros(1, dtype=torch.int64)
        for size, stride in found:
            line = (line[:, None] + torch.arange(size) * stride).flatten()
        shape = [1] * positions.dim()
        shape[axis] = positions.shape[axis]
        if len(line) < positions.shape[axis]:  # all entries of the axis are the same one
            line = line.expand(positions.shape[axis])
        expected = expected + line.view(shape)
    return bool((positions == expected).all())


def _expanded(positions: Tensor, shape: tuple[int, ...], factors: list[list[tuple[int, int]]]) -> list[Step] | None:
    """Repeated axes: the rest, then an expansion."""
    narrow = positions
    for axis, found in enumerate(factors):
        if found and all(stride == 0 for _, stride in found):
            narrow = narrow.narrow(axis, 0, 1)
        elif any(stride == 0 for _, stride in found):
            return _picked(positions, shape)
    rest = _rearrange(narrow, shape)
    return None if rest is None else [*rest, ("expand", {"shape": tuple(positions.shape)})]


def _picked(positions: Tensor, shape: tuple[int, ...]) -> list[Step] | None:
    """Entries picked along single axes, such as a roll, a repetition or windows, or from all of a small value."""
    coordinates = torch.unravel_index(positions, shape)
    owners = [_owner([_varies(c, axis) for c in coordinates]) for axis in range(positions.dim())]
    if any(owner is None for owner in owners):
        return _picked_from_all(positions, shape)
    known = [owner for owner in owners if owner is not None]
    for axis in range(len(known) - 1, -1, -1):  # a repetition goes with what follows it
        if known[axis] < 0:
            known[axis] = known[axis + 1] if axis + 1 < len(known) else len(shape) - 1
    order = sorted(range(len(known)), key=lambda axis: known[axis])
    sizes = [positions.shape[axis] for axis in order]
    merged = [math.prod([positions.shape[a] for a in order if known[a] == axis]) for axis in range(len(shape))]
    steps = _along_axes(positions.permute(order).reshape(merged), shape)
    if steps is None:
        return None
    steps += list(_reshape(tuple(merged), tuple(sizes)))
    dims = tuple(order.index(axis) for axis in range(len(order)))
    return steps + ([] if dims == tuple(range(len(dims))) else [("permute", {"dims": dims})])


def _varies(places: Tensor, axis: int) -> bool:
    return places.shape[axis] > 1 and not bool((places == places.narrow(axis, 0, 1)).all())


def _owner(varies: list[bool]) -> int | None:
    """The one axis along which places vary; -1 for none, None for several."""
    found = [axis for axis, does in enumerate(varies) if does]
    return None if len(found) > 1 else found[0] if found else -1


def _along_axes(positions: Tensor, shape: tuple[int, ...]) -> list[Step] | None:
    steps: list[Step] = []
    for axis, found in enumerate(torch.unravel_index(positions, shape)):
        line = found
        for other in range(len(shape)):
            if other != axis:
                line = line.narrow(other, 0, 1)
        if bool((found != line).any()):
            return None
        indices, n = tuple(line.flatten().tolist()), shape[axis]
        if indices == tuple((i + indices[0]) % n for i in range(n)):
            if indices[0]:
                steps.append(("roll", {"axis": axis, "shift": n - indices[0]}))
        else:
            steps.append(("index_select", {"axis": axis, "indices": indices}))
    return steps


def _picked_from_all(positions: Tensor, shape: tuple[int, ...]) -> list[Step] | None:
    """Entries picked one by one along the axes between which there is no telling."""
    first = 0
    coordinates = torch.unravel_index(positions, shape)
    while first < min(len(shape), positions.dim()) and not any(_varies(c, first) for c in coordinates[first + 1 :]):
        line = coordinates[first].movedim(first, 0).flatten(1)[:, :1]
        same = bool((coordinates[first].movedim(first, 0).flatten(1) == line).all())
        if not same or positions.shape[first] != shape[first] or line.flatten().tolist() != list(range(shape[first])):
            break
        first += 1
    rest = positions[(0,) * first].flatten()
    if len(rest) > MOST_PLACES:
        return None
    size = math.prod(shape[first:])
    steps = list(_reshape(shape, (*shape[:first], size)))
    steps.append(("index_select", {"axis": first, "indices": tuple(rest.tolist())}))
    return steps + list(_reshape((*shape[:first], len(rest)), tuple(positions.shape)))
