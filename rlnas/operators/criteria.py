"""By which the channels that go are chosen: one criterion a class, all in `CRITERIA`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import OperatorError, unknown_name
from rlnas.graph import Graph
from rlnas.graph.cells import Axis
from rlnas.network import Network
from rlnas.operators.importance import Units
from rlnas.operators.patches import BATCH

PROBES = 16


class Criterion(ABC):
    """What a channel, or another unit, is worth.

    Attributes:
        name: Key in `CRITERIA`.
        needs_calibration: True if it is nothing without calibration inputs.
    """

    name: str
    needs_calibration: bool = False

    def obstacle(self, graph: Graph, cells: Iterable[int]) -> str | None:
        """Why channels of these cells cannot be told apart by it, as a half sentence; None if they can."""
        return None

    @abstractmethod
    def scores(
        self, network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor | None
    ) -> Tensor | None:
        """What each unit is worth, float64; None if units are weighed against each other as they go.

        Args:
            readers: Layers that read the units.
        """


class Magnitude(Criterion):
    """Product of the squared norms of what makes a channel and of what reads it.

    References:
        Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017, arXiv:1608.08710.
    """

    name = "magnitude"

    def scores(
        self, network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor | None
    ) -> Tensor | None:
        graph, n = network.graph, len(units.pools)
        rows, columns = (torch.zeros(n, dtype=torch.float64) for _ in range(2))
        for id in graph.order:
            named = graph.channels.rows[id]
            if graph.facts[id].flow.kind == "layer" and graph.node(id).op != "parameter" and "out" in named:
                _add(rows, units, named["out"], network, _squares(network, id, "out"))
        for id in readers:
            _add(columns, units, graph.channels.rows[id]["in"], network, _squares(network, id, "in"))
        return rows * columns if bool(columns.any()) else rows


class BatchNormScale(Criterion):
    """Mean size of the factors by which BatchNorms scale a channel.

    References:
        Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017, arXiv:1708.06519.
    """

    name = "batch_norm_scale"

    def obstacle(self, graph: Graph, cells: Iterable[int]) -> str | None:
        scaled = {cell for id in _batch_norms(graph) for cell, _ in graph.channels.rows[id].get("out", ())}
        return None if scaled.issuperset(cells) else "not all of its channels pass a BatchNorm that scales them"

    def scores(
        self, network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor | None
    ) -> Tensor | None:
        graph = network.graph
        sizes, counts = (torch.zeros(len(units.pools), dtype=torch.float64) for _ in range(2))
        for id in _batch_norms(graph):
            scale, row = network.tensors[f"{id}.weight"], graph.channels.rows[id].get("out", ())
            if row:  # none where its channels are those of the network's input
                _add(sizes, units, row, network, scale.abs())
                _add(counts, units, row, network, torch.ones_like(scale))
        return sizes / counts.clamp_min(1.0)


class Taylor(Criterion):
    """Mean square of the change of the outputs to first order in a factor on the channel, as if it fell from 1 to 0.

    The published criterion takes the change of the loss, for which it needs targets. Calibration inputs have none, so
    that this one sums over the outputs: those of the network itself, or random sums of them if there are many.

    References:
        Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient Inference, ICLR 2017,
        arXiv:1611.06440.
    """

    name = "taylor"
    needs_calibration = True

    def scores(
        self, network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor | None
    ) -> Tensor | None:
        if calibration is None:
            raise OperatorError("the criterion taylor needs calibration inputs; pass calibration=..., or use magnitude")
        module, gates = network.module().eval().requires_grad_(False), _Gates(network, units)
        for id in readers:
            module.get_submodule(id).register_forward_pre_hook(gates.on(id))
        total = torch.zeros(len(units.pools), dtype=torch.float64)
        with torch.enable_grad():
            for first in range(0, len(calibration), BATCH):
                batch = calibration[first : first + BATCH]
                gates.open(len(batch))
                outputs = module(batch).flatten(1)
                probes = _probes(outputs.shape[1]).to(outputs.dtype)
                for k, probe in enumerate(probes):
                    (gradient,) = torch.autograd.grad(
                        (outputs @ probe).sum(), gates.values, retain_graph=k + 1 < len(probes)
                    )
                    total += gradient.double().square().sum(0)
        return total / len(calibration)


class Reconstruction(Criterion):
    """What the readers would miss once they are refitted to what is left; without calibration inputs, the magnitude.

    References:
        He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017, arXiv:1707.06168.
        Luo, Wu, Lin, ThiNet, ICCV 2017, arXiv:1707.06342 (one channel after the other).
    """

    name = "reconstruction"

    def scores(
        self, network: Network, units: Units, readers: tuple[str, ...], calibration: Tensor | None
    ) -> Tensor | None:
        return Magnitude().scores(network, units, readers, None) if calibration is None else None


CRITERIA: dict[str, Criterion] = {
    criterion.name: criterion for criterion in (Magnitude(), BatchNormScale(), Taylor(), Reconstruction())
}
"""All criteria by name."""


def get_criterion(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        OperatorError: If there is none; the message lists all.
    """
    if name not in CRITERIA:
        raise OperatorError(unknown_name("criterion", name, CRITERIA))
    return CRITERIA[name]


