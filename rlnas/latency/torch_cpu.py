"""Latency of a network as PyTorch runs it on the CPU, robust against a drifting and a busy machine."""

from __future__ import annotations

import gc
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from rlnas.errors import MeterError
from rlnas.latency.meter import Latency
from rlnas.latency.threads import torch_threads
from rlnas.network import Network, example_inputs

VERSION = 1
MIN_WARMUP, MIN_REPEATS = 10, 30
MIN_WARMUP_MS = 5.0
BASELINE_SAMPLES = 101
REFERENCE_SHAPE = (1, 16, 16)

Run = Callable[[], object]


class TorchMeter:
    """Times forward passes in eval mode, interleaved with a fixed reference network.

    Each timed sample of a network lies between two samples of the reference network (A/B/A). The ratio of the sample to
    the mean of its neighbours does not move with the clock frequency or with what else the machine does; the median
    of the ratios, times the reference network's time as it was when this meter first measured (its baseline), is the
    latency. With one thread the clock is the CPU time of that thread, which does not run while another process
    has the core; with more threads it is wall-clock time.

    Weights do not matter to dense kernels, so a network is run with those it has.

    Args:
        batch_size: Samples in one forward pass; latencies are for the whole batch.
        threads: Threads that torch computes with.
        warmup: Untimed runs before the timed ones, at least 10; as many more as fill 5 ms.
        repeats: Fewest timed samples, at least 30.
        min_time_ms: Shortest time for all timed samples, those of the reference network included; samples are added
            until it is filled.
        sample_ms: Shortest time of one sample; faster networks are run several times within it.

    Raises:
        MeterError: If an argument is out of range.
    """

    deterministic = False

    def __init__(
        self,
        *,
        batch_size: int = 1,
        threads: int = 1,
        warmup: int = MIN_WARMUP,
        repeats: int = MIN_REPEATS,
        min_time_ms: float = 60.0,
        sample_ms: float = 0.25,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("threads", threads, 1),
            ("warmup", warmup, MIN_WARMUP),
            ("repeats", repeats, MIN_REPEATS),
        ):
            if value < least:
                raise MeterError(f"{name}={value} is too small to measure latency; it must be at least {least}")
        for name, time_ms, low in (("min_time_ms", min_time_ms, 0.0), ("sample_ms", sample_ms, 1e-3)):
            if not low <= time_ms <= 60_000:
                raise MeterError(f"{name}={time_ms} must lie between {low:g} and 60000 milliseconds")
        self._batch_size = batch_size
        self._threads = threads
        self._warmup = warmup
        self._repeats = repeats
        self._min_time_ms = min_time_ms
        self._sample_ms = sample_ms
        self._clock = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._baseline_ms: float | None = None
        self._reference: Run | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reference": None}

    @property
    def description(self) -> Mapping[str, Any]:
        """Settings, runtime and processor."""
        return {
            "meter": "torch_cpu",
            "version": VERSION,
            "batch_size": self._batch_size,
            "threads": self._threads,
            "warmup": self._warmup,
            "repeats": self._repeats,
            "min_time_ms": self._min_time_ms,
            "sample_ms": self._sample_ms,
            "clock": "thread_cpu" if self._threads == 1 else "wall",
            "torch": torch.__version__,
            "processor": processor_name(),
        }

    def state(self) -> dict[str, float]:
        """The reference network's baseline, once it is known."""
        return {} if self._baseline_ms is None else {"baseline_ms": self._baseline_ms}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take over a baseline, so that latencies are comparable with those measured before."""
        if "baseline_ms" in state:
            self._baseline_ms = float(state["baseline_ms"])

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network, one after the other.

        Raises:
            MeterError: If a network cannot be run.
        """
        with torch_threads(self._threads), torch.inference_mode(), _no_garbage_collection():
            return [self._measure(network) for network in networks]

    def _measure(self, network: Network) -> Latency:
        run, reference = self._prepare(network), self._reference_run()
        call_ms = self._warm_up(run)
        calls = max(1, round(self._sample_ms / call_ms))
        reference_calls = max(1, round(self._sample_ms / self._warm_up(reference)))
        baseline_ms = self._baseline(reference, reference_calls)
        ratios: list[float] = []
        before = self._time_ms(reference, reference_calls)
        end = self._clock() + int(1e6 * self._min_time_ms)
        while len(ratios) < self._repeats or self._clock() < end:
            sample = self._time_ms(run, calls)
            after = self._time_ms(reference, reference_calls)
            ratios.append(2 * sample / (before + after))
            before = after
        return Latency.from_samples([ratio * baseline_ms for ratio in ratios])

    def _prepare(self, network: Network) -> Run:
        generator = torch.Generator().manual_seed(0)
        inputs = example_inputs(network.graph, self._batch_size, generator=generator)
        module = network.module().eval()
        try:
            module(inputs)
        except (RuntimeError, ValueError, TypeError, IndexError, MemoryError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise MeterError(
                f"network {network.graph.key} cannot be run on inputs of shape {tuple(inputs.shape)}: {reason}"
            ) from error
        return lambda: module(inputs)

    def _reference_run(self) -> Run:
        if self._reference is None:
            module, inputs = reference_network(), torch.zeros(1, *REFERENCE_SHAPE)
            self._reference = lambda: module(inputs)
        return self._reference

    def _warm_up(self, run: Run) -> float:
        """Untimed runs; gives the shortest time of one, in milliseconds."""
        fastest, spent, count = float("inf"), 0.0, 0
        while count < self._warmup or spent < MIN_WARMUP_MS:
            call_ms = self._time_ms(run, 1)
            fastest, spent, count = min(fastest, call_ms), spent + call_ms, count + 1
        return max(fastest, 1e-4)

    def _baseline(self, reference: Run, calls: int) -> float:
        if self._baseline_ms is None:
            self._baseline_ms = median(self._time_ms(reference, calls) for _ in range(BASELINE_SAMPLES))
        return self._baseline_ms

    def _time_ms(self, run: Run, calls: int) -> float:
        clock = self._clock
        start = clock()
        for _ in range(calls):
            run()
        return max(clock() - start, 1) / (1e6 * calls)


def reference_network() -> nn.Module:
    """The fixed network that drift is measured with; like a small candidate, part dispatch and part arithmetic."""
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):  # fresh layers draw from the global generator, which is the controller's
        for before, after in ((REFERENCE_SHAPE[0], 16), (16, 16), (16, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False).fill_(0.01)
    return module


@cache
def processor_name() -> str:
    """Name of the CPU, as precisely as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name") and ":" in line)
    return next(names, "") or platform.processor() or platform.machine()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
