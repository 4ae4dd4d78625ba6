"""The Pareto front and its volume, against their definitions."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.report import Point, Ranges, csv_text, dominates, front, hypervolume, relative_hypervolume

# whole numbers, so that ties occur
points = st.lists(st.builds(Point, accuracy=st.integers(0, 8), cost=st.integers(1, 9)), max_size=12)


@given(points)
def test_front_is_what_nothing_dominates(cloud: list[Point]) -> None:
    chosen = front(cloud)
    expected = {p for p in cloud if not any(dominates(q, p) for q in cloud)}
    assert {cloud[i] for i in chosen} == expected and len(chosen) == len(expected)
    assert all(cloud.index(cloud[i]) == i for i in chosen), "of equal points the first"
    assert [cloud[i].cost for i in chosen] == sorted(cloud[i].cost for i in chosen)


@given(points)
def test_hypervolume_counts_cells(cloud: list[Point]) -> None:
    cells = sum(any(p.accuracy >= a + 1 and p.cost <= c for p in cloud) for a in range(1, 9) for c in range(8))
    assert hypervolume(cloud, reference=Point(accuracy=1, cost=8)) == cells


def test_numbers_that_are_not_finite_are_passed_over() -> None:
    cloud = [Point(math.nan, 1), Point(0.5, math.nan), Point(0.5, 1.0), Point(math.inf, 1), Point(0.9, math.inf)]
    assert front(cloud) == [2]
    assert relative_hypervolume(cloud, ranges=Ranges((0.0, 1.0), (0.1, 10.0))) == pytest.approx(0.25)


def test_relative_hypervolume() -> None:
    ranges = Ranges(accuracy=(0.9, 1.0), cost=(1.0, 100.0))
    assert relative_hypervolume([], ranges=ranges) == 0
    assert relative_hypervolume([Point(0.95, 10.0)], ranges=ranges) == pytest.approx(0.25)
    assert relative_hypervolume([Point(0.95, 10.0), Point(1.0, 50.0)], ranges=ranges) == pytest.approx(
        0.25 + 0.5 * math.log(2) / math.log(100)
    )
    # beyond the ranges nothing more is won
    assert relative_hypervolume([Point(1.0, 0.001)], ranges=ranges) == pytest.approx(1.0)
    assert relative_hypervolume([Point(0.5, 1.0), Point(1.0, 200.0)], ranges=ranges) == 0


@given(points, st.builds(Point, accuracy=st.floats(0, 1), cost=st.floats(0.01, 100)))
def test_relative_hypervolume_never_falls(cloud: list[Point], more: Point) -> None:
    ranges = Ranges.around(Point(0.945, 1.0))
    cloud = [Point(p.accuracy / 8, p.cost) for p in cloud]
    before, after = (relative_hypervolume(c, ranges=ranges) for c in (cloud, [*cloud, more]))
    assert 0 <= before <= after + 1e-12 and after <= 1


def test_ranges_around_the_start() -> None:
    ranges = Ranges.around(Point(0.945, 0.2))
    assert ranges.accuracy == pytest.approx((0.89, 1.0)) and ranges.cost == pytest.approx((0.02, 2.0))
    assert Ranges.around(Point(1.0, 1.0)).accuracy == (0.98, 1.0)
    assert Ranges.around(Point(0.1, 1.0)).accuracy == (0.0, 1.0)


def test_csv_text() -> None:
    def row(key: str, accuracy: float, latency: float | None, **more: Any) -> dict[str, Any]:
        return {"graph_key": key, "accuracy": accuracy, "latency_ms": latency, "status": "ok"} | more

    evaluations = [
        row("a", 0.95, 0.4, operators=["widen(conv1, 2.0)", "deepen(conv2, 3)"], reward=1.5, n_params=7, macs=9),
        row("b", 0.90, 0.2, operators=[]),
        row("c", 0.89, 0.3, operators=[]),
        row("d", 0.99, 0.1, operators=[], status="infeasible"),
        row("e", 0.99, None, operators=[]),
        {"graph_key": "f", "accuracy": None, "latency_ms": None, "status": "failed"},
    ]
    rows = list(csv.DictReader(io.StringIO(csv_text(evaluations))))
    assert [r["graph_key"] for r in rows] == ["b", "a"]
    assert rows[1]["operators"] == "widen(conv1, 2.0); deepen(conv2, 3)"
    assert (rows[1]["accuracy"], rows[1]["latency_ms"], rows[1]["n_params"], rows[1]["reward"]) == (
        "0.95", "0.4", "7", "1.5",
    )  # fmt: skip
    assert rows[0]["reward"] == ""
    assert [r["graph_key"] for r in csv.DictReader(io.StringIO(csv_text(evaluations, cost="macs")))] == ["a"]
    assert len(csv_text([]).splitlines()) == 1
