"""Meters of this machine: a network and a reference network in turns, until the number is certain enough."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from torch import Tensor, nn

from rlnas.errors import MeterError
from rlnas.latency.machine import Usage, exclusive
from rlnas.latency.meter import Latency
from rlnas.latency.reference import NAME, reference_network
from rlnas.latency.samples import Estimate, Samples, estimate
from rlnas.network import Network

VERSION: Final = 2
MIN_WARMUP, MIN_REPEATS = 10, 30
MIN_WARMUP_MS = 5.0
MOST_RUNS = 16
BASELINE_ROUNDS = 100
SLOWER = 1.25
FEW_UNDISTURBED = 0.1
PATIENCE = 4.0
"""How many times ``max_time_s`` a meter goes on where hardly anything was undisturbed."""

Timed = Callable[[], tuple[list[float], list[float]]]
"""One forward pass: milliseconds of its laps, and those of the probes around them."""
Piece = tuple[nn.Module, tuple[Tensor, ...]]
"""A module and what it is called with."""


class InterleavedMeter(ABC):
    """Measures by rounds of a network and a reference network in turns.

    Each forward pass is timed in laps, with a short fixed computation, the probe, between them. Laps during which the
    processor was slower than it can be are left out; a network's time is the sum over its laps of a low quantile of the
    rest. What the reference network's time has drifted since this meter first measured (its baseline) is taken out of
    it, as `rlnas.latency.samples.correction` says. Rounds are added until the 95 % interval is as narrow as
    ``precision`` says, or ``max_time_s`` has passed; then the latency carries a warning.

    Only one process of a machine measures at a time; others wait.

    Args:
        batch_size: Samples in one forward pass; latencies are for the whole batch.
        threads: Threads that the runtime computes with.
        dtype: What the network computes in: float32, bfloat16 or float16.
        warmup: Untimed runs before the timed ones, at least 10; as many more as fill 5 ms.
        repeats: Fewest timed rounds, at least 30.
        precision: Half of the interval, relative to the latency, that is narrow enough.
        max_time_s: Longest time for one network, warm-up not counted; with one thread the processor's time for it.
            Up to four times as long where hardly a lap was undisturbed.
        wait_s: Seconds to wait for another process that measures.

    Raises:
        MeterError: If an argument is out of range.
    """

    deterministic = False
    name: str
    device = "cpu"
    dtypes: tuple[str, ...] = ("float32",)
    cpu_clock = True

    def __init__(
        self,
        *,
        batch_size: int = 1,
        threads: int = 1,
        dtype: str = "float32",
        warmup: int = MIN_WARMUP,
        repeats: int = MIN_REPEATS,
        precision: float = 0.01,
        max_time_s: float = 2.0,
        wait_s: float = 600.0,
    ) -> None:
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("threads", threads, 1),
            ("warmup", warmup, MIN_WARMUP),
            ("repeats", repeats, MIN_REPEATS),
        ):
            if value < least:
                raise MeterError(f"{name}={value} is too small to measure latency; it must be at least {least}")
        for name, number, high in (("precision", precision, 1.0), ("max_time_s", max_time_s, 3600.0)):
            if not 0 < number <= high:
                raise MeterError(f"{name}={number} must be above 0 and at most {high:g}")
        if dtype not in self.dtypes:
            raise MeterError(f"the meter {self.name} does not measure in {dtype}; it knows {', '.join(self.dtypes)}")
        self._batch_size = batch_size
        self._threads = threads
        self._dtype = dtype
        self._warmup = warmup
        self._repeats = repeats
        self._precision = precision
        self._max_time_s = max_time_s
        self._wait_s = wait_s
        self._baseline: dict[str, float] = {}
        self._reference: Timed | None = None
        self._usage: Callable[[], Usage] = Usage.now

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_reference": None}

    # ---------------------------------------------------------------------------------------- what a runtime fills in

    @abstractmethod
    def _prepare(self, network: Network) -> Timed:
        """Make a network ready to run; raises MeterError if it cannot be run."""

    @abstractmethod
    def _prepare_piece(self, piece: Piece) -> Timed:
        """Make a module ready to run, as a single lap; raises MeterError if it cannot be run."""

    @abstractmethod
    def _session(self) -> AbstractContextManager[object]:
        """What has to hold while networks run, such as a number of threads."""

    @abstractmethod
    def _runtime(self) -> Mapping[str, Any]:
        """Versions and device, in plain JSON types."""

    # ------------------------------------------------------------------------------------------------------- protocol

    @property
    def description(self) -> Mapping[str, Any]:
        """Settings, runtime and processor."""
        return {
            "meter": self.name,
            "version": VERSION,
            "reference": NAME,
            "batch_size": self._batch_size,
            "threads": self._threads,
            "dtype": self._dtype,
            "warmup": self._warmup,
            "repeats": self._repeats,
            "precision": self._precision,
            "max_time_s": self._max_time_s,
            **self._runtime(),
        }

    def state(self) -> dict[str, float]:
        """What the reference network and a probe took when this meter first measured."""
        return dict(self._baseline)

    def restore(self, state: Mapping[str, float]) -> None:
        """Take over a baseline, so that latencies are comparable with those measured before."""
        if "baseline_ms" in state:
            self._baseline = {name: float(value) for name, value in state.items()}

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network, one after the other.

        Raises:
            MeterError: If a network cannot be run, or another process measures for too long.
        """
        return [self._measure(lambda network=network: self._prepare(network)) for network in networks]  # type: ignore[misc]

    def measure_pieces(self, pieces: Sequence[Piece]) -> list[Latency]:
        """Latency of modules that are called with tensors of the meter's device, one after the other.

        Raises:
            MeterError: If a module cannot be run, or another process measures for too long.
        """
        return [self._measure(lambda piece=piece: self._prepare_piece(piece)) for piece in pieces]  # type: ignore[misc]

    # ------------------------------------------------------------------------------------------------------ measuring

    def _measure(self, prepare: Callable[[], Timed]) -> Latency:
        with self._session():
            timed = prepare()
            if self._reference is None:
                self._reference = self._prepare(reference_network())
            with exclusive(self.device, wait_s=self._wait_s), _no_garbage_collection():
                return self._compare(timed, self._reference)

    def _compare(self, timed: Timed, reference: Timed) -> Latency:
        before = self._usage()
        if not self._baseline:
            self._take_baseline(reference)
        runs = self._warm_up(timed)
        found, rounds = self._rounds(timed, reference, runs=runs)
        return self._latency(found, rounds, before.busy(self._usage()))

    def _take_baseline(self, reference: Timed) -> None:
        self._warm_up(reference)
        samples = Samples()
        for _ in range(BASELINE_ROUNDS):
            samples.add(reference())
        alone = estimate(samples, samples)
        self._baseline = {"baseline_ms": alone.reference_ms, "probe_ms": alone.probe_ms}

    def _warm_up(self, timed: Timed) -> int:
        """Untimed runs; gives how many runs take about as long as one of the reference network."""
        fastest, spent, count = float("inf"), 0.0, 0
        while count < self._warmup or spent < MIN_WARMUP_MS:
            run_ms = sum(timed()[0])
            fastest, spent, count = min(fastest, run_ms), spent + run_ms, count + 1
        base = self._baseline.get("baseline_ms", fastest)
        return max(1, min(MOST_RUNS, round(base / fastest)))

    def _rounds(self, timed: Timed, reference: Timed, *, runs: int) -> tuple[Estimate, int]:
        """Take turns until the interval is narrow enough or the time is over; on a slow processor wait for longer."""
        of_network, of_reference = Samples(), Samples()
        begun, wanted = self._spent(), self._repeats
        base_ms, probe_ms = self._baseline["baseline_ms"], self._baseline["probe_ms"]
        while True:
            while len(of_reference) < wanted:
                of_reference.add(reference())
                for _ in range(runs):
                    of_network.add(timed())
                if len(of_reference) >= self._repeats and self._spent() - begun >= PATIENCE * self._max_time_s:
                    break
            found = estimate(of_network, of_reference, baseline_ms=base_ms, probe_ms=probe_ms)
            calm, spent = found.undisturbed >= FEW_UNDISTURBED, self._spent() - begun
            if calm and (found.half_width <= self._precision or spent >= self._max_time_s):
                return found, len(of_network)
            if spent >= PATIENCE * self._max_time_s:  # then what there is has to do
                return estimate(of_network, of_reference, baseline_ms=base_ms), len(of_network)
            wanted = len(of_reference) + max(self._repeats // 2, len(of_reference) // 4)

    def _spent(self) -> float:
        """Seconds on the clock that times are taken by."""
        now = self._usage()
        return now.thread if self.cpu_clock and self._threads == 1 else now.wall

    def _is_slow(self, found: Estimate) -> bool:
        known = self._baseline.get("probe_ms", 0.0)
        return known > 0 and found.probe_ms > SLOWER * known

    def _latency(self, found: Estimate, rounds: int, busy: str | None) -> Latency:
        warnings = [busy] if busy else []
        if found.half_width > self._precision:
            warnings.append(
                f"uncertain: the 95 % interval is {100 * found.half_width:.1f} % of the latency to either side after "
                f"max_time_s={self._max_time_s:g}"
            )
        if self._is_slow(found):
            share = self._baseline["probe_ms"] / found.probe_ms
            warnings.append(f"slow processor: {100 * share:.0f} % of its speed when this meter first measured")
        elif found.undisturbed < FEW_UNDISTURBED:
            warnings.append(f"disturbed: only {100 * found.undisturbed:.0f} % of the time was undisturbed")
        return Latency(found.ms, found.low, found.high, rounds, tuple(warnings))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
