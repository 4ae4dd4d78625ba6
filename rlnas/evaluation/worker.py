"""What runs in a worker process, and the messages it exchanges with the pool.

A message is JSON plus bytes. Towards the worker: ``setup`` (the evaluator and the task, pickled by the pool), ``start``
(a start network) and ``job``. From the worker: ``hello`` (imports done), ``ready`` (set up), ``broken`` (could not take
over what it was sent) and ``done``. Candidates and trained networks travel as JSON and safetensors.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import platform
import signal
import threading
from collections.abc import Mapping
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch

from rlnas.evaluation.jobs import Job, carry_out
from rlnas.evaluation.memory import MemoryLimitError, limit_memory
from rlnas.evaluation.metrics import Evaluator, one_line
from rlnas.network import Network
from rlnas.tasks import Task

HEADER_SIZE = 8


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """One message: length of the JSON text, the text, the bytes."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(HEADER_SIZE, "big") + text + body


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Inverse of `pack`."""
    end = HEADER_SIZE + int.from_bytes(message[:HEADER_SIZE], "big")
    header: dict[str, Any] = json.loads(message[HEADER_SIZE:end])
    return header, message[end:]


def work(pipe: Connection) -> None:
    """Answer messages until the pool closes the pipe or its process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which then ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(pipe)


def _serve(pipe: Connection) -> None:
    place = Workplace(f"process {os.getpid()}")
    pipe.send_bytes(pack({"kind": "hello"}))
    while True:
        header, body = unpack(pipe.recv_bytes())
        if header["kind"] == "job":
            summary, weights = place.carry_out(header["job"])
            pipe.send_bytes(pack({"kind": "done", **summary}, weights))
            continue
        try:
            if header["kind"] == "setup":
                place.set_up(body, memory_limit_mb=header["memory_limit_mb"])
                pipe.send_bytes(pack({"kind": "ready"}))
            else:
                place.add_start(header["id"], body)
        except MemoryLimitError as error:
            pipe.send_bytes(pack({"kind": "broken", "what": "memory", "reason": str(error)}))
        except Exception as error:
            pipe.send_bytes(pack({"kind": "broken", "what": header["kind"], "reason": one_line(error)}))


class Workplace:
    """What a worker has at hand: evaluator, task and start networks.

    Args:
        name: Name of the worker, for the store.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._starts: dict[str, Network] = {}
        self._setup: tuple[Evaluator, Task] | None = None
        self._limited = False

    def set_up(self, pickled: bytes, *, memory_limit_mb: float | None) -> None:
        """Take over evaluator and task, made by the process that this one belongs to.

        Raises:
            MemoryLimitError: If the process already takes more than the limit.
        """
        self._setup = None
        self._setup = pickle.loads(pickled)
        if memory_limit_mb is not None and not self._limited:
            limit_memory(memory_limit_mb)
            self._limited = True

    def add_start(self, id: str, data: bytes) -> None:
        """Take over a start network."""
        self._starts[id] = Network.from_bytes(data)

    def carry_out(self, job: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Do a job; gives the message of its outcome."""
        assert self._setup is not None
        evaluator, task = self._setup
        parsed = Job.from_json(job)
        start = self._starts[parsed.candidate.start_id]
        return carry_out(parsed, start=start, evaluator=evaluator, task=task, worker=self.name).to_message()


class ClusterWorker:
    """A workplace as a Ray actor; what goes in and out are bytes made by `pack`."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._place = Workplace(f"ray {platform.node()} {os.getpid()}")

    def set_up(self, pickled: bytes, memory_limit_mb: float | None) -> bytes:
        """Take over evaluator and task."""
        try:
            self._place.set_up(pickled, memory_limit_mb=memory_limit_mb)
        except MemoryLimitError as error:
            return pack({"what": "memory", "broken": str(error)})
        except Exception as error:
            return pack({"what": "setup", "broken": one_line(error)})
        import ray  # which runs this

        return pack({"node": ray.get_runtime_context().get_node_id()})

    def carry_out(self, job: bytes, start: bytes | None) -> bytes:
        """Do a job.

        Args:
            start: Its start network, if this worker has not got it yet.
        """
        header, _ = unpack(job)
        if start is not None:
            try:
                self._place.add_start(header["job"]["candidate"]["start_id"], start)
            except Exception as error:
                return pack({"what": "start", "broken": one_line(error)})
        return pack(*self._place.carry_out(header["job"]))


def _end_with_parent() -> None:
    """A worker in the middle of a long training would otherwise outlive a killed main process."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