def _batch_norms(graph: Graph) -> list[str]:
    nodes = [graph.node(id) for id in graph.order]
    return [node.id for node in nodes if node.op.startswith("batch_norm") and node["affine"]]


def _squares(network: Network, id: str, name: str) -> Tensor:
    """Squared norm of each row, or of each column, of a layer's weight; columns of all blocks one after the other."""
    axis = network.graph.params(id)["weight"].axes.index(name)
    weight: Tensor = network.tensors[f"{id}.weight"].double()
    if name == "out" or axis == 0:
        return weight.movedim(axis, 0).flatten(1).square().sum(1)
    n = network.graph.input_shapes(id)[0][-1 if network.graph.node(id).op == "linear" else 0] // weight.shape[1]
    return weight.reshape(n, len(weight) // n, weight.shape[1], -1).square().sum((1, 3)).flatten()


def _numbers(units: Units, row: Axis, lengths: Mapping[int, int]) -> Tensor:
    """The unit of each place along a row of cells; -1 for places of other cells."""
    parts: list[Tensor] = [
        units.of.get(cell, torch.full((lengths[cell],), -1)).repeat_interleave(block) for cell, block in row
    ]
    return torch.cat(parts)


def _add(scores: Tensor, units: Units, row: Axis, network: Network, values: Tensor) -> None:
    """Add the values of places along a row to the scores of their units."""
    numbers = _numbers(units, row, network.graph.channels.lengths)
    ours = numbers >= 0
    scores.index_add_(0, numbers[ours], values.double()[ours])


def _probes(outputs: int) -> Tensor:
    """Each output by itself if there are few, else sums of all with random signs, always the same ones."""
    if outputs <= PROBES:
        return torch.eye(outputs)
    signs = torch.randint(0, 2, (PROBES, outputs), generator=torch.Generator().manual_seed(0))
    return torch.where(signs > 0, PROBES**-0.5, -(PROBES**-0.5))


class _Gates:
    """Factors of 1 on every unit where layers read it, one for each sample."""

    def __init__(self, network: Network, units: Units) -> None:
        self._network, self._units = network, units
        self.values = torch.empty(0)

    def open(self, n: int) -> None:
        """Fresh factors for a batch of n samples."""
        self.values = torch.ones(n, len(self._units.pools), dtype=self._network.dtype, requires_grad=True)

    def on(self, id: str) -> Any:
        """A hook that multiplies what a layer reads by the factors."""
        graph = self._network.graph
        numbers = _numbers(self._units, graph.channels.rows[id]["in"], graph.channels.lengths)
        fixed, last = numbers < 0, graph.node(id).op == "linear"

        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            read = args[0]
            factors = self.values[:, numbers.clamp_min(0)].masked_fill(fixed, 1.0)
            middle = (1,) * (read.dim() - 2)
            shape = (len(read), *middle, -1) if last else (len(read), -1, *middle)
            return (read * factors.reshape(shape), *args[1:])

        return hook
