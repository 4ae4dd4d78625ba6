"""A W&B server for tests: a loopback stub, enough for the real ``wandb sweep`` and ``wandb agent``; and a run reader.

The stub answers the five GraphQL operations that the two commands send. It keeps one sweep, whose runs take each
parameter's first value (or least value) from the sweep's configuration, replaced or extended by the test's own.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ENTITY, SWEEP_ID = "tester", "stubswp1"
_BLOCK, _FILE_HEADER, _RECORD_HEADER = 32 * 1024, 7, struct.Struct("<IHB")


@dataclass
class StubServer:
    """Used as a context manager; serves on a free loopback port.

    Attributes:
        runs: The arguments of each run that the agent is to start, beside those of the sweep's configuration.
        config: The sweep's configuration, once ``wandb sweep`` has sent it.
        operations: Names of the operations asked for, in order.
        problems: What the stub could not answer.
    """

    runs: Sequence[Mapping[str, Any]]
    config: dict[str, Any] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    started: int = 0

    def __enter__(self) -> StubServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Address for WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def run_id(self, number: int) -> str:
        """Id of the run with that number, from 0."""
        return f"stubrun{number}"

    def arguments(self, number: int) -> dict[str, Any]:
        """All parameters of the run with that number."""
        parameters = self.config.get("parameters", {})
        return {name: _first(spec) for name, spec in parameters.items()} | dict(self.runs[number])

    def answer(self, operation: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Data of the answer to one operation."""
        self.operations.append(operation)
        if operation == "Viewer":
            return {"viewer": {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertSweep":
            self.config = yaml.safe_load(variables["config"])
            project = {"id": "1", "name": variables["projectName"], "entity": {"id": "1", "name": ENTITY}}
            return {
                "upsertSweep": {"sweep": {"name": SWEEP_ID, "project": project}, "configValidationWarnings": []},
            }
        if operation == "SweepWithRuns":
            sweep = {"id": "1", "name": SWEEP_ID, "config": yaml.safe_dump(self.config), "runs": {"edges": []}}
            return {"project": {"sweep": sweep}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent1"}}}
        if operation == "Heartbeat":
            commands = self._commands(busy=bool(json.loads(variables.get("runState") or "{}")))
            return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}
        self.problems.append(f"unknown operation {operation!r}")
        return {}

    def _commands(self, *, busy: bool) -> list[dict[str, Any]]:
        """The next run as soon as the agent is idle, then the end."""
        if busy:
            return []
        if self.started == len(self.runs):
            return [{"type": "exit"}]
        number, self.started = self.started, self.started + 1
        arguments = {name: {"value": value} for name, value in self.arguments(number).items()}
        program = self.config.get("program", "")
        return [{"type": "run", "run_id": self.run_id(number), "program": program, "args": arguments}]


def _first(specification: Mapping[str, Any]) -> Any:
    if "value" in specification:
        return specification["value"]
    return specification["values"][0] if "values" in specification else specification["min"]


def _handler(stub: StubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query.get("operationName") or query["query"].split("(")[0].split("{")[0].split()[-1]
            body = json.dumps({"data": stub.answer(name, query.get("variables") or {})}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    return Handler


def wandb_environment(folder: Path, **more: str) -> dict[str, str]:
    """Environment for a subprocess in which W&B writes below ``folder`` only, and knows nothing of the real user.

    rlnas is found in it wherever the subprocess works, installed or not.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {}
    for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        place = folder / "wandb_home" / name.lower()
        place.mkdir(parents=True, exist_ok=True)
        places[f"WANDB_{name}"] = str(place)
    home = folder / "wandb_home"
    search_path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    python_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return kept | places | {"HOME": str(home), "PATH": search_path, "PYTHONPATH": python_path} | more


def read_records(path: Path) -> Iterator[Any]:
    """Records of a ``.wandb`` file, whole or cut short: protobuf messages in LevelDB's log framing."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    data = path.read_bytes()
    position, parts = _FILE_HEADER, b""
    while position + _RECORD_HEADER.size <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _RECORD_HEADER.size:  # a block's end too short for a header is padding
            position += left
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(data, position)
        begin = position + _RECORD_HEADER.size
        position = begin + length
        if kind == 0 or position > len(data):
            return
        parts += data[begin:position]
        if kind in (1, 4):  # whole, or the last part
            record, parts = Record.FromString(parts), b""
            yield record


def read_history(path: Path) -> list[dict[str, Any]]:
    """Rows that a run logged."""
    rows = []
    for record in read_records(path):
        if record.HasField("history"):
            items = record.history.item
            rows.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


def read_config(path: Path) -> dict[str, Any]:
    """Settings that a run reported."""
    config: dict[str, Any] = {}
    for record in read_records(path):
        updates = record.run.config.update if record.HasField("run") else record.config.update
        config |= {u.key or ".".join(u.nested_key): json.loads(u.value_json) for u in updates}
    return config


def read_run(path: Path) -> Any:
    """The record that names the run, its sweep and its project."""
    return next(record.run for record in read_records(path) if record.HasField("run"))


def run_files(folder: Path) -> list[Path]:
    """All ``.wandb`` files below a folder, in the order they were begun."""
    return sorted(folder.rglob("run-*.wandb"), key=lambda path: path.stat().st_ctime_ns)
