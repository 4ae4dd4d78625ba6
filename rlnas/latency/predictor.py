"""Predictors: the latency of an architecture from its amounts of work, fitted to measured networks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from rlnas.errors import MeterError
from rlnas.graph import Graph
from rlnas.latency.features import Features, features
from rlnas.latency.files import read_json, write_json
from rlnas.latency.meter import Latency, Meter
from rlnas.latency.ridge import HeldOut, fit, predict
from rlnas.latency.table import check_same
from rlnas.network import Network

FORMAT: Final = "rlnas.latency-predictor/1"
KIND: Final = "latency predictor"
FEWEST: Final = 30
FAR: Final = 2.0
AGREE: Final = 0.05
MORE: Final = 2


@dataclass(frozen=True)
class Measured:
    """A network that was measured, perhaps several times.

    Attributes:
        features: Its amounts of work.
        latencies: Each measurement.
    """

    features: Features
    latencies: tuple[Latency, ...]

    @property
    def ms(self) -> float:
        """Median of the measurements."""
        return float(median(latency.ms for latency in self.latencies))

    @property
    def apart(self) -> float:
        """How far the two closest measurements are apart: the larger over the smaller, less one; infinite for one."""
        ms = sorted(latency.ms for latency in self.latencies)
        return min((b / a - 1 for a, b in pairwise(ms)), default=math.inf)


@dataclass
class LatencyPredictor:
    """Measured networks, and what follows from them.

    Attributes:
        meter: What measured them, on what: the meter's description.
        measured: What was measured, by graph key.
        state: What the latencies are relative to: the meter's state.
        costs: Milliseconds for each unit of each feature; empty before `fit`.
        held_out: Errors on held-out networks; None before `fit`.
    """

    meter: Mapping[str, Any]
    measured: dict[str, Measured] = field(default_factory=dict)
    state: Mapping[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    held_out: HeldOut | None = None

    @property
    def batch_size(self) -> int:
        """Samples in one pass."""
        return int(self.meter["batch_size"])

    def fit(self) -> HeldOut:
        """Fit the costs; gives the errors on held-out networks.

        Raises:
            MeterError: If there are too few networks.
        """
        if len(self.measured) < FEWEST:
            raise MeterError(
                f"{len(self.measured)} measured networks are too few to fit a predictor; {FEWEST} are needed"
            )
        rows = [self.measured[key] for key in sorted(self.measured)]
        self.costs, self.held_out = fit([row.features for row in rows], [row.ms for row in rows])
        return self.held_out

    def latency(self, graph: Graph, *, name: str | Path = "the predictor") -> Latency:
        """Predicted latency, with the interval that 95 % of held-out networks were in.

        Args:
            name: What the predictor is called in messages.

        Raises:
            MeterError: If the network has a kind of operation that no measured one had.
        """
        assert self.held_out is not None
        row = features(graph, batch_size=self.batch_size)
        if unknown := sorted(set(row) - set(self.costs)):
            kind = unknown[0].split(".")[0]
            raise MeterError(
                f"{name} was fitted on networks without {kind}, so it knows no latency of one with it; fit it on a "
                f"space that has it: rlnas latency fit --space CONFIG.yaml --to NEW.json"
            )
        ms, spread = predict(self.costs, row), self.held_out.relative_95
        if ms <= 0:
            raise MeterError(f"{name} predicts no time at all for network {graph.key}; fit it on networks like it")
        low, high = ms * max(1 - spread, 0.0), ms * (1 + spread)
        return Latency(ms, low, high, len(self.measured), self._far(row))

    def _far(self, row: Features) -> tuple[str, ...]:
        """A warning if a network has much more of something than any measured one."""
        for name, value in sorted(row.items()):
            most = max((seen.features.get(name, 0.0) for seen in self.measured.values()), default=0.0)
            if value > FAR * most:
                return (f"extrapolated: {name} is {value / most:.1f} times that of any network that was measured",)
        return ()

    # ------------------------------------------------------------------------------------------------------- files

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        networks = [
            {"graph": key, "features": row.features, "measurements": [latency.to_json() for latency in row.latencies]}
            for key, row in sorted(self.measured.items())
        ]
        return {
            "format": FORMAT,
            "meter": dict(self.meter),
            "state": dict(self.state),
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "costs": self.costs,
            "networks": networks,
        }

    def save(self, path: str | Path) -> None:
        """Write the predictor as a whole.

        Raises:
            MeterError: If it cannot be written.
        """
        write_json(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> LatencyPredictor:
        """Read what `save` wrote.

        Raises:
            MeterError: If it is missing, damaged or something else; says what.
        """
        data = read_json(Path(path), kind=KIND, format=FORMAT)
        try:
            found = cls(dict(data["meter"]), state=_numbers(data["state"]), costs=_numbers(data["costs"]))
            for entry in data["networks"]:
                latencies = tuple(Latency.from_json(latency) for latency in entry["measurements"])
                if not latencies:
                    raise ValueError(f"network {entry['graph']} was never measured")
                found.measured[str(entry["graph"])] = Measured(_numbers(entry["features"]), latencies)
            if data["held_out"] is not None:
                found.held_out = HeldOut(**_numbers(data["held_out"]))
            if found.batch_size < 1:
                raise ValueError(f"batch_size={found.batch_size}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise MeterError(f"the {KIND} {path} is damaged: {what}") from None
        return found


class PredictorMeter:
    """Predicts latency instead of running networks: deterministic, and known before anything is trained.

    Args:
        predictor: File that `rlnas latency fit` wrote, on this machine or another.

    Raises:
        MeterError: If the file is missing, damaged or something else, or was never fitted.
    """

    deterministic = True

    def __init__(self, *, predictor: str | Path) -> None:
        self._name = str(predictor)
        self._predictor = LatencyPredictor.load(predictor)
        if self._predictor.held_out is None:
            n = len(self._predictor.measured)
            raise MeterError(f"{predictor} holds {n} measured networks but no fit yet; go on with rlnas latency fit")
        costs = json.dumps(self._predictor.costs, sort_keys=True)
        self._hash = hashlib.blake2b(costs.encode(), digest_size=8).hexdigest()

    @property
    def description(self) -> Mapping[str, Any]:
        """The predictor's costs by their hash, and what its networks were measured with."""
        return {"meter": "predictor", "predictor": self._hash, "measured": dict(self._predictor.meter)}

    def state(self) -> dict[str, float]:
        """Nothing: a predictor does not change."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing to take over."""

    def graph_ms(self, graph: Graph) -> float:
        """Latency of an architecture.

        Raises:
            MeterError: If it has operations that the predictor knows nothing of.
        """
        return self._predictor.latency(graph, name=self._name).ms

    def measure(self, networks: Sequence[Network]) -> list[Latency]:
        """Latency of each network.

        Raises:
            MeterError: If it has operations that the predictor knows nothing of.
        """
        return [self._predictor.latency(network.graph, name=self._name) for network in networks]


