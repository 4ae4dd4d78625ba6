"""Latency of a network as PyTorch runs it on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import MeterError
from rlnas.latency.interleaved import InterleavedMeter, Piece, Timed
from rlnas.latency.torch_cpu import DTYPES, FAILURES, cast, first_line, first_run
from rlnas.network import Network, example_inputs

SIDE_STREAM_RUNS = 3
CALLS_MS = 0.5


class CudaMeter(InterleavedMeter):
    """Times forward passes in eval mode between CUDA events, on the device's own clock.

    A network is captured as a CUDA graph and replayed, so that a small one is not timed by how fast Python can launch
    its kernels; ``replay=False`` launches them one by one, as plain PyTorch code does. Passes are repeated within a
    sample until it takes half a millisecond, and every sample ends by waiting for its last event. Kernels are chosen
    by cuDNN's heuristics (no autotuning), so that a network is always run by the same ones.

    Args:
        replay: Replay a captured graph.
        **settings: As `InterleavedMeter`; threads play no part.
    """

    name = "torch_cuda"
    device = "cuda"
    dtypes = tuple(DTYPES)
    cpu_clock = False
    _cuda: Any = torch.cuda
    _place = "cuda"

    def __init__(self, *, replay: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self._replay = replay

    def _prepare(self, network: Network) -> Timed:
        self._check()
        inputs = example_inputs(network.graph, self._batch_size, generator=torch.Generator().manual_seed(0))
        inputs = cast(inputs, self._dtype).to(self._place)
        module = network.to(DTYPES[self._dtype]).module().eval().to(self._place)
        first_run(lambda: module(inputs), network, inputs, self._dtype)
        return self._timed(lambda: module(inputs))

    def _prepare_piece(self, piece: Piece) -> Timed:
        self._check()
        module = piece[0].to(DTYPES[self._dtype]).eval().to(self._place)
        inputs: tuple[Tensor, ...] = tuple(cast(x, self._dtype).to(self._place) for x in piece[1])
        try:
            module(*inputs)
        except FAILURES as error:
            raise MeterError(f"cannot be run in {self._dtype}: {first_line(error)}") from error
        return self._timed(lambda: module(*inputs))

    def _timed(self, run: Callable[[], object]) -> Timed:
        if self._replay:
            run = self._captured(run)
        once_ms = self._time(run, 1)
        calls = max(1, round(CALLS_MS / max(once_ms, 1e-4)))
        return lambda: ([self._time(run, calls)], [0.0, 0.0])

    def _captured(self, run: Callable[[], object]) -> Callable[[], object]:
        """A function that replays what ``run`` launches."""
        cuda = self._cuda
        try:
            side = cuda.Stream()
            side.wait_stream(cuda.current_stream())
            with cuda.stream(side):  # lazy set-up must not be captured
                for _ in range(SIDE_STREAM_RUNS):
                    run()
            cuda.current_stream().wait_stream(side)
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                kept = run()
        except FAILURES as error:
            raise MeterError(
                f"the network cannot be captured as a CUDA graph ({first_line(error)}); measure with replay=false"
            ) from error

        def replay() -> object:
            graph.replay()
            return kept  # the outputs' memory belongs to the graph

        return replay

    def _time(self, run: Callable[[], object], calls: int) -> float:
        """Milliseconds of one call, by the device's clock."""
        cuda = self._cuda
        first, last = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        first.record()
        for _ in range(calls):
            run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / calls

    def _check(self) -> None:
        if not self._cuda.is_available():
            raise MeterError(
                "the meter torch_cuda needs a CUDA device, and PyTorch finds none here; run it on the machine that has "
                "one, or use the meter command"
            )

    @contextmanager
    def _session(self) -> Iterator[None]:
        self._check()
        benchmark = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False
        try:
            with torch.inference_mode():
                yield
            self._cuda.synchronize()
        finally:
            torch.backends.cudnn.benchmark = benchmark

    def _runtime(self) -> Mapping[str, Any]:
        there = self._cuda.is_available()
        return {
            "clock": "cuda_events",
            "replay": self._replay,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "processor": str(self._cuda.get_device_name()) if there else None,
            "tf32": bool(torch.backends.cudnn.allow_tf32),
        }
