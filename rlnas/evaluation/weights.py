"""Trained weights in the store: named by their content, within a size, the least recently useful dropped first."""

from __future__ import annotations

import sqlite3
import time
from typing import Final

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS weights (
    hash TEXT PRIMARY KEY, size INTEGER NOT NULL, used INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS weights_by_use ON weights (used, size, hash)
"""
BEST: Final = "best "
"""What the keys of those notes begin with that name weights never to be dropped."""


def add(connection: sqlite3.Connection, name: str, data: bytes, *, limit_bytes: int) -> None:
    """Keep weights, and drop others until all fit; weights that are too large by themselves are not kept.

    Args:
        name: Hash of the content.
        data: Safetensors of the network.
        limit_bytes: What all weights together may take, those apart that notes protect.
    """
    if len(data) > limit_bytes:
        return
    connection.execute(
        "INSERT INTO weights (hash, size, used, data) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (hash) DO UPDATE SET used = excluded.used",
        (name, len(data), time.time_ns(), data),
    )
    over = int(connection.execute("SELECT total(size) FROM weights").fetchone()[0]) - limit_bytes
    if over <= 0:
        return
    droppable = connection.execute(
        "SELECT hash, size FROM weights WHERE hash <> ?"
        " AND hash NOT IN (SELECT value FROM notes WHERE key >= 'best ' AND key < 'best!') ORDER BY used",
        (name,),
    )
    dropped: list[tuple[str]] = []
    for other, size in droppable:
        if over <= 0:
            break
        dropped.append((other,))
        over -= size
    connection.executemany("DELETE FROM weights WHERE hash = ?", dropped)


def get(connection: sqlite3.Connection, name: str, *, touch: bool) -> bytes | None:
    """Weights of that name, if they are still kept.

    Args:
        touch: Note that they were useful.
    """
    row = connection.execute("SELECT data FROM weights WHERE hash = ?", (name,)).fetchone()
    if row is None:
        return None
    if touch:
        connection.execute("UPDATE weights SET used = ? WHERE hash = ?", (time.time_ns(), name))
    return bytes(row[0])
