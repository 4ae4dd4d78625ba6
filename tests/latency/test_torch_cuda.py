"""The CUDA meter with a stand-in for `torch.cuda` that only notes what it is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from rlnas.errors import MeterError
from rlnas.latency import CudaMeter
from tests.latency.fakes import network


class FakeCuda:
    """A device on which a launch takes 0.25 ms and a replay 0.05 ms; no event is read before it is waited for."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.now, self.waited, self.capturing, self.failing = 0.0, 0.0, False, False
        cuda = self

        class Event:
            def __init__(self, *, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = cuda.now

            def synchronize(self) -> None:
                cuda.waited = cuda.now

            def elapsed_time(self, other: Event) -> float:
                assert cuda.waited >= other.at, "read before it was waited for"
                return other.at - self.at

        class Stream:
            def wait_stream(self, other: Stream) -> None:
                cuda.notes.append("wait")

        class CUDAGraph:
            def replay(self) -> None:
                cuda.now += 0.05
                cuda.notes.append("replay")

        self.Event, self.Stream, self.CUDAGraph = Event, Stream, CUDAGraph

    def is_available(self) -> bool:
        return True

    def get_device_name(self) -> str:
        return "fake device"

    def current_stream(self) -> object:
        return self.Stream()

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        self.notes.append("side stream")
        yield

    @contextmanager
    def graph(self, graph: object) -> Iterator[None]:
        self.notes.append("capture")
        if self.failing:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        yield

    def synchronize(self) -> None:
        self.waited = self.now


class FakeCudaMeter(CudaMeter):
    _place = "cpu"

    def __init__(self, cuda: FakeCuda, **settings: object) -> None:
        super().__init__(max_time_s=0.05, **settings)
        self._cuda = cuda
        real = self._time

        def time(run, calls):  # type: ignore[no-untyped-def]
            def launched() -> object:
                before = len(cuda.notes)
                found = run()
                if len(cuda.notes) == before:  # not a replay
                    cuda.now += 0.25
                return found

            return real(launched, calls)

        self._time = time  # type: ignore[method-assign]


def test_a_captured_graph_is_replayed_and_timed_by_events() -> None:
    cuda = FakeCuda()
    (latency,) = FakeCudaMeter(cuda).measure([network()])
    assert latency.ms == pytest.approx(0.05)
    order = [note for note in cuda.notes if note != "replay"]
    assert order == ["wait", "side stream", "wait", "capture"] * 2  # the network and the reference
    assert cuda.notes.count("replay") > 100


def test_without_replay_kernels_are_launched_one_by_one() -> None:
    cuda = FakeCuda()
    meter = FakeCudaMeter(cuda, replay=False)
    (latency,) = meter.measure([network()])
    assert latency.ms == pytest.approx(0.25) and cuda.notes == []
    assert meter.description["replay"] is False and meter.description["processor"] == "fake device"


def test_a_network_that_cannot_be_captured_is_an_error_that_says_what_to_do() -> None:
    cuda = FakeCuda()
    cuda.failing = True
    with pytest.raises(MeterError, match=r"not permitted when stream is capturing\); measure with replay=false$"):
        FakeCudaMeter(cuda).measure([network()])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_no_device_is_an_error() -> None:
    with pytest.raises(MeterError, match="needs a CUDA device, and PyTorch finds none here"):
        CudaMeter().measure([network()])
