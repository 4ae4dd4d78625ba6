"""Latency of networks: meters that measure it, tables and predictors that know it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rlnas.errors import MeterError, unknown_name
from rlnas.latency.command import CommandMeter
from rlnas.latency.meter import GraphMeter, Latency, Meter, is_deterministic, median_interval
from rlnas.latency.onnx_cpu import OnnxMeter
from rlnas.latency.predictor import LatencyPredictor, PredictorMeter
from rlnas.latency.table import LatencyTable, TableMeter
from rlnas.latency.threads import torch_threads
from rlnas.latency.torch_cpu import TorchMeter
from rlnas.latency.torch_cuda import CudaMeter

METERS: dict[str, Callable[..., Meter]] = {
    "torch_cpu": TorchMeter,
    "torch_cuda": CudaMeter,
    "onnx_cpu": OnnxMeter,
    "command": CommandMeter,
    "table": TableMeter,
    "predictor": PredictorMeter,
}
"""All meters by name."""


def make_meter(name: str, **settings: Any) -> Meter:
    """A meter by name.

    Args:
        **settings: Arguments of the meter; those that are None are left to its defaults.

    Raises:
        MeterError: If the name is not known, or an argument is not one of the meter's, missing or out of range.
    """
    if name not in METERS:
        raise MeterError(unknown_name("meter", name, METERS))
    given = {key: value for key, value in settings.items() if value is not None}
    known = arguments_of(METERS[name])
    for key in given:
        if key not in known:
            raise MeterError(f"the meter {name} has no setting {key}; it knows {', '.join(known)}")
    for key, needed in known.items():
        if needed and key not in given:
            raise MeterError(f"the meter {name} needs the setting {key}")
    return METERS[name](**given)


def arguments_of(meter: Callable[..., Meter]) -> dict[str, bool]:
    """Names of the arguments of a kind of meter, True for those that it needs."""
    found: dict[str, bool] = {}
    for kind in inspect.getmro(meter) if inspect.isclass(meter) else ():
        if "__init__" in vars(kind) and kind is not object:
            parameters = inspect.signature(vars(kind)["__init__"]).parameters.values()
            named = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
            found = {p.name: p.default is p.empty for p in named} | found
    return found


__all__ = [
    "METERS",
    "CommandMeter",
    "CudaMeter",
    "GraphMeter",
    "Latency",
    "LatencyPredictor",
    "LatencyTable",
    "Meter",
    "OnnxMeter",
    "PredictorMeter",
    "TableMeter",
    "TorchMeter",
    "arguments_of",
    "is_deterministic",
    "make_meter",
    "median_interval",
    "torch_threads",
]
