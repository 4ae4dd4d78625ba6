from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from rlnas.evaluation import load_nas_bench_201
from rlnas.spaces import nas_bench_201_space
from tests.benchmarks.test_zero_cost import load
from tests.spaces.test_nas_bench_201 import DATA

SPACE = nas_bench_201_space()


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    return load("nas_bench_201")


@pytest.fixture(scope="module")
def path(suite: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two data sets that agree on the first edge's operation only, and a device that is slow with the number."""
    from rlnas.spaces import cell_text
    from rlnas.spaces.nas_bench_201 import CELL_OPS

    rng = np.random.default_rng(0)
    n = SPACE.size
    first = np.arange(n) // (n // 5)
    columns: dict[str, Any] = {"arch": [cell_text(CELL_OPS[c] for c in SPACE.assignment(i)) for i in range(n)]}
    for name in ("one", "two"):
        columns[f"{name}_val_ep12"] = 10.0 * first + 10 * rng.uniform(size=n)
        columns[f"{name}_test_ep200"] = columns[f"{name}_val_ep12"] + rng.uniform(size=n)
    columns |= {"lat_ms_box": 1.0 + np.arange(n), "one_params": 1.0 + rng.uniform(size=n)}
    file = tmp_path_factory.mktemp("suite") / "cells.npz"
    np.savez(file, **{k: np.array(v, dtype="S") if k == "arch" else v for k, v in columns.items()})
    return str(file)


def test_regret_by_hand(suite: ModuleType, path: str) -> None:
    table = suite.Table(path)
    case = suite.Case("one", "box", 50, "two")
    feasible = table.feasible(case)
    assert feasible.max() == (SPACE.size - 1) // 2 and len(feasible) == feasible.max() + 1
    validation, test = (load_nas_bench_201(path).columns[f"one_{c}"] for c in ("val_ep12", "test_ep200"))
    queried = [0, 3500, 7000, 1]
    answer = max(queried, key=lambda i: validation[i])
    expected = test[feasible].max() - test[answer], validation[feasible].max() - validation[answer]
    assert suite.regret(table, case, queried) == pytest.approx(expected, abs=1e-4)


def test_labels_are_of_the_other_data_set_and_the_same_whatever_the_case(suite: ModuleType, path: str) -> None:
    table = suite.Table(path)
    labels = table.labels("two", 60)
    numbers = [SPACE.number(f["choices"]) for f in labels.features]
    assert numbers == table.labelled(500)[:60].tolist() and len(set(numbers)) == 60
    assert labels.rewards == pytest.approx(load_nas_bench_201(path).columns["two_val_ep12"][numbers] / 100, abs=1e-6)
    assert labels.names == ()  # neither latency nor the other data set's parameters


def test_a_search_counts_distinct_cells_under_the_cap(
    suite: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "BUDGETS", (10, 30))
    case = suite.Case("one", "box", 20, "two")
    result = suite.run(suite.Job(path, "random", suite.ENTRANTS["random"], case, 3, None))
    assert len(result["queried"]) == len(set(result["queried"])) == 30
    assert set(result["queried"]) <= set(suite.Table(path).feasible(case).tolist())
    assert result["regret"]["10"] >= result["regret"]["30"]
    assert result["regret"]["10"] == suite.regret(suite.Table(path), case, result["queried"][:10])


def test_what_was_done_is_not_done_again(
    suite: ModuleType, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.jsonl"

    class Inside:
        """A pool that works here, where what is replaced counts."""

        def __init__(self, processes: int) -> None: ...

        def __enter__(self) -> Inside:
            return self

        def __exit__(self, *error: object) -> None: ...

        def imap_unordered(self, function: Any, jobs: Any, chunksize: int) -> Any:
            return map(function, jobs)

    class Context:
        Pool = Inside

    monkeypatch.setattr(suite.multiprocessing, "get_context", lambda _: Context)
    monkeypatch.setattr(suite, "BUDGETS", (10, 20))
    options = ["--file", path, "--devices", "box", "--quantiles", "20", "60", "--output", str(output)]

    def figures(*more: str) -> str:
        monkeypatch.setattr(sys, "argv", ["nas_bench_201.py", *options, *more])
        suite.main()
        return capsys.readouterr().out

    figures("--controllers", "random", "--seeds", "2", "--cases", "::2")
    before = output.read_text().splitlines()
    assert len(before) == 4
    whole = figures("--controllers", "random", "local_search", "--seeds", "2")
    lines = output.read_text().splitlines()
    assert lines[:4] == before and len(lines) == 16
    assert len({json.loads(line)["key"] for line in lines}) == 16
    assert figures("--controllers", "random", "local_search", "--seeds", "2") == whole
    assert len(output.read_text().splitlines()) == 16
    (random,) = [line for line in whole.splitlines() if line.startswith("random")]
    rows = [json.loads(line) for line in lines if json.loads(line)["name"] == "random"]
    assert f"{np.mean([row['regret']['10'][0] for row in rows]):.2f} [" in random
    assert all(name in whole for name in ("all feasible", "ridge, 500 labels", "other data set's order"))


def test_unknown_columns_are_named(suite: ModuleType, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["nas_bench_201.py", "--file", path, "--devices", "tpu"])
    with pytest.raises(SystemExit, match="no columns for tpu; it has them for one, two, box"):
        suite.main()


@pytest.mark.skipif(not DATA.is_file(), reason="needs nasbench201.npz")
def test_the_references_are_the_published_figures(suite: ModuleType) -> None:
    table = suite.Table(str(DATA))
    cases = suite.all_cases(table, ("cifar10", "cifar100"), suite.DEVICES, suite.QUANTILES)
    assert len(cases) == 36
    found = suite.references(table, cases, 500)
    means = {name: np.mean([[r[0] for r in case] for case in values], axis=0) for name, values in found.items()}
    assert means["all feasible"] == pytest.approx([0.58, 0.58], abs=0.005)
    assert means["other data set's order"] == pytest.approx([0.63, 0.61], abs=0.02)  # ties
