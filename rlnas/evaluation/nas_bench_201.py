"""What is known of NAS-Bench-201's cells, as columns over its space of decisions.

References:
    Dong, Yang, NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search, ICLR 2020,
    arXiv:2001.00326.
    Dong et al., NATS-Bench: Benchmarking NAS Algorithms for Architecture Topology and Size, 2021, arXiv:2009.00437.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rlnas.errors import ConfigError, EvaluationError, SpaceError, unknown_name
from rlnas.evaluation.nats_bench import META, read_nats_bench
from rlnas.spaces import DecisionSpace, cell_text, nas_bench_201_space
from rlnas.spaces.nas_bench_201 import CELL_OPS, parse_cell

FILE: Final = "nasbench201.npz"
VARIABLE: Final = "RLNAS_DATA"
"""Environment variable that names the file, or the folder where it lies, unless a path is given."""
FAULTS_MS: Final = {"raspi4": 0.5, "pixel3": 0.5}
"""Latencies below these are faults of the published measurements."""
LATENCY: Final = "lat_ms_"

Column = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CellTable:
    """Columns of NAS-Bench-201.

    Attributes:
        cells: All cells in the benchmark's notation, in the order of the space.
        columns: By the names of the file, each with a value for every cell in the order of the space: accuracies in
            percent (``cifar10_val_ep12``: data set, split, epochs), latencies (``lat_ms_raspi4``), ``cifar10_params``,
            ``cifar10_macs``, and ``cifar10_query_s``, the seconds that training for 12 epochs and validating takes.
        source: Where they are from.
    """

    cells: Column
    columns: Mapping[str, Column]
    source: str

    @property
    def space(self) -> DecisionSpace:
        """The cells."""
        return nas_bench_201_space()

    @property
    def datasets(self) -> tuple[str, ...]:
        """Data sets with an accuracy."""
        found = [name.rsplit("_", 2)[0] for name in self.columns if "_val_ep" in name or "_test_ep" in name]
        return tuple(dict.fromkeys(found))

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices with a latency."""
        return tuple(name.removeprefix(LATENCY) for name in self.columns if name.startswith(LATENCY))

    def column(self, name: str) -> Column:
        """One column.

        Raises:
            ConfigError: If there is none of that name.
        """
        if name not in self.columns:
            raise ConfigError(unknown_name(f"column of {self.source}", name, self.columns))
        return self.columns[name]

    def accuracy(self, dataset: str, split: str, *, epochs: int) -> Column:
        """Accuracies in [0, 1].

        Args:
            split: ``val`` or ``test``.

        Raises:
            ConfigError: If the data set is not known, or the accuracy is not in the table.
        """
        if dataset not in self.datasets:
            raise ConfigError(unknown_name("data set", dataset, self.datasets))
        return np.asarray(self.column(f"{dataset}_{split}_ep{epochs}"), dtype=np.float64) / 100

    def latency_ms(self, device: str) -> Column:
        """Latencies on a device; what is known to be a fault of the measurement is not a number.

        Raises:
            ConfigError: If the device is not known.
        """
        if device not in self.devices:
            raise ConfigError(unknown_name("device", device, self.devices))
        values = np.asarray(self.columns[LATENCY + device], dtype=np.float64)
        return np.where(values < FAULTS_MS.get(device, 0.0), np.nan, values)

    def save(self, path: str | Path) -> None:
        """Write a file that `load_nas_bench_201` reads in a moment.

        Raises:
            EvaluationError: If it cannot be written.
        """
        arrays: dict[str, Any] = {"arch": self.cells.astype("S"), **self.columns}
        try:
            with open(path, "wb") as file:
                np.savez_compressed(file, **arrays)
        except OSError as error:
            raise EvaluationError(f"cannot write {path}: {error.strerror}") from None


def load_nas_bench_201(path: str | Path | None = None, *, partial: bool = False) -> CellTable:
    """Read NAS-Bench-201 from a file of arrays, or from the official folder of NATS-Bench.

    Args:
        path: An ``.npz`` file with ``arch`` (cells in the benchmark's notation) and columns; a folder that holds
            ``nasbench201.npz``; or the folder ``NATS-tss-v1_0-3ffb9-simple``, which takes minutes (see
            `CellTable.save`). By default what the environment variable ``RLNAS_DATA`` names.
        partial: Be content with a part of the cells; nothing is known of the others.

    Raises:
        ConfigError: If no path is given.
        EvaluationError: If the file cannot be read, or lacks cells.
    """
    given = path if path is not None else os.environ.get(VARIABLE)
    if not given:
        raise ConfigError(f"say where NAS-Bench-201 is: path={FILE}, or the environment variable {VARIABLE}")
    file = Path(given)
    if file.is_dir() and not (file / META).exists():
        file = file / FILE
    try:
        return _read(str(file), file.stat().st_mtime_ns, partial)
    except OSError as error:
        raise EvaluationError(f"cannot read NAS-Bench-201 from {file}: {error.strerror or error}") from None


@lru_cache(maxsize=4)
def _read(path: str, changed: int, partial: bool) -> CellTable:
    """The table of a file in the state that it had at a time."""
    if Path(path).is_dir():
        cells, columns = read_nats_bench(Path(path), partial=partial)
    else:
        cells, columns = _read_arrays(path)
    space = nas_bench_201_space()
    try:
        numbers = [space.number(tuple(map(CELL_OPS.index, parse_cell(cell)))) for cell in cells]
    except SpaceError as error:
        raise EvaluationError(f"{path} is no table of NAS-Bench-201: {error}") from None
    lacking = space.size - len(set(numbers))
    if len(set(numbers)) < len(numbers) or (lacking and not partial):
        raise EvaluationError(f"{path} names a cell twice, or lacks some: {lacking} of {space.size} are missing")
    ordered = {}
    for name, values in columns.items():
        ordered[name] = np.full(space.size, np.nan) if lacking else np.empty(space.size, dtype=values.dtype)
        ordered[name][numbers] = values
        ordered[name].flags.writeable = False
    every = np.array([cell_text(CELL_OPS[choice] for choice in space.assignment(n)) for n in range(space.size)])
    every.flags.writeable = False
    return CellTable(every, ordered, path)


def _read_arrays(path: str) -> tuple[list[str], dict[str, Column]]:
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise EvaluationError(f"{path} is no file of arrays: {error}") from None
    if "arch" not in arrays:
        raise EvaluationError(f"{path} has no column 'arch' with the cells")
    cells = [cell.decode() if isinstance(cell, bytes) else str(cell) for cell in arrays["arch"].tolist()]
    columns = {
        name: values
        for name, values in arrays.items()
        if values.shape == (len(cells),) and values.dtype.kind in "if" and name != "arch"
    }
    return cells, columns
