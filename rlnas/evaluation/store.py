"""The store of evaluations: one SQLite file that survives whatever happens to the process that writes it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rlnas.errors import StoreError
from rlnas.evaluation import weights
from rlnas.evaluation.records import COLUMNS, Record
from rlnas.evaluation.times import Interval
from rlnas.latency import Latency

SCHEMA_VERSION = 2
APPLICATION_ID = 0x724E4153  # "rNAS", in the header of the file
WAIT_FOR_LOCK_S = 30.0
PAGE = 500
MEGABYTE = 1_000_000

SCHEMA = f"""
CREATE TABLE evaluations (id INTEGER PRIMARY KEY, {", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())});
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
{weights.SCHEMA}"""


class Store:
    """Evaluations by cache key. The file is opened when it is first needed.

    A row is committed before `put` returns, in a write-ahead log: killing the process at any moment loses nothing that
    was put, and other processes may read, and write, at the same time. A file of an older version of rlnas is brought
    up to date when it is opened for writing, and read as it is otherwise.

    Args:
        path: The SQLite file; made if missing. None keeps the rows in memory.
        read_only: Open an existing file without ever writing to it.
        weights_mb: Megabytes of trained weights to keep; beyond that the least recently useful are dropped.
    """

    def __init__(self, path: str | Path | None = None, *, read_only: bool = False, weights_mb: float = 0.0) -> None:
        if read_only and path is None:
            raise StoreError("a store in memory cannot be opened for reading only")
        self.path = None if path is None else Path(path)
        self.weights_mb = weights_mb
        self._read_only = read_only
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connection": None, "_process": 0}  # a copy opens the file anew; in memory it is empty

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --------------------------------------------------------------------------------------------------- evaluations

    def get(self, cache_key: str) -> Record | None:
        """The evaluation of that key, if there is one."""
        with self._transaction() as connection:
            row = connection.execute("SELECT * FROM evaluations WHERE cache_key = ?", (cache_key,)).fetchone()
        return None if row is None else Record.from_row(row)

    def put(self, record: Record, data: bytes | None = None) -> bool:
        """Add an evaluation; if there is one of that key already, the older one stays.

        Args:
            data: The trained network as bytes, to be kept under the name ``record.weights``.

        Returns:
            False if the older one stayed.
        """
        row = record.to_row()
        names, marks = ", ".join(row), ", ".join("?" * len(row))
        with self._transaction() as connection:
            added = connection.execute(
                f"INSERT INTO evaluations ({names}) VALUES ({marks}) ON CONFLICT (cache_key) DO NOTHING",
                tuple(row.values()),
            ).rowcount
            if added and data is not None and record.weights is not None:
                limit = round(self.weights_mb * MEGABYTE)
                weights.add(connection, record.weights, data, limit_bytes=limit)
        return bool(added)

    def set_latency(
        self, cache_key: str, latency: Latency, *, meter: str, interval: Interval, environment: str | None = None
    ) -> None:
        """Add a measured latency to an evaluation, in the place of an earlier one.

        Args:
            meter: Description of the meter, as JSON.
            interval: When it was measured.
            environment: Machine and versions that it was measured with, as JSON.
        """
        values = (latency.ms, latency.low_ms, latency.high_ms, latency.n, meter, *interval, environment, cache_key)
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE evaluations SET latency_ms = ?, latency_low_ms = ?, latency_high_ms = ?, latency_n = ?,"
                " meter = ?, measuring_started_at = ?, measuring_finished_at = ?, measuring_environment = ?"
                " WHERE cache_key = ?",
                values,
            ).rowcount
        assert changed == 1, f"no evaluation {cache_key}"

    def rows(self) -> Iterator[Record]:
        """All evaluations, oldest first; those that are added meanwhile come too."""
        reached = 0
        while True:
            with self._transaction() as connection:
                page = connection.execute(
                    "SELECT * FROM evaluations WHERE id > ? ORDER BY id LIMIT ?", (reached, PAGE)
                ).fetchall()
            if not page:
                return
            yield from map(Record.from_row, page)
            reached = page[-1]["id"]

    def count(self) -> int:
        """Number of evaluations."""
        with self._transaction() as connection:
            return int(connection.execute("SELECT count(*) FROM evaluations").fetchone()[0])

    # ------------------------------------------------------------------------------------------------------- weights

    def weights(self, name: str) -> bytes | None:
        """A trained network by the hash of its content, as bytes, if it is still kept."""
        with self._transaction() as connection:
            if _pragma(connection, "user_version") < 2:
                return None
            return weights.get(connection, name, touch=not self._read_only)

    def protect(self, name: str, *, owner: str) -> None:
        """Never drop these weights, until others are protected for the same owner."""
        self.set_note(f"{weights.BEST}{owner}", name)

    # --------------------------------------------------------------------------------------------------------- notes

    def note(self, key: str) -> str | None:
        """A remembered text, if there is one of that key."""
        with self._transaction() as connection:
            row = connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_note(self, key: str, value: str) -> None:
        """Remember a text, in the place of an earlier one of that key."""
        with self._transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO notes (key, value) VALUES (?, ?)", (key, value))

    # ------------------------------------------------------------------------------------------------ the connection

    def close(self) -> None:
        """Close the file; it opens again when it is needed. Rows in memory are kept."""
        if self._connection is not None and self.path is not None and self._process == os.getpid():
            self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None or (self.path is not None and self._process != os.getpid()):
                self._connection = self._open()
                self._process = os.getpid()
            with self._connection:
                yield self._connection
        except sqlite3.Error as error:
            raise StoreError(f"{self._name()}: {_explain(error)}") from error
        except OSError as error:
            raise StoreError(f"{self._name()}: {error.strerror or error}") from error

    def _name(self) -> str:
        return f"evaluation store {self.path}" if self.path else "evaluation store in memory"

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            connection = sqlite3.connect(":memory:", check_same_thread=False)
        elif self._read_only:
            if not self.path.is_file():
                raise StoreError(f"{self._name()} does not exist")
            uri = f"{self.path.absolute().as_uri()}?mode=ro"
            connection = sqlite3.connect(uri, timeout=WAIT_FOR_LOCK_S, uri=True, check_same_thread=False)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=WAIT_FOR_LOCK_S, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if _pragma(connection, "application_id") != APPLICATION_ID:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables or _pragma(connection, "user_version") or self._read_only:
                raise StoreError(f"{self._name()} is a database of another program")
            self._create(connection)
        version = _pragma(connection, "user_version")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self._name()} has the format {version}, this version of rlnas knows {SCHEMA_VERSION}: update rlnas"
            )
        if not self._read_only and self.path is not None:
            self._update(connection)
        connection.execute("PRAGMA synchronous = NORMAL")  # with WAL: safe against the end of the process

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            if _pragma(connection, "application_id") == APPLICATION_ID:
                return  # another process was faster
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _update(self, connection: sqlite3.Connection) -> None:
        """Give a file of an older version what it lacks; what it holds stays as it is."""
        there = {row["name"] for row in connection.execute("PRAGMA table_info(evaluations)")}
        if COLUMNS.keys() <= there and _pragma(connection, "user_version") == SCHEMA_VERSION:
            return
        with connection:
            connection.execute("BEGIN IMMEDIATE")  # another process may do the same
            there = {row["name"] for row in connection.execute("PRAGMA table_info(evaluations)")}
            for name, kind in COLUMNS.items():
                if name not in there:
                    connection.execute(f"ALTER TABLE evaluations ADD COLUMN {name} {kind}")
            for statement in weights.SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _explain(error: sqlite3.Error) -> str:
    """SQLite's message, with what to do where that is known."""
    text = str(error)
    if "not a database" in text or "malformed" in text:
        return f"not readable as a database ({text}); move it away, or give another path"
    if "readonly" in text or "unable to open" in text:
        return f"cannot be opened for writing ({text}); check the folder and its permissions"
    if "is full" in text or "I/O error" in text:
        return f"cannot be written ({text}); is the disk full?"
    return text
