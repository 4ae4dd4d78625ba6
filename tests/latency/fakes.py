"""Meters that time nothing: their networks take what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from rlnas.errors import MeterError
from rlnas.latency.interleaved import InterleavedMeter
from rlnas.latency.machine import Usage
from rlnas.latency.reference import reference_network
from rlnas.network import Network
from rlnas.spaces import conv_stages

LAPS = 4
PROBE_MS = 0.01


def network(width: int = 4, size: int = 8, stages: int = 2) -> Network:
    graph = conv_stages((1, size, size), 10, stages=stages, width=width)
    return Network.initialize(graph, generator=torch.Generator().manual_seed(0))


class FakeMachine:
    """A clock and what runs by it.

    Attributes:
        slowness: How many times longer everything takes than it should.
        drift: Factor on the slowness with every pass.
        noise: Called with the number of the pass, gives a factor on each lap.
        probe: Called with the number of the pass, gives a factor on its probes.
        others: Cores that other processes use.
    """

    def __init__(self) -> None:
        self.slowness, self.drift, self.others = 1.0, 1.0, 0.0
        self.noise: Callable[[int], float] = lambda number: 1.0
        self.probe: Callable[[int], float] = lambda number: 1.0
        self.passes = 0
        self.usage = Usage(0.0, 0.0, 0.0, 0.0)

    def run(self, ms: float) -> tuple[list[float], list[float]]:
        self.passes += 1
        self.slowness *= self.drift
        laps = [ms / LAPS * self.slowness * self.noise(self.passes)] * LAPS
        probes = [PROBE_MS * self.slowness * self.probe(self.passes)] * (LAPS + 1)
        self.wait(sum(laps) / 1e3)
        return laps, probes

    def wait(self, seconds: float) -> None:
        u = self.usage
        assert u.machine is not None
        machine = u.machine + seconds * (1 + self.others)
        self.usage = Usage(u.wall + seconds, u.thread + seconds, u.process + seconds, machine)


class FakeMeter(InterleavedMeter):
    """The reference takes 1 ms, any other network what ``ms`` says for its number of parameters."""

    name = "fake"

    def __init__(self, machine: FakeMachine, *, ms: float = 3.0, **settings: float) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.machine, self.ms = machine, ms
        self.prepared = 0
        self._usage = lambda: replace(machine.usage)

    def _prepare(self, network: Network) -> Callable[[], tuple[list[float], list[float]]]:
        self.prepared += 1
        ms = 1.0 if network is reference_network() else self.ms
        return lambda: self.machine.run(ms)

    def _prepare_piece(self, piece: tuple[nn.Module, tuple[torch.Tensor, ...]]) -> Callable[[], object]:  # type: ignore[override]
        if isinstance(piece[0], BrokenPiece):
            raise MeterError("broken")
        return lambda: self.machine.run(0.1)

    @contextmanager
    def _session(self) -> Iterator[None]:
        yield

    def _runtime(self) -> dict[str, str]:
        return {"processor": "fake"}


class BrokenPiece(nn.Module):
    """Cannot be run."""
