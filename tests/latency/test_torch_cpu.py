import gc
import pickle

import pytest
import torch
from torch import nn

from rlnas.errors import MeterError
from rlnas.latency import TorchMeter
from rlnas.network import Network
from rlnas.spaces import conv_stages


def network(width=4, size=8):
    graph = conv_stages((1, size, size), 10, stages=2, width=width)
    return Network.initialize(graph, generator=torch.Generator().manual_seed(0))


class SlowingMachine(TorchMeter):
    """Runs nothing: the reference network takes 1 ms, any other 3 ms, on a machine that gets slower and slower."""

    def __init__(self, *, drift):
        super().__init__(min_time_ms=0.0)
        self.slowness, self.drift = 1.0, drift

    def _time_ms(self, run, calls):
        self.slowness *= self.drift
        return (1.0 if run is self._reference else 3.0) * self.slowness


def test_drift_of_the_machine_cancels_out():
    meter = SlowingMachine(drift=1.0)
    assert meter.measure([network()])[0].ms == pytest.approx(3.0)
    assert meter.state() == {"baseline_ms": pytest.approx(1.0)}
    meter.drift = 1.01  # about twice as slow at the end of a measurement
    for latency in meter.measure([network()] * 3):
        assert latency.ms == pytest.approx(3.0, rel=1e-3)
    assert meter.slowness > 8


def test_a_restored_baseline_continues_the_scale_of_an_earlier_meter():
    meter = SlowingMachine(drift=1.0)
    meter.slowness = 2.0  # a slower day
    meter.restore({"baseline_ms": 1.0})
    assert meter.measure([network()])[0].ms == pytest.approx(3.0)
    assert meter.state() == {"baseline_ms": 1.0}


def test_a_larger_network_is_slower_and_the_numbers_are_close_to_plain_timing():
    meter = TorchMeter(min_time_ms=30)
    small, large = meter.measure([network(4, 8), network(64, 32)])
    assert 0 < small.low_ms <= small.ms <= small.high_ms
    assert large.low_ms > 2 * small.high_ms
    assert small.n >= 30 and large.n >= 30


def test_batches_take_longer_than_single_samples():
    single, batch = (TorchMeter(min_time_ms=0, batch_size=n).measure([network(16, 16)])[0].ms for n in (1, 64))
    assert batch > 3 * single


def test_nothing_is_left_behind():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net = network()
        tensors = {name: tensor.clone() for name, tensor in net.tensors.items()}
        TorchMeter(min_time_ms=0).measure([net])
        assert torch.get_num_threads() == 2
        assert gc.isenabled()
        assert not torch.is_inference_mode_enabled()
        assert all(torch.equal(tensors[name], net.tensors[name]) for name in tensors)
    finally:
        torch.set_num_threads(before)


def test_a_copy_goes_on_from_the_same_baseline():
    meter = TorchMeter(min_time_ms=0)
    meter.measure([network()])
    copy = pickle.loads(pickle.dumps(meter))
    assert copy.state() == meter.state() != {}
    assert copy.measure([network()])[0].ms > 0


def test_a_network_that_cannot_run_is_a_meter_error():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore lines")

    class BrokenNetwork(Network):
        def module(self):
            return Broken()

    net = network()
    broken = BrokenNetwork(net.graph, net.tensors)
    with pytest.raises(MeterError, match=r"cannot be run on inputs of shape \(1, 1, 8, 8\): mat1 .*multiplied$"):
        TorchMeter().measure([broken])
    assert gc.isenabled()


@pytest.mark.parametrize(
    "arguments",
    [{"repeats": 29}, {"warmup": 9}, {"threads": 0}, {"batch_size": 0}, {"sample_ms": 0.0}, {"min_time_ms": -1.0}],
)
def test_arguments_that_make_no_sense_are_refused(arguments):
    with pytest.raises(MeterError, match=next(iter(arguments))):
        TorchMeter(**arguments)


def test_settings_are_part_of_the_description():
    descriptions = [TorchMeter(**a).description for a in ({}, {"batch_size": 2}, {"threads": 2}, {"repeats": 40})]
    assert len({tuple(sorted(map(str, d.items()))) for d in descriptions}) == 4
    assert descriptions[0]["clock"] == "thread_cpu" and descriptions[2]["clock"] == "wall"
