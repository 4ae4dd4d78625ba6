from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import Entry, Service, Store, Table, TabularEvaluator, nas_bench_201_table
from rlnas.spaces import nas_bench_201
from tests.evaluation.faults import library, start_network, tiny_task, widened
from tests.spaces.test_nas_bench_201 import ALL3, DATA, text


@pytest.fixture(scope="module")
def task():
    return tiny_task()


def test_accuracies_are_looked_up(task) -> None:
    start = start_network()
    batch = widened(start, 3)
    table = Table(
        {c.graph.key: Entry((0.1 * i, 0.1 * i + 0.05), cost_s=7.0, epochs=12.0) for i, c in enumerate(batch[:2])}
    )
    evaluator = TabularEvaluator(task, table)
    service = Service(evaluator, task, starts=library(start), store=Store())
    found = service.evaluate(batch, seed=0)
    assert [e.status for e in found] == ["ok", "ok", "failed"]
    assert found[1].metrics.accuracy in (0.1, 0.15) and found[1].metrics.cost_s == 7.0
    assert found[1].metrics.epochs == 12.0 and found[1].metrics.inherited_epochs is None
    assert "has no entry" in found[2].reason and "2 graphs" in found[2].reason
    assert evaluator.deterministic and evaluator.work(start.graph) == 0


def test_the_seed_chooses_among_trainings(task) -> None:
    start = start_network()
    evaluator = TabularEvaluator(task, Table({start.graph.key: Entry((0.1, 0.2, 0.3))}))
    assert [evaluator.evaluate(start, seed=s).metrics.accuracy for s in range(4)] == [0.1, 0.2, 0.3, 0.1]


def test_files_come_back_as_they_were(task, tmp_path: Path) -> None:
    table = Table({"a": Entry((0.5,), 3.0, 12.0), "b": Entry((0.25, 0.75))})
    table.save(tmp_path / "table.json")
    again = Table.load(tmp_path / "table.json")
    assert again.entries == table.entries and again.fingerprint == table.fingerprint
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    evaluator = TabularEvaluator(task, str(tmp_path / "table.json"))
    assert evaluator.recipe == TabularEvaluator(task, table).recipe != TabularEvaluator(task).recipe
    assert pickle.loads(pickle.dumps(evaluator)).recipe == evaluator.recipe


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read the table"),
        ("{", "is not JSON"),
        ("[]", "no table in the format"),
        ('{"format": "rlnas.table/1"}', "is no table"),
        ('{"format": "rlnas.table/1", "entries": {"a": 3}}', "is no table"),
        ('{"format": "rlnas.table/1", "entries": {"a": {"accuracies": [93.0]}}}', "between 0 and 1"),
        ('{"format": "rlnas.table/1", "entries": {"a": {"accuracies": []}}}', "between 0 and 1"),
        ('{"format": "rlnas.table/1", "entries": {"a": {"accuracies": [0.5], "cost_s": -1}}}', "number of seconds"),
    ],
)
def test_files_that_are_no_tables_are_refused(task, tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "table.json").write_text(content)
    with pytest.raises(EvaluationError, match=said):
        TabularEvaluator(task, tmp_path / "table.json")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot write"):
        Table().save(tmp_path / "no" / "table.json")


def arrays(path: Path) -> Path:
    same = [text("none", "nor_conv_3x3", "none", "none", "none", "none"), text(*["none"] * 6)]
    np.savez(
        path,
        arch=np.array([ALL3, *same]).astype("S"),
        cifar10_val_ep12=np.array([80.0, 10.0, 12.0], dtype=np.float32),
        cifar10_query_s=np.array([100.0, 40.0, 60.0], dtype=np.float32),
    )
    return path


def test_a_benchmark_becomes_a_table(tmp_path: Path) -> None:
    path = arrays(tmp_path / "bench.npz")
    table = nas_bench_201_table(path)
    assert len(table.entries) == 2
    best = table.entries[nas_bench_201(ALL3).key]
    assert (best.accuracies, best.cost_s, best.epochs) == (pytest.approx((0.8,)), 100.0, 12.0)
    nothing = table.entries[nas_bench_201(text(*["none"] * 6)).key]
    assert (nothing.accuracies, nothing.cost_s) == (pytest.approx((0.1, 0.12)), 50.0)
    assert len(nas_bench_201_table(path, cells=[0]).entries) == 1
    with pytest.raises(ConfigError, match="no column 'cifar10_val_ep13'"):
        nas_bench_201_table(path, accuracy="cifar10_val_ep13")
    with pytest.raises(EvaluationError, match="cannot read"):
        nas_bench_201_table(tmp_path / "none.npz")


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published data")
def test_published_accuracies_are_found(task) -> None:
    table = nas_bench_201_table(DATA, accuracy="cifar10_test_ep200", cells=[13_714])
    (entry,) = table.entries.values()
    assert entry.accuracies == pytest.approx((0.9437,), abs=1e-4)
    assert json.loads(TabularEvaluator(task, table).recipe)["table"] == table.fingerprint
