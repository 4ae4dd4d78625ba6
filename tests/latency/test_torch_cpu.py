from __future__ import annotations

import gc
import pickle

import pytest
import torch
from torch import nn

from rlnas.errors import MeterError
from rlnas.latency import TorchMeter
from rlnas.latency.laps import LapTimer, ticking
from rlnas.latency.torch_cpu import DTYPES
from rlnas.network import Network, example_inputs
from tests.latency.fakes import network

QUICK = {"max_time_s": 0.1}


def test_laps_compute_what_the_network_computes() -> None:
    net = network(64, 16, stages=3)
    module = net.module().eval()
    inputs = example_inputs(net.graph, 4, generator=torch.Generator().manual_seed(1))
    ticks: list[int] = []
    run = ticking(net.graph, module, lambda: ticks.append(1))
    with torch.inference_mode():
        assert torch.equal(run(inputs), module(inputs))
    assert len(ticks) >= 3  # one between two statements: three stages at least, and the head, which ends without one


def test_a_lap_lies_between_two_readings_and_the_clock_itself_is_taken_off() -> None:
    now = [0]

    def clock() -> int:
        now[0] += 100  # every reading takes that long
        return now[0]

    timer = LapTimer(clock)

    def work(ns: int) -> None:
        now[0] += ns

    def run() -> None:
        work(5000)
        timer.tick()
        work(7000)

    laps, probes = timer.time(run)
    assert laps == [pytest.approx(0.005), pytest.approx(0.007)]
    assert probes == [pytest.approx(1e-4)] * 3


def test_a_larger_network_is_slower() -> None:
    small, large = TorchMeter(**QUICK).measure([network(4, 8), network(64, 32)])
    assert large.ms > 2 * small.ms > 0  # ten times, on a machine at rest
    for latency in (small, large):
        assert latency.low_ms <= latency.ms <= latency.high_ms and latency.n >= 30


def test_batches_take_longer_than_single_samples() -> None:
    single, batch = (TorchMeter(batch_size=n, **QUICK).measure([network(32, 16)])[0].ms for n in (1, 16))
    assert batch > 2 * single


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_types(dtype: str) -> None:
    meter = TorchMeter(dtype=dtype, **QUICK)
    assert meter.description["dtype"] == dtype
    try:
        assert meter.measure([network()])[0].ms > 0
    except MeterError as error:
        assert f"cannot be run on {dtype} inputs of shape (1, 1, 8, 8): " in str(error)


def test_nothing_is_left_behind() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net = network()
        tensors = {name: tensor.clone() for name, tensor in net.tensors.items()}
        state = torch.get_rng_state()
        TorchMeter(**QUICK).measure([net])
        assert torch.get_num_threads() == 2
        assert torch.equal(state, torch.get_rng_state())  # the generator is the controller's
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
        assert all(torch.equal(tensors[name], net.tensors[name]) for name in tensors)
    finally:
        torch.set_num_threads(before)


def test_a_copy_goes_on_from_the_same_baseline() -> None:
    meter = TorchMeter(**QUICK)
    meter.measure([network()])
    copy = pickle.loads(pickle.dumps(meter))
    assert copy.state() == meter.state() != {}
    assert copy.measure([network()])[0].ms > 0


def test_a_network_that_cannot_run_is_a_meter_error() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore lines")

    class BrokenNetwork(Network):
        def module(self) -> nn.Module:
            return Broken()

        def to(self, dtype: torch.dtype) -> Network:
            return self

    net = network()
    broken = BrokenNetwork(net.graph, net.tensors)
    with pytest.raises(
        MeterError, match=r"cannot be run on float32 inputs of shape \(1, 1, 8, 8\): mat1 .*multiplied$"
    ):
        TorchMeter().measure([broken])
    assert gc.isenabled()


def test_settings_are_part_of_the_description() -> None:
    several = ({}, {"batch_size": 2}, {"threads": 2}, {"repeats": 40}, {"dtype": "bfloat16"}, {"precision": 0.5})
    descriptions = [TorchMeter(**settings).description for settings in several]
    assert len({str(d) for d in descriptions}) == len(several)
    assert descriptions[0]["clock"] == "thread_cpu" and descriptions[2]["clock"] == "wall"