def collect(
    predictor: LatencyPredictor,
    graphs: Sequence[Graph],
    *,
    meter: Meter,
    passes: int = 2,
    on_network: Callable[[Graph, Latency], None] = lambda graph, latency: None,
) -> None:
    """Measure networks for a predictor; an interrupted call keeps what it has, and another one goes on with it.

    Each is measured ``passes`` times: all of them once, then all of them again, so that a slow hour of the machine does
    not spoil some of them. Where no two measurements agree to 5 %, up to two more follow.

    Args:
        on_network: Called after each measurement.

    Raises:
        MeterError: If one cannot be measured, or the predictor is of another device, runtime or setting.
    """
    check_same(predictor.meter, meter.description, f"the {KIND}")
    meter.restore(predictor.state)
    for graph in graphs:  # a file may be older than the features
        if before := predictor.measured.get(graph.key):
            fresh = features(graph, batch_size=predictor.batch_size)
            predictor.measured[graph.key] = Measured(fresh, before.latencies)
    more = MORE if passes > 1 else 0
    for number in range(passes + more):
        for graph in graphs:
            row = predictor.measured.get(graph.key) or Measured(features(graph, batch_size=predictor.batch_size), ())
            if len(row.latencies) > number or (number >= passes and row.apart <= AGREE):
                continue
            network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
            (latency,) = meter.measure([network])
            predictor.measured[graph.key] = Measured(row.features, (*row.latencies, latency))
            predictor.state = meter.state()
            on_network(graph, latency)


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    found = {str(name): float(value) for name, value in data.items()}
    if not all(map(math.isfinite, found.values())):
        raise ValueError("a number in it is not finite")
    return found
