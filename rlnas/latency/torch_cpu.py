"""Latency of a network as PyTorch runs it on the CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from rlnas.errors import MeterError
from rlnas.latency.interleaved import InterleavedMeter, Piece, Timed
from rlnas.latency.laps import LapTimer, clock_for, ticking
from rlnas.latency.machine import processor_name
from rlnas.latency.threads import torch_threads
from rlnas.network import Network, example_inputs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, MemoryError, NotImplementedError)


class TorchMeter(InterleavedMeter):
    """Times forward passes in eval mode, statement by statement of the network's source.

    With one thread the clock is the CPU time of that thread, which does not run while another process has the core;
    with more threads it is wall-clock time. Weights do not matter to dense kernels, so a network is run with those it
    has.
    """

    name = "torch_cpu"
    dtypes = tuple(DTYPES)

    def _prepare(self, network: Network) -> Timed:
        generator = torch.Generator().manual_seed(0)
        inputs = cast(example_inputs(network.graph, self._batch_size, generator=generator), self._dtype)
        module = network.to(DTYPES[self._dtype]).module().eval()
        first_run(lambda: module(inputs), network, inputs, self._dtype)
        timer = LapTimer(clock_for(self._threads))
        run = ticking(network.graph, module, timer.tick)
        return lambda: timer.time(lambda: run(inputs))

    def _prepare_piece(self, piece: Piece) -> Timed:
        module, inputs = piece[0].to(DTYPES[self._dtype]).eval(), tuple(cast(x, self._dtype) for x in piece[1])
        try:
            module(*inputs)
        except FAILURES as error:
            raise MeterError(f"cannot be run in {self._dtype}: {first_line(error)}") from error
        timer = LapTimer(clock_for(self._threads))
        return lambda: timer.time(lambda: module(*inputs))

    @contextmanager
    def _session(self) -> Iterator[None]:
        with torch_threads(self._threads), torch.inference_mode():
            yield

    def _runtime(self) -> Mapping[str, Any]:
        return {
            "clock": "thread_cpu" if self._threads == 1 else "wall",
            "torch": torch.__version__,
            "processor": processor_name(),
            "system": platform.system(),
        }


def cast(tensor: torch.Tensor, dtype: str) -> torch.Tensor:
    """The tensor in a floating-point type; whole numbers stay what they are."""
    return tensor.to(DTYPES[dtype]) if tensor.is_floating_point() else tensor


def first_run(run: Callable[[], object], network: Network, inputs: torch.Tensor, dtype: str) -> None:
    """Run a network for the first time.

    Raises:
        MeterError: If it cannot be run; says on what, and why.
    """
    try:
        run()
    except FAILURES as error:
        raise MeterError(
            f"network {network.graph.key} cannot be run on {dtype} inputs of shape {tuple(inputs.shape)}: "
            f"{first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
