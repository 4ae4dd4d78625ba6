"""Rows of evaluations as a file: CSV, or Parquet for whoever goes on in pandas, polars or DuckDB."""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rlnas.errors import ConfigError, ExportError

Rows = Sequence[Mapping[str, Any]]


def write_csv(rows: Rows, path: str | Path, *, columns: Mapping[str, str]) -> None:
    """Write rows as CSV; what is not known is empty.

    Args:
        columns: Names with their SQLite types.

    Raises:
        ExportError: If the file cannot be written.
    """

    def write(partial: Path) -> None:
        with open(partial, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(columns), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    _replace(Path(path), write)


def write_parquet(rows: Rows, path: str | Path, *, columns: Mapping[str, str]) -> None:
    """Write rows as Parquet; what is not known is null.

    Args:
        columns: Names with their SQLite types.

    Raises:
        ConfigError: If pyarrow is not installed.
        ExportError: If the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(f"Parquet needs the package pyarrow ({error}): pip install 'rlnas[parquet]'") from None
    kinds = {"TEXT": pyarrow.string(), "INTEGER": pyarrow.int64(), "REAL": pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[kind.split()[0]]) for name, kind in columns.items()])
    table = pyarrow.Table.from_pylist([dict(row) for row in rows], schema=schema)
    _replace(Path(path), lambda partial: parquet.write_table(table, partial))


TABLES: Final[dict[str, Callable[..., None]]] = {"csv": write_csv, "parquet": write_parquet}
"""Writers by the name of their form."""


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write beside the file and put it in its place as a whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None
