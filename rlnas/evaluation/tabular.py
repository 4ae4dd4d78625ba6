"""Tabular benchmarks: accuracies that someone else has measured, looked up by the graph's key."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation.metrics import Evaluation, Metrics
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.spaces import nas_bench_201
from rlnas.tasks import Task

FORMAT: Final = "rlnas.table/1"
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """What a table knows of a graph.

    Attributes:
        accuracies: One for each training that was made, each in [0, 1].
        cost_s: Seconds that one such training took.
        epochs: Passes over the training data of one, if known.
    """

    accuracies: tuple[float, ...]
    cost_s: float = 0.0
    epochs: float | None = None

    def __post_init__(self) -> None:
        if not self.accuracies or not all(0 <= a <= 1 for a in self.accuracies):
            raise EvaluationError(f"accuracies of a table must lie between 0 and 1, got {list(self.accuracies)}")
        if not 0 <= self.cost_s < math.inf:
            raise EvaluationError(f"a cost in a table must be a number of seconds, got {self.cost_s}")


@dataclass(frozen=True)
class Table:
    """Entries by `rlnas.Graph.key`.

    Attributes:
        entries: What is known of each graph.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all entries."""
        return hashlib.blake2b(json.dumps(self._rows(), sort_keys=True).encode(), digest_size=16).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the table as JSON; the file is replaced as a whole.

        Raises:
            EvaluationError: If it cannot be written.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            partial.write_text(json.dumps({"format": FORMAT, "entries": self._rows()}, sort_keys=True) + "\n")
            partial.replace(target)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise EvaluationError(f"cannot write the table {target}: {error.strerror}") from None

    @classmethod
    def load(cls, path: str | Path) -> Table:
        """Read what `save` wrote.

        Raises:
            EvaluationError: If the file is missing, damaged or no table.
        """
        try:
            data = json.loads(Path(path).read_text())
        except OSError as error:
            raise EvaluationError(f"cannot read the table {path}: {error.strerror}") from None
        except ValueError as error:
            raise EvaluationError(f"{path} is not JSON: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise EvaluationError(f"{path} is no table in the format {FORMAT}")
        try:
            return cls({str(key): _entry(row) for key, row in data["entries"].items()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvaluationError(f"{path} is no table: {error!r}") from None

    def _rows(self) -> dict[str, Any]:
        return {
            key: {"accuracies": list(entry.accuracies), "cost_s": entry.cost_s, "epochs": entry.epochs}
            for key, entry in self.entries.items()
        }


def _entry(row: Mapping[str, Any]) -> Entry:
    epochs = row.get("epochs")
    accuracies = tuple(float(a) for a in row["accuracies"])
    return Entry(accuracies, float(row.get("cost_s", 0.0)), None if epochs is None else float(epochs))


@dataclass(frozen=True)
class TabularEvaluator:
    """Looks a network's accuracy up; its weights play no part, and nothing is trained.

    Of several accuracies of a graph the seed decides which one is given. ``cost_s`` is what the table says that a
    training took, so that a search can be charged for it. A graph that is not in the table is a failed evaluation.

    Attributes:
        task: What the networks are for.
        table: The table, or the file that holds it.

    Raises:
        EvaluationError: If the file cannot be read.
    """

    deterministic: ClassVar[bool] = True

    task: Task
    table: Table | str | Path = field(default_factory=Table)

    def __post_init__(self) -> None:
        if not isinstance(self.table, Table):
            object.__setattr__(self, "table", Table.load(self.table))

    @property
    def _table(self) -> Table:
        assert isinstance(self.table, Table)
        return self.table

    @cached_property
    def recipe(self) -> str:
        """Canonical JSON of what decides the result."""
        recipe = {"evaluator": "tabular", "version": VERSION, "table": self._table.fingerprint}
        return json.dumps(recipe, sort_keys=True)

    def work(self, graph: Graph) -> float:
        """Nothing is computed."""
        return 0.0

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Look a network up.

        Raises:
            EvaluationError: If the table does not know it.
        """
        graph = network.graph
        entry = self._table.entries.get(graph.key)
        if entry is None:
            raise EvaluationError(f"the table, of {len(self._table.entries)} graphs, has no entry for {graph.key}")
        accuracy = entry.accuracies[seed % len(entry.accuracies)]
        return Evaluation(Metrics.of_graph(graph, accuracy=accuracy, cost_s=entry.cost_s, epochs=entry.epochs))


def nas_bench_201_table(
    path: str | Path, *, accuracy: str = "cifar10_val_ep12", cells: Iterable[int] | None = None
) -> Table:
    """The table of NAS-Bench-201's networks from a file of arrays, one row a cell.

    Cells that compute the same share an entry, with all their accuracies.

    Args:
        path: An ``.npz`` file with ``arch`` (cells as text), the column of accuracies in percent, and, where there is
            one, the column of seconds that a query costs (``cifar10_query_s``).
        accuracy: Name of the column: data set, split and epochs.
        cells: Rows to take; all by default, which takes minutes.

    Raises:
        ConfigError: If there is no such column.
        EvaluationError: If the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            columns = {name: data[name] for name in data.files if name in ("arch", accuracy, _cost_column(accuracy))}
    except (OSError, ValueError) as error:
        raise EvaluationError(f"cannot read {path}: {error}") from None
    for name in ("arch", accuracy):
        if name not in columns:
            raise ConfigError(f"{path} has no column {name!r}")
    epochs = float(accuracy.rsplit("_ep", 1)[1]) if "_ep" in accuracy else None
    classes = {"cifar10": 10, "cifar100": 100}.get(accuracy.split("_")[0], 10)
    found: dict[str, list[int]] = {}
    for row in range(len(columns["arch"])) if cells is None else cells:
        graph = nas_bench_201(columns["arch"][row].decode(), n_classes=classes)
        found.setdefault(graph.key, []).append(int(row))
    costs = columns.get(_cost_column(accuracy))
    return Table(
        {
            key: Entry(
                tuple(float(columns[accuracy][row]) / 100 for row in rows),
                0.0 if costs is None else float(np.mean(costs[rows])),
                epochs,
            )
            for key, rows in found.items()
        }
    )


def _cost_column(accuracy: str) -> str:
    return f"{accuracy.split('_')[0]}_query_s"
