"""Simplifications that are wrong in one place each must fail the checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.operators.simplify import PASSES, branches, convolutions, fold, follow, identities, units
from rlnas.operators.simplify.alike import Alike, Kinds
from tests.graphs import Builder
from tests.operators.sameness import make_network
from tests.operators.simplify.exactness import check_findings, check_simplify


def network(graph: Graph, **rows: tuple[int, int, float]) -> Network:
    """Random weights, but for some layers row i of which is a multiple of row j."""
    made = make_network(graph, 3)
    tensors = {name: tensor.clone() for name, tensor in made.tensors.items()}
    for layer, (i, j, factor) in rows.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            tensors[name][i] = factor * tensors[name][j]
    return made.with_tensors(tensors)


def normed_twice() -> Network:
    b = Builder(3, 6, 6)
    conv = b.conv(4)
    b.add("add", b.add("batch_norm2d"), b.add("relu", conv))
    b.conv(3)
    return network(b.graph())


def norm_before_padding() -> Network:
    b = Builder(3, 6, 6)
    b.add("batch_norm2d", b.add("relu"))
    b.conv(4)
    return network(b.graph())


def padded_pair() -> Network:
    b = Builder(8, 6, 6)
    b.conv(8, 1)
    b.conv(4, 3)
    return network(b.graph())


def proportional(activation: str = "sigmoid") -> Network:
    b = Builder(3, 6, 6)
    b.conv(4, 3)
    b.add(activation)
    b.conv(4, 3)
    return network(b.graph(), conv2d_1=(1, 2, 2.0))


def constant_before_padding() -> Network:
    made = proportional("relu")
    bias = made.tensors["conv2d_1.bias"].clone()
    bias[0] = 0.5
    weight = made.tensors["conv2d_1.weight"].clone()
    weight[0] = 0.0
    return made.with_tensors({**made.tensors, "conv2d_1.weight": weight, "conv2d_1.bias": bias})


def constant_before_two() -> Network:
    """A channel reads nothing but a constant, past the border of which are zeros."""
    b = Builder(3, 6, 6)
    for out, kernel in ((4, 3), (4, 3), (3, 1)):
        b.conv(out, kernel)
        b.add("relu")
    made = network(b.graph(), conv2d_1=(0, 1, 0.0))
    tensors = {name: tensor.clone() for name, tensor in made.tensors.items()}
    tensors["conv2d_1.bias"][0] = 0.5
    tensors["conv2d_2.weight"][2, 1:] = 0.0
    tensors["conv2d_2.weight"][2, 0] = 1.0
    tensors["conv2d_3.weight"][:, 2] += 1.0
    return made.with_tensors(tensors)


def bottleneck() -> Network:
    b = Builder(8, 6, 6)
    b.conv(2, 1)
    b.conv(8, 1)
    return network(b.graph())


def side_by_side() -> Network:
    b = Builder(3, 6, 6)
    b.add("add", b.conv(4, 3, "image"), b.conv(4, 3, "image", dilation=(2, 2), padding=(2, 2)))
    return network(b.graph())


def shifted() -> Network:
    b = Builder(3, 6, 6)
    b.conv(3, 3)
    b.add("relu")
    weight = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    weight[range(3), range(3), 0, 0] = 1
    made = network(b.graph())
    zero = torch.zeros(3, dtype=torch.float64)
    return made.with_tensors({**made.tensors, "conv2d_1.weight": weight, "conv2d_1.bias": zero})


def no_zeros(node: Any) -> bool:
    return False


def norm_after(graph: Graph, id: str) -> str:
    return next((i for i in graph.consumers[id] if graph.node(i).op == "batch_norm2d"), "")


def unscaled(self: Kinds, given: Alike, *, homogeneous: bool, constant: Any = None) -> Alike:
    return given


FAULTS: dict[str, tuple[Callable[[], Network], Any, str, Any]] = {
    "folds what others read": (normed_twice, fold, "alone", norm_after),
    "folds past padding": (norm_before_padding, fold, "pads_zeros", no_zeros),
    "merges past padding": (padded_pair, convolutions, "pads_zeros", no_zeros),
    "merges what is larger": (bottleneck, convolutions, "saved", lambda before, after: (1, 1)),
    "draws factors out of anything": (proportional, Kinds, "mapped", unscaled),
    "folds constants past padding": (constant_before_padding, units, "pads_zeros", no_zeros),
    "follows constants past padding": (constant_before_two, follow, "pads_zeros", no_zeros),
    "adds up other dilations": (side_by_side, branches, "_kind", lambda layer: layer.op),
    "takes any layer for a copy": (shifted, identities, "_copies", lambda network, node: True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, home, name, wrong = FAULTS[fault]
    one = make()
    check_findings(one)
    check_simplify(one)
    monkeypatch.setattr(home, name, wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        check_findings(one)


def test_every_pass_has_a_fault_that_is_found() -> None:
    homes = {getattr(home, "__name__", "").rpartition(".")[2] for _, home, _, _ in FAULTS.values()}
    assert {kind.__module__.rpartition(".")[2] for kind in PASSES.values()} <= homes
