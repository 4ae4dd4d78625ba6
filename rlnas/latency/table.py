"""Look-up tables: the latency of single operations on a device, and networks as their sums."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from rlnas.errors import MeterError
from rlnas.graph import Graph
from rlnas.latency.files import read_json, write_json
from rlnas.latency.interleaved import Piece
from rlnas.latency.meter import Latency, Meter
from rlnas.latency.signature import Signature, signatures
from rlnas.network import Network

FORMAT: Final = "rlnas.latency-table/1"
KIND: Final = "latency table"


class PieceMeter(Meter, Protocol):
    """A meter that also measures single modules."""

    def measure_pieces(self, pieces: Sequence[Piece]) -> list[Latency]:
        """Latency of each module on its inputs."""
        ...


@dataclass
class LatencyTable:
    """Latencies of operations on one device.

    Attributes:
        meter: What measured them, on what: the meter's description.
        entries: Latency by the key of a `Signature`.
        state: What the latencies are relative to: the meter's state.
    """

    meter: Mapping[str, Any]
    entries: dict[str, Latency] = field(default_factory=dict)
    state: Mapping[str, float] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Samples in one pass."""
        return int(self.meter["batch_size"])

    @property
    def content_hash(self) -> str:
        """Names what the table says."""
        return hashlib.blake2b(json.dumps(self.to_json(), sort_keys=True).encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        entries = [json.loads(key) | latency.to_json() for key, latency in sorted(self.entries.items())]
        return {"format": FORMAT, "meter": dict(self.meter), "state": dict(self.state), "entries": entries}

    def save(self, path: str | Path) -> None:
        """Write the table as a whole.

        Raises:
            MeterError: If it cannot be written.
        """
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> LatencyTable:
        """Read what `save` wrote.

        Raises:
            MeterError: If it is missing, damaged or something else; says what.
        """
        data = read_json(Path(path), kind=KIND, format=FORMAT)
        try:
            table = cls(dict(data["meter"]), state={k: float(v) for k, v in data["state"].items()})
            assert table.batch_size >= 1
            for entry in data["entries"]:
                key = Signature.from_key(json.dumps(entry)).key
                table.entries[key] = Latency.from_json(entry)
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError, MeterError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise MeterError(f"the {KIND} {path} is damaged: {what}") from None
        return table

    def missing(self, graphs: Iterable[Graph]) -> list[Signature]:
        """What networks compute and the table does not know, each once."""
        found = {s.key: s for graph in graphs for s in signatures(graph)}
        return [signature for key, signature in sorted(found.items()) if key not in self.entries]

    def latency(self, graph: Graph, *, name: str | Path = "the table") -> Latency:
        """Sum over a network's operations; the interval takes their errors as independent.

        Args:
            name: What the table is called in messages.

        Raises:
            MeterError: If it has no entry for an operation; says which, and how to add it.
        """
        total = below = above = 0.0
        n, noticed, count = [], 0, 0
        for signature in signatures(graph):
            entry = self.entries.get(signature.key)
            if entry is None:
                raise MeterError(
                    f"{name} has no entry for {signature}; add it on the device that the table is of: "
                    f"rlnas latency build-table --to {shlex.quote(str(name))} --op {shlex.quote(signature.key)}"
                )
            total += entry.ms
            below += (entry.ms - entry.low_ms) ** 2
            above += (entry.high_ms - entry.ms) ** 2
            n.append(entry.n)
            noticed += bool(entry.warnings)
            count += 1
        warning = (f"{noticed} of {count} operations were measured with warnings",) if noticed else ()
        low = max(total - math.sqrt(below), 0.0)
        return Latency(total, low, total + math.sqrt(above), min(n, default=0), warning)


class TableMeter:
    """Looks networks up in a table instead of running them: deterministic, and known before anything is trained.

    The latency is the sum of the network's operations. A network that has an operation which is not in the table is an
    error.

    Args:
        table: File that `rlnas latency build-table` wrote, on this machine or another.

    Raises:
        MeterError: If the file is missing, damaged or something else.

    References:
        Cai et al., ProxylessNAS, ICLR 2019, arXiv:1812.00332, section 3.3.
    """

    deterministic = True

    def __init__(self, *, table: str | Path) -> None:
        self._name = str(table)
        self._table = LatencyTable.load(table)
        self._hash = self._table.content_hash

    @property
    def description(self) -> Mapping[str, Any]:
        """The table's content by its hash, and what it was measured with."""
        return {"meter": "table", "table": self._hash, "measured": dict(self._table.meter)}

    def state(self) -> dict[str, float]:
        """Nothing: a table does not change."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing to take over."""

    def graph_ms(self, graph: Graph) -> float:
        """Latency of an architecture.

        Raises:
            MeterError: If the table lacks an operation.
        """
        return self._table.latency(graph, name=self._name).ms

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network.

        Raises:
            MeterError: If the table lacks an operation.
        """
        return [self._table.latency(network.graph, name=self._name) for network in networks]


def fill(
    table: LatencyTable,
    wanted: Sequence[Signature],
    *,
    meter: PieceMeter,
    on_entry: Callable[[Signature, Latency], None] = lambda signature, latency: None,
) -> None:
    """Measure operations and add them to a table, one after the other; an interrupted call keeps what it has.

    Args:
        on_entry: Called after each.

    Raises:
        MeterError: If an operation cannot be measured, or the table is of another device, runtime or setting.
    """
    check_same(table.meter, meter.description, f"the {KIND}")
    meter.restore(table.state)
    for signature in wanted:
        try:
            (latency,) = meter.measure_pieces([signature.piece(batch_size=table.batch_size)])
        except MeterError as error:
            raise MeterError(f"{signature}: {error}") from None
        table.entries[signature.key] = latency
        table.state = meter.state()
        on_entry(signature, latency)


def check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], what: str) -> None:
    """Raise unless two descriptions of meters agree.

    Raises:
        MeterError: If they do not; says in what.
    """
    differs = [key for key in dict.fromkeys([*wanted, *found]) if found.get(key) != wanted.get(key)]
    if differs:
        key = differs[0]
        raise MeterError(
            f"{what} was measured with {key}={found.get(key)!r}, now it is {wanted.get(key)!r}: numbers of the two do "
            "not go together; name a new file, or measure as before"
        )
