"""Layers as linear maps: what they read, times their weights as a matrix, is what they make."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlnas.operators.elimination import Elimination, eliminate
from rlnas.operators.patches import from_matrix, n_columns, rows, to_matrix, waves
from tests.graphs import Builder
from tests.operators.sameness import generator, make_inputs, make_network

LAYERS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "linear": ((6,), {}),
    "linear on tokens": ((3, 5, 6), {}),
    "conv1d": ((4, 9), {"kernel_size": (3,), "stride": (2,), "padding": (2,), "padding_mode": "replicate"}),
    "conv2d": ((4, 9, 7), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 2), "dilation": (2, 3)}),
    "conv2d, reflect": ((4, 6, 7), {"kernel_size": (3, 3), "padding": (2, 1), "padding_mode": "reflect"}),
    "conv2d, circular": ((4, 6, 7), {"kernel_size": (3, 3), "padding": (2, 1), "padding_mode": "circular"}),
    "conv2d, groups": ((4, 6, 7), {"kernel_size": (3, 3), "groups": 2}),
    "conv2d, depthwise": ((4, 6, 7), {"kernel_size": (3, 3), "groups": 4, "out_channels": 4}),
    "conv3d": ((4, 4, 5, 3), {"kernel_size": (2, 3, 1), "stride": (1, 2, 1), "padding": (1, 1, 0)}),
    "conv_transpose2d": ((4, 4, 5), {"kernel_size": (3, 2)}),
    "conv_transpose2d, strided": (
        (4, 4, 5),
        {"kernel_size": (4, 3), "stride": (2, 3), "padding": (1, 2), "output_padding": (1, 2), "dilation": (1, 2)},
    ),
    "conv_transpose2d, wide padding": ((4, 5, 5), {"kernel_size": (2, 2), "padding": (2, 2), "stride": (2, 2)}),
    "conv_transpose2d, groups": ((4, 4, 5), {"kernel_size": (3, 3), "stride": (2, 2), "groups": 2}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_the_matrix_are_what_the_layer_makes(name: str) -> None:
    shape, attrs = LAYERS[name]
    b = Builder(*shape)
    b.add(name.split(",")[0].split(" ")[0], id="layer", **{"out_channels": 6} | attrs)
    b.add("relu")
    graph = b.graph()
    network, node = make_network(graph, 0), graph.node("layer")
    inputs = make_inputs(graph, 1, n=70)  # more than one batch
    seen = rows(network, {"layer": n_columns(graph, "layer")}, inputs)["layer"]
    weight = network.tensors["layer.weight"]
    matrix = to_matrix(weight, node)
    made = torch.einsum("rgc,goc->rgo", seen.read, matrix).flatten(1) + network.tensors["layer.bias"]
    assert torch.allclose(made, seen.made, atol=1e-12)
    assert torch.equal(from_matrix(matrix, weight.shape, node), weight)


def test_layers_that_depend_on_each_other_are_in_different_waves() -> None:
    b = Builder(2, 6, 6)
    stem = b.conv(4, id="stem")
    ends = [b.conv(4, 3, stem, id="left"), b.conv(4, 3, stem, id="right")]
    b.add("add", *ends)
    b.conv(4, id="after")
    graph = b.graph()
    assert [sorted(wave) for wave in waves(graph, ["after", "left", "right"])] == [["left", "right"], ["after"]]


def reference(gram: torch.Tensor, weights: torch.Tensor, kept: list[int]) -> torch.Tensor:
    """Weights refitted to some inputs, from the normal equations."""
    made = torch.zeros_like(weights)
    made[:, kept] = torch.linalg.solve(gram[kept][:, kept], gram[kept] @ weights.T).T
    return made


@pytest.mark.parametrize("size", [1, 2])
def test_dropped_inputs_are_those_whose_loss_costs_least(size: int) -> None:
    """Against the cost of every choice, worked out from the normal equations; units of one and of two inputs."""
    g = generator(0)
    data = torch.randn(200, 8, generator=g, dtype=torch.float64) @ torch.randn(8, 8, generator=g, dtype=torch.float64)
    gram, weights = data.T @ data / 200, torch.randn(3, 8, generator=g, dtype=torch.float64)
    units = torch.arange(8) // size
    layer = Elimination(gram, 0.0, weights, units)
    costs = []
    for unit in range(8 // size):
        lost = weights - reference(gram, weights, (units != unit).nonzero().flatten().tolist())
        costs.append(float(torch.einsum("oi,ij,oj->", lost, gram, lost)))
    assert torch.allclose(layer.costs(8 // size), torch.tensor(costs, dtype=torch.float64), rtol=1e-8)
    gone = eliminate([layer], torch.zeros(8 // size, dtype=torch.int64), [2])
    assert int(gone.sum()) == 2 and bool(gone[int(torch.tensor(costs).argmin())])
    kept = (~gone[units]).nonzero().flatten().tolist()
    assert torch.allclose(layer.weights(), reference(gram, weights, kept), atol=1e-9)


def test_many_units_are_dropped_in_rounds_nearly_as_well_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    g = generator(0)
    mixed = torch.randn(60, 120, generator=g, dtype=torch.float64)
    data = torch.randn(500, 60, generator=g, dtype=torch.float64) @ mixed
    data += 0.1 * torch.randn(500, 120, generator=g, dtype=torch.float64)
    gram, weights = data.T @ data / 500, torch.randn(9, 120, generator=g, dtype=torch.float64)

    def lost() -> float:
        layer = Elimination(gram, 0.0, weights, torch.arange(120))
        gone = eliminate([layer], torch.zeros(120, dtype=torch.int64), [70])
        assert int(gone.sum()) == 70
        missing = weights - layer.weights()
        return float(torch.einsum("oi,ij,oj->", missing, gram, missing))

    one_by_one = lost()
    monkeypatch.setattr("rlnas.operators.elimination.ROUND", 10)
    in_rounds = lost()
    plain = Elimination(gram, 0.0, weights, torch.arange(120))
    plain.drop(torch.arange(70))
    missing = weights - plain.weights()
    assert in_rounds < 1.1 * one_by_one < 0.5 * float(torch.einsum("oi,ij,oj->", missing, gram, missing))


def test_pools_lose_as_many_as_they_can_spare() -> None:
    gram = torch.eye(6, dtype=torch.float64)
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], dtype=torch.float64)
    layer = Elimination(gram, 0.0, weights, torch.arange(6))
    gone = eliminate([layer], torch.tensor([0, 0, 0, 1, 1, 1]), [1, 2])
    assert gone.tolist() == [True, False, False, True, True, False]
