"""What holds of every meter in the registry."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from rlnas.errors import MeterError
from rlnas.interchange import onnx_excuse
from rlnas.latency import METERS, Latency, is_deterministic
from tests.latency.fakes import network
from tests.latency.meters import make

DETERMINISTIC = {"table", "predictor"}


@pytest.mark.parametrize("name", METERS)
def test_a_meter_describes_itself_in_json(name: str, tmp_path: Path) -> None:
    meter = make(name, tmp_path)
    said = dict(meter.description)
    assert json.loads(json.dumps(said)) == said
    assert said["meter"] == name
    assert make(name, tmp_path).description == said
    assert meter.state() == {}


@pytest.mark.parametrize("name", METERS)
def test_a_meter_measures_each_network_in_order(name: str, tmp_path: Path) -> None:
    meter = make(name, tmp_path)
    networks = [network(4), network(6)]
    if (name == "torch_cuda" and not torch.cuda.is_available()) or (name == "onnx_cpu" and onnx_excuse()):
        with pytest.raises(MeterError) as caught:
            meter.measure(networks)
        assert "\n" not in str(caught.value)
        return
    before = torch.get_rng_state()
    found = meter.measure(networks)
    assert torch.equal(torch.get_rng_state(), before), "the global generator belongs to the controller"
    assert len(found) == 2
    for latency in found:
        assert isinstance(latency, Latency)
        assert 0 <= latency.low_ms <= latency.ms <= latency.high_ms and latency.ms > 0 and latency.n >= 1
        assert all("\n" not in warning for warning in latency.warnings)
    state = dict(meter.state())
    assert json.loads(json.dumps(state)) == state
    copy = pickle.loads(pickle.dumps(meter))
    assert copy.state() == state and copy.description == meter.description
    fresh = make(name, tmp_path)
    fresh.restore(state)
    assert fresh.state() == state
    assert meter.measure([]) == []


@pytest.mark.parametrize("name", METERS)
def test_a_deterministic_meter_repeats_itself_and_needs_no_weights(name: str, tmp_path: Path) -> None:
    meter = make(name, tmp_path)
    assert meter.deterministic == is_deterministic(meter) == (name in DETERMINISTIC)
    if is_deterministic(meter):
        (first,), (second,) = meter.measure([network(4)]), make(name, tmp_path).measure([network(4)])
        assert first == second
        assert meter.graph_ms(network(4).graph) == first.ms
