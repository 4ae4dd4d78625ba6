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
import signal
import threading
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from typing import Any

import torch

from rlnas.evaluation.jobs import Job, carry_out
from rlnas.evaluation.metrics import one_line
from rlnas.network import Network

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
    name = f"process {os.getpid()}"
    starts: dict[str, Network] = {}
    evaluator = task = None
    pipe.send_bytes(pack({"kind": "hello"}))
    while True:
        header, body = unpack(pipe.recv_bytes())
        if header["kind"] != "job":
            try:
                if header["kind"] == "setup":
                    evaluator = task = None
                    evaluator, task = pickle.loads(body)  # made by the pool in our parent process
                    pipe.send_bytes(pack({"kind": "ready"}))
                else:
                    starts[header["id"]] = Network.from_bytes(body)
            except Exception as error:
                pipe.send_bytes(pack({"kind": "broken", "what": header["kind"], "reason": one_line(error)}))
        else:
            job = Job.from_json(header["job"])
            start = starts[job.candidate.start_id]
            assert evaluator is not None and task is not None
            outcome = carry_out(job, start=start, evaluator=evaluator, task=task, worker=name)
            summary, weights = outcome.to_message()
            pipe.send_bytes(pack({"kind": "done", **summary}, weights))


def _end_with_parent() -> None:
    """A worker in the middle of a long training would otherwise outlive a killed main process."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
