from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlnas.evaluation.zero_cost import SCORES, VOTES
from tests.spaces.test_nas_bench_201 import ALL3, DATA, text

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def zero_cost() -> ModuleType:
    return load("zero_cost")


@pytest.fixture(scope="module")
def cheaper() -> ModuleType:
    return load("cheaper")


def rows(n: int) -> list[dict[str, object]]:
    """Cells whose parameters order them rightly and whose other scores order them wrongly."""
    found = []
    for i in range(n):
        scores = {name: float(i if name == "n_params" else -i) for name in SCORES}
        if i == 0:
            del scores["jacob_cov"]
        figures = {"accuracy": 50.0 + i, "published parameters": 100 + i, "published macs": 7 - i}
        found.append({"cell": ALL3, "scores": scores, "cpu_s": 1.0, **figures})
    return found


def test_correlations_are_with_the_published_accuracy(zero_cost: ModuleType) -> None:
    found = zero_cost.results(rows(20))
    assert set(found) == {*SCORES, *VOTES, "published parameters", "published macs"}
    assert found["n_params"]["spearman"] == pytest.approx(1) and found["macs"]["spearman"] == pytest.approx(-1)
    assert found["published macs"]["spearman"] == pytest.approx(-1)
    assert found["jacob_cov"]["undefined"] == 1 and -1 < found["jacob_cov"]["spearman"] < -0.6  # worst, and rightly so
    assert found["vote"]["undefined"] == 1 and not found["vote"]["met"] and found["snip"]["met"] is None
    shown = zero_cost.table(found)
    assert "NOT within 0.1" in shown and len(shown.splitlines()) == 1 + len(found)


def test_intervals_are_over_cells(zero_cost: ModuleType) -> None:
    ordered = [float(i) for i in range(30)]
    swapped = [v + (7 if i % 3 == 0 else 0) for i, v in enumerate(ordered)]
    rho, low, high = zero_cost.with_interval(swapped, ordered)
    assert low < rho < high <= 1 and rho == pytest.approx(zero_cost.spearman(swapped, ordered))


def test_idle_layers_are_found(zero_cost: ModuleType) -> None:
    assert zero_cost.complete(ALL3)
    assert not zero_cost.complete(text("nor_conv_3x3", "none", "none", "skip_connect", "none", "none"))


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published data")
def test_it_measures(zero_cost: ModuleType) -> None:
    found = zero_cost.measure(DATA.parent, cells=2, batch_size=4, seed=0)
    assert len(found["rows"]) == 2 and all(set(row["scores"]) <= set(SCORES) for row in found["rows"])


def test_candidates_are_different_and_within_the_limit(cheaper: ModuleType) -> None:
    task, start, candidates = cheaper.setting(3, 4, start_epochs=0.1)
    assert len({c.graph.key for c in candidates}) == 4 and start.epochs == 0.1
    assert all(1 <= len(c.edits) <= 3 and c.graph.macs <= 4 * start.graph.macs for c in candidates)
    again = cheaper.setting(3, 4, start_epochs=0.1)[2]
    assert [c.edits for c in again] == [c.edits for c in candidates]
    assert task.key != cheaper.setting(4, 1, start_epochs=0.1)[0].key
    _, start, (shrunk,) = cheaper.setting(3, 1, start_epochs=0.1, edits_of=cheaper.SHRUNK)
    assert shrunk.graph.n_params < start.graph.n_params


def test_tables_show_means_with_intervals(cheaper: ModuleType) -> None:
    estimate = {"mean": 0.5, "interval": (0.4, 0.6), "n": 3}
    results = {
        "distillation": [
            {"candidates": "grown", "epochs": 1.0, "share": 0.5, "accuracy": estimate, "difference": estimate}
        ],
        "halving": [{"judged": "halving", "epochs": 27.0, "accuracy": estimate, "difference": None}],
        "surrogate": [{"cells": 20, "spearman": estimate, "n_params": estimate, "covered": estimate}],
    }
    shown = cheaper.tables(results)
    assert shown.count("50.00 [40.00, 60.00]") == 3 and "+50.00 [+40.00, +60.00]" in shown
    assert "Spearman 0.50 [0.40, 0.60]" in shown
