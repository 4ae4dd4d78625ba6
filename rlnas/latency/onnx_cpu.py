"""Latency of a network as ONNX Runtime runs it on the CPU."""

from __future__ import annotations

import importlib.util
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rlnas.errors import ExportError, MeterError
from rlnas.interchange import onnx_excuse, write_onnx
from rlnas.latency.interleaved import InterleavedMeter, Piece, Timed
from rlnas.latency.laps import LapTimer, clock_for
from rlnas.latency.machine import processor_name
from rlnas.network import Network, example_inputs


class OnnxMeter(InterleavedMeter):
    """Times ONNX Runtime sessions on files of a fixed batch size, all graph optimizations on.

    ``threads`` compute within an operation; operations are run one after the other (inter-op 1, sequential). With one
    thread the clock is the CPU time of that thread, with more it is wall-clock time and idle threads spin for a while,
    as they do by default. The runtime's memory arena and memory patterns are on. A pass is one lap: what the runtime
    fuses cannot be timed in parts.
    """

    name = "onnx_cpu"

    def _prepare(self, network: Network) -> Timed:
        if excuse := onnx_excuse():
            raise MeterError(f"the meter onnx_cpu cannot measure: {excuse}")
        with tempfile.TemporaryDirectory(prefix="rlnas-") as folder:
            path = Path(folder) / "model.onnx"
            try:
                write_onnx(network, path, batch=self._batch_size)
            except ExportError as error:
                raise MeterError(f"network {network.graph.key} cannot be written for ONNX Runtime: {error}") from None
            written = path.read_bytes()
        inputs = example_inputs(network.graph, self._batch_size, generator=torch.Generator().manual_seed(0))
        session = self._open(written)
        feed = {session.get_inputs()[0].name: inputs.numpy()}
        wanted = [session.get_outputs()[0].name]
        timer = LapTimer(clock_for(self._threads))
        return lambda: timer.time(lambda: session.run(wanted, feed))

    def _prepare_piece(self, piece: Piece) -> Timed:
        raise MeterError(
            "ONNX Runtime fuses layers, so a table of single operations would not add up; build it with the meter "
            "torch_cpu, or fit a predictor with onnx_cpu: rlnas latency fit"
        )

    def _open(self, written: bytes) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = True
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own errors have no common class
            raise MeterError(f"ONNX Runtime cannot load the network: {str(error).splitlines()[0]}") from None

    @contextmanager
    def _session(self) -> Iterator[None]:
        yield

    def _runtime(self) -> Mapping[str, Any]:
        return {
            "clock": "thread_cpu" if self._threads == 1 else "wall",
            "onnxruntime": _version(),
            "inter_op_threads": 1,
            "execution": "sequential",
            "optimizations": "all",
            "memory": "arena, patterns",
            "processor": processor_name(),
            "system": platform.system(),
        }


def _version() -> str | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    return str(onnxruntime.__version__)
