"""Wall time by what it went into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.report import Interval, breakdown
from rlnas.report.breakdown import union_length


def test_overlaps_count_once() -> None:
    got = breakdown(
        [
            Interval("train", 1, 4),
            Interval("train", 2, 5),  # a second worker
            Interval("measure", 5, 6),
            Interval("measure", 4.5, 5.5),  # half of it beside a training
            Interval("train", -3, 0.5),  # began before
            Interval("train", 9.5, 20),  # ends after
            Interval("train", 30, 40),  # outside
        ],
        start_s=0,
        end_s=10,
    )
    assert (got.total_s, got.train_s, got.measure_s, got.other_s) == (10, 5, 1, 4)
    assert got.share == 0.6
    assert got.line() == "wall time 10.0 s: training 5.0 s (50 %), measuring 1.0 s (10 %), other 4.0 s (40 %)"


def test_nothing() -> None:
    empty = breakdown([], start_s=5, end_s=5)
    assert empty.share == 0 and "0.0 s" in empty.line()


cells = st.tuples(st.integers(0, 20), st.integers(0, 20))


@given(st.lists(cells))
def test_union_counts_cells(stretches: list[tuple[int, int]]) -> None:
    covered = {cell for begin, end in stretches for cell in range(begin, end)}
    assert union_length(stretches) == len(covered)


@given(st.lists(st.tuples(st.sampled_from(["train", "measure"]), st.floats(-5, 15), st.floats(0, 9))))
def test_parts_add_up(parts: list[tuple[str, float, float]]) -> None:
    intervals = [Interval(kind, begin, begin + length) for kind, begin, length in parts]  # type: ignore[arg-type]
    got = breakdown(intervals, start_s=0, end_s=10)
    assert got.train_s + got.measure_s + got.other_s == pytest.approx(10)
    assert min(got.train_s, got.other_s) >= 0 and got.measure_s >= -1e-9 and 0 <= got.share <= 1 + 1e-9
