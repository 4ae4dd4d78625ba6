"""Nodes that lead to a view show the same entries as the view itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlnas.graph import OPS, Node, complete
from rlnas.interchange.views import Sample, find_sample, placed, steps_to

MANY = settings(max_examples=300, deadline=None, derandomize=True)
View = Callable[[Tensor], Tensor]


def apply(steps: list[tuple[str, dict[str, object]]], values: Tensor) -> Tensor:
    """What the nodes make of a batch of values."""
    for op, attrs in steps:
        call = OPS[op].call
        assert call is not None
        text = call(complete(Node.make("a", op, "x", **attrs)), ("x",))
        values = eval(text, {"torch": torch, "x": values})
    return values


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[str, View]]]:
    """A shape, and views one after another."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=3)))
    current, chain = torch.zeros(shape), []
    for _ in range(draw(st.integers(1, 4))):
        rank = current.dim()
        axis, other = draw(st.integers(0, rank - 1)), draw(st.integers(0, rank - 1))
        size = current.shape[axis]
        cut = draw(st.integers(0, size - 1))
        picked = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
        made: tuple[str, View] = draw(
            st.sampled_from(
                [
                    ("transpose", lambda t, a=axis, b=other: t.transpose(a, b)),
                    ("narrow", lambda t, a=axis, c=cut: t.narrow(a, c, t.shape[a] - c)),
                    ("flip", lambda t, a=axis: t.flip(a)),
                    ("roll", lambda t, a=axis, c=cut: t.roll(c, a)),
                    ("index", lambda t, a=axis, p=tuple(picked): t.index_select(a, torch.tensor(p))),
                    ("merge", lambda t, a=axis: t.flatten(min(a, t.dim() - 2), -1) if t.dim() > 1 else t),
                    ("halves", lambda t, a=axis: t.unflatten(a, (2, -1)) if t.shape[a] % 2 == 0 else t),
                    ("expand", lambda t, a=axis: t.unsqueeze(a).expand(*t.shape[:a], 2, *t.shape[a:])),
                    ("step", lambda t, a=axis: t.index_select(a, torch.arange(0, t.shape[a], 2))),
                ]
            )
        )
        current = made[1](current)
        chain.append(made)
        if current.dim() > 5 or current.numel() > 400:
            break
    return shape, chain


@given(found=views())
@MANY
def test_steps_show_what_a_view_shows(found: tuple[tuple[int, ...], list[tuple[str, View]]]) -> None:
    shape, chain = found
    places = torch.arange(math.prod(shape)).view(shape)
    for _, view in chain:
        places = view(places)
    steps = steps_to(places, shape)
    if steps is None:
        assert len(places.flatten()) > 1, "a single entry can always be picked"
        return
    values = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([value.flatten()[places.flatten()].view(places.shape) for value in values])
    assert torch.equal(apply(steps, values), expected)


@pytest.mark.parametrize(
    ("shape", "view", "ops"),
    [
        ((6, 4), lambda t: t.view(6, 2, 2).transpose(0, 1), ["reshape", "permute"]),
        ((6, 4), lambda t: t[2:5], ["slice"]),
        ((6, 4), lambda t: t[:, ::2], ["slice"]),
        ((6, 4), lambda t: t.roll(1, 0), ["roll"]),
        ((6, 4), lambda t: t.flip(0), ["index_select"]),
        ((2, 3, 4), lambda t: t.flatten(1), ["flatten"]),
        ((4, 1), lambda t: t.expand(4, 3), ["expand"]),
        ((2, 8), lambda t: t.unfold(-1, 4, 2), ["index_select", "reshape"]),
        ((8, 2), lambda t: t.view(2, 4, 2).transpose(0, 1).reshape(8, 2), ["index_select"]),
        ((3, 2, 2), lambda t: t[:, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])], ["flatten", "index_select"]),
        ((3, 4), lambda t: t[None, :, None], ["reshape"]),
        ((3, 4), lambda t: t, []),
    ],
)
def test_views_are_told_in_few_nodes(shape: tuple[int, ...], view: View, ops: list[str]) -> None:
    places = view(torch.arange(math.prod(shape)).view(shape))
    steps = steps_to(places, shape)
    assert steps is not None and [op for op, _ in steps] == ops


@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=3).map(tuple),
    at=st.integers(0, 2),
    outer=st.sampled_from([1, 2, 3, 4]),
    merged=st.booleans(),
)
@MANY
def test_the_batch_is_found_wherever_it_stands(shape: tuple[int, ...], at: int, outer: int, merged: bool) -> None:
    at = min(at, len(shape) - 1)
    count = shape[at] if merged else 1
    outer = outer if merged and count % outer == 0 else 1
    positions = placed(2, shape, at, count, outer)
    found = find_sample(positions, 2, math.prod(shape))
    assert found is not None and found.positions is not None
    again = found.positions.flatten()
    assert torch.equal(again, torch.arange(math.prod(shape)))
    assert (found.shape, found.batch) == (shape, at) or math.prod(shape) < 2 or 1 in shape


def test_samples_that_are_mixed_are_no_batch() -> None:
    places = torch.arange(12).view(2, 6)
    assert find_sample(places.flip(0), 2, 6) is None
    assert find_sample(torch.stack([places[0], places[0]]), 2, 6) is None
    assert find_sample(places.flatten()[[0, 7, 1, 6]].view(2, 2), 2, 6) is None


def test_an_axis_of_a_sample_is_that_of_its_batch_without_it() -> None:
    plain, merged = Sample(None, (3, 4), 1), Sample(None, (3, 4), 0, 3)
    assert [plain.axis(d, 3) for d in (0, 1, 2, -1)] == [0, None, 1, 1]
    assert [merged.axis(d, 2) for d in (0, 1, -1)] == [None, 1, 1]
