"""The archive, and volumes in any number of dimensions, against their definitions and by hand."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlnas.errors import ConfigError
from rlnas.report import Archive, Axis, Point, Ranges, front, relative_hypervolume
from rlnas.report.archive import axes_around, volume

SIDE = 4
clouds = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.tuples(*[st.integers(-1, SIDE)] * n), max_size=8)  # whole numbers, so that ties occur
)


def info(number: int = 0, *, status: str = "ok", **vector: float) -> dict[str, Any]:
    evaluation = {"graph_key": f"g{number}", "status": status, "seed": 0}
    return {"evaluation": evaluation, "reward_vector": vector or None, "actions": [number, 0], "illegal_action": False}


@given(clouds)
def test_volume_counts_cells(cloud: list[tuple[int, ...]]) -> None:
    cells = itertools.product(range(SIDE), repeat=len(cloud[0]) if cloud else 1)
    covered = sum(any(all(x > c for x, c in zip(point, cell, strict=True)) for point in cloud) for cell in cells)
    assert volume(cloud) == covered


def test_volumes_by_hand() -> None:
    assert volume([]) == 0 and volume([(3.0,), (2.0,)]) == 3
    assert volume([(2.0, 1.0), (1.0, 3.0)]) == 2 + 3 - 1
    # 2*2*2, and 1*3*1 of which 1*2*1 is in it, and 3*1*1 of which 2*1*1 is in it, and 1*1*1 twice taken away
    assert volume([(2.0, 2.0, 2.0), (1.0, 3.0, 1.0), (3.0, 1.0, 1.0)]) == 8 + 1 + 1
    assert volume([(1.0, 1.0, 1.0, 0.5), (1.0, 1.0, 0.5, 1.0)]) == pytest.approx(0.75)


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 9)), max_size=12))
def test_records_are_the_front_and_history_is_the_volume(cloud: list[tuple[int, int]]) -> None:
    archive = Archive([Axis("accuracy", 1), Axis("minus_macs", -8)])
    changed = [archive.add(info(i, accuracy=a, minus_macs=-c)) for i, (a, c) in enumerate(cloud)]
    points = [Point(a, c) for a, c in cloud]
    kept = {int(record["graph_key"][1:]) for record in archive.records}
    assert kept == set(front(points)) and len(archive.history) == len(cloud)
    assert changed == [i in front(points[: i + 1]) for i in range(len(cloud))]
    for i, covered in enumerate(archive.history):
        assert covered == volume([(a - 1, 8 - c) for a, c in cloud[: i + 1]])
    assert archive.hypervolume == (archive.history[-1] if cloud else 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=8))
def test_around_a_start_network_it_is_the_relative_hypervolume(cloud: list[tuple[float, float]]) -> None:
    ranges = Ranges.around(Point(0.9, 1.0))
    archive = Archive(axes_around(ranges, cost="latency_ms"))
    for i, (accuracy, cost) in enumerate(cloud):
        archive.add(info(i, accuracy=accuracy, minus_latency_ms=-cost))
    expected = relative_hypervolume([Point(a, c) for a, c in cloud], ranges=ranges)
    assert archive.hypervolume == pytest.approx(expected, abs=1e-12)


def test_three_objectives_by_hand() -> None:
    archive = Archive([Axis("accuracy", 0.5, 1.0), Axis("minus_macs", -1000, -10, log=True), Axis("minus_ms", -4)])
    assert archive.add(info(0, accuracy=0.75, minus_macs=-100, minus_ms=-2))
    assert archive.hypervolume == pytest.approx(0.5 * 0.5 * 2)
    assert not archive.add(info(1, accuracy=0.75, minus_macs=-100, minus_ms=-2)), "of equal ones the first stays"
    assert archive.add(info(2, accuracy=0.75, minus_macs=-100, minus_ms=-1))
    assert [record["graph_key"] for record in archive.records] == ["g2"]
    assert archive.add(info(3, accuracy=1.2, minus_macs=-1000, minus_ms=-1)), "on the front, though it covers nothing"
    assert archive.history == pytest.approx([0.5, 0.5, 0.75, 0.75])


def test_failures_count_and_cover_nothing() -> None:
    archive = Archive([Axis("accuracy", 0)])
    for bad in (info(status="failed"), info(status="infeasible", accuracy=0.9), info(accuracy=math.nan)):
        assert not archive.add(bad)
    assert archive.history == [0, 0, 0] and not archive.records


def test_state_is_json_and_is_taken_up() -> None:
    archive, other = (Archive([Axis("accuracy", 0), Axis("minus_macs", -9)]) for _ in range(2))
    archive.add(info(4, accuracy=0.5, minus_macs=-3))
    other.restore(json.loads(json.dumps(archive.state())))
    assert other.records == archive.records and other.hypervolume == archive.hypervolume == 3
    assert other.records[0]["actions"] == [4, 0] and other.records[0]["seed"] == 0, "what a replay needs"
    assert other.add(info(5, accuracy=0.4, minus_macs=-1)) and len(archive.records) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Archive([]), "at least one objective"),
        (lambda: Axis("accuracy", 1.0, 0.5), "accuracy cannot count from 1.0 to 0.5"),
        (lambda: Axis("accuracy", math.nan), "cannot count"),
        (lambda: Axis("minus_macs", -5.0, 0.0, log=True), "ratios only below 0"),
        (lambda: Axis("minus_macs", -5.0, log=True), "ratios only below 0"),
        (lambda: Archive([Axis("acuracy", 0)]).add(info(accuracy=1.0)), "Did you mean 'accuracy'"),
    ],
)
def test_mistakes_are_named(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
