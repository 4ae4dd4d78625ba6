"""Latency of networks: the meters that measure it."""

from __future__ import annotations

from collections.abc import Callable

from rlnas.latency.meter import Latency, Meter, median_interval
from rlnas.latency.threads import torch_threads
from rlnas.latency.torch_cpu import TorchMeter

METERS: dict[str, Callable[..., Meter]] = {"torch_cpu": TorchMeter}
"""All meters by name."""

__all__ = ["METERS", "Latency", "Meter", "TorchMeter", "median_interval", "torch_threads"]
