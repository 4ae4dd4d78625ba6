"""Spaces of decisions: numbering, sampling, and what can still be completed, against enumeration by hand."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from rlnas.errors import LimitError, SpaceError
from rlnas.layout import DECISION_CONTEXT, decision_features
from rlnas.spaces import Decision, DecisionSpace, Feasible

SPACE = DecisionSpace.of({"depth": (1, 2, 3), "width": ("narrow", "wide"), "kernel": (3, 5, 7, 9)})


def every() -> list[tuple[int, ...]]:
    return list(itertools.product(range(3), range(2), range(4)))


def some(seed: int, share: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).random(SPACE.shape) < share


def test_assignments_are_numbered_with_the_last_decision_fastest() -> None:
    assert (SPACE.shape, SPACE.size, len(SPACE)) == ((3, 2, 4), 24, 3)
    for number, assignment in enumerate(every()):
        assert SPACE.number(assignment) == number and SPACE.assignment(number) == assignment
        assert np.ravel_multi_index(assignment, SPACE.shape) == number


def test_choices_by_name_and_back() -> None:
    assert SPACE.choices((2, 0, 1)) == {"depth": 3, "width": "narrow", "kernel": 5}
    assert SPACE.choices((2,)) == {"depth": 3}
    assert all(SPACE.from_choices(SPACE.choices(a)) == a for a in every())


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"depth": 1, "width": "wide"}, "nothing is chosen for 'kernel'"),
        ({"depth": 1, "width": "wid", "kernel": 3}, "Did you mean 'wide'"),
        ({"deptth": 1, "width": "wide", "kernel": 3}, "Did you mean 'depth'"),
        ({"depth": 4, "width": "wide", "kernel": 3}, "Known: 1, 2, 3"),
    ],
)
def test_what_is_not_in_the_space_is_named(choices: dict[str, int | str], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        SPACE.from_choices(choices)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [lambda: Decision("a", ()), lambda: Decision("a", (1, 1)), lambda: DecisionSpace(())])
def test_nothing_to_decide_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(SpaceError):
        make()
    with pytest.raises(SpaceError, match="two of the same name"):
        DecisionSpace((Decision("a", (1,)), Decision("a", (2,))))


def test_layout_has_a_slot_for_each_decision() -> None:
    layout = SPACE.layout
    assert (layout.slots, layout.variants, layout.n_actions) == (3, 4, 13)
    assert layout.sizes["nodes"] == 3 * len(decision_features(4)) and layout.sizes["context"] == len(DECISION_CONTEXT)


@pytest.mark.parametrize("seed", range(5))
def test_completions_and_distances_are_those_of_enumeration(seed: int) -> None:
    allowed = some(seed)
    feasible = Feasible(SPACE, allowed.ravel() if seed % 2 else allowed)
    inside = [a for a in every() if allowed[a]]
    assert feasible.count == len(inside) and feasible.share == len(inside) / 24
    for length in range(4):
        for begun in {a[:length] for a in every()}:
            assert feasible.completions(begun) == sum(a[:length] == begun for a in inside)
            if length < 3:
                after = [feasible.completions((*begun, c)) for c in range(SPACE.shape[length])]
                assert feasible.completions_after(begun).tolist() == after
    for a in every():
        assert feasible.meets(a) == (a in inside)
        assert feasible.distance[a] == min(sum(x != y for x, y in zip(a, b, strict=True)) for b in inside)


def test_samples_under_limits_are_uniform() -> None:
    feasible = Feasible(SPACE, some(1))
    generator = np.random.default_rng(0)
    n = 400 * feasible.count
    counts = Counter(feasible.sample(generator) for _ in range(n))
    assert set(counts) == {a for a in every() if feasible.meets(a)}
    chi_square = sum((c - 400) ** 2 / 400 for c in counts.values())
    assert chi_square < feasible.count - 1 + 4 * (2 * (feasible.count - 1)) ** 0.5
    free = Counter(SPACE.sample(generator) for _ in range(2400))
    assert set(free) == set(every()) and max(free.values()) < 160


def test_limits_that_nothing_meets_are_an_error_at_once() -> None:
    with pytest.raises(LimitError, match="none of the 24"):
        Feasible(SPACE, np.zeros(SPACE.shape))


def test_arrays_must_fit() -> None:
    with pytest.raises(SpaceError, match="shape"):
        SPACE.array(np.zeros((3, 2)), what="scores")
    large = DecisionSpace.of({f"d{i}": range(10) for i in range(9)})
    assert large.size == 10**9 and len(large.sample(np.random.default_rng(0))) == 9
    with pytest.raises(SpaceError, match="too large"):
        Feasible(large, np.ones(1))
    array = SPACE.array(np.zeros(24), what="scores")
    assert array.shape == SPACE.shape and not array.flags.writeable
