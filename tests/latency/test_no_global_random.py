"""Measuring leaves torch's global generator alone: it belongs to the controller."""

from __future__ import annotations

import torch

from rlnas.latency import TorchMeter
from rlnas.network import Network
from rlnas.spaces import conv_stages


def test_first_measurement_draws_nothing_from_the_global_generator() -> None:
    network = Network.initialize(conv_stages((1, 8, 8), 10), generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    TorchMeter(min_time_ms=1.0).measure([network])
    assert torch.equal(before, torch.get_rng_state())
