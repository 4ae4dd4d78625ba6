"""One meter of each kind, ready to measure, where its kind can measure on this machine."""

from __future__ import annotations

import sys
from pathlib import Path

from rlnas.latency import METERS, Latency, LatencyPredictor, LatencyTable, Meter
from rlnas.latency.features import features
from rlnas.latency.predictor import Measured
from rlnas.latency.signature import signatures
from tests.latency.fakes import network

SCRIPT = "import sys; print(*(2.0 + 0.01 * i for i in range(8)), sep='\\n')"
MEASURED_BY = {"meter": "torch_cpu", "batch_size": 1, "processor": "another"}


def table(*widths: int) -> LatencyTable:
    """A table of all operations of some networks, 0.1 ms each."""
    found = LatencyTable(MEASURED_BY)
    for width in widths:
        found.entries |= {s.key: Latency(0.1, 0.09, 0.12, 40) for s in signatures(network(width).graph)}
    return found


def predictor(n: int = 40) -> LatencyPredictor:
    """A predictor fitted on networks whose latency is linear in their work."""
    found = LatencyPredictor(MEASURED_BY)
    for width in range(2, 2 + n):
        graph = network(width).graph
        ms = 0.01 * len(graph) + graph.macs / 1e7
        found.measured[graph.key] = Measured(features(graph), (Latency(ms, 0.9 * ms, 1.1 * ms, 40),))
    found.fit()
    return found


def make(name: str, folder: Path) -> Meter:
    """A meter by name; raises KeyError for one that this module does not know."""
    if name == "table":
        table(4, 6).save(folder / "table.json")
    if name == "predictor":
        predictor().save(folder / "predictor.json")
    settings = {
        "torch_cpu": {"max_time_s": 0.1},
        "torch_cuda": {"max_time_s": 0.1},
        "onnx_cpu": {"max_time_s": 0.1},
        "command": {"command": f'{sys.executable} -c "{SCRIPT}" {{python}}'},
        "table": {"table": folder / "table.json"},
        "predictor": {"predictor": folder / "predictor.json"},
    }
    return METERS[name](**settings[name])
