from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rlnas.errors import SpaceError
from rlnas.network import Network
from rlnas.spaces import nas_bench_201, nas_bench_201_blocks
from rlnas.spaces.nas_bench_201 import CELL_OPS, EDGES, live_edges, parse_cell

DATA = Path(os.environ.get("RLNAS_DATA") or Path(__file__).parents[3] / "shared" / "data") / "nasbench201.npz"


def text(*ops: str) -> str:
    parts = iter(ops)
    return "+".join("|" + "".join(f"{next(parts)}~{i}|" for i in range(j)) for j in (1, 2, 3))


NOTHING, SKIP, CONV1, CONV3, POOL = CELL_OPS
ALL3 = text(*[CONV3] * 6)


@pytest.mark.parametrize(
    ("cell", "n_params"),
    [
        (ALL3, 1_531_546),
        (text(POOL, CONV1, SKIP, CONV1, SKIP, SKIP), 129_306),
        (text(*[SKIP] * 6), 73_306),
    ],
)
def test_parameters_are_the_published_ones(cell: str, n_params: int) -> None:
    assert nas_bench_201(cell).n_params == n_params


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published data")
def test_parameters_are_the_published_ones_wherever_no_layer_is_idle() -> None:
    data = np.load(DATA, allow_pickle=False)
    equal = 0
    for index in np.random.default_rng(3).choice(15_625, 60, replace=False):
        cell, published = data["arch"][index].decode(), int(data["cifar10_params"][index])
        ops = dict(zip(EDGES, parse_cell(cell), strict=True))
        idle = [edge for edge, op in ops.items() if "conv" in op and edge not in live_edges(ops)]
        found = nas_bench_201(cell).n_params
        assert (found == published) == (not idle) and found <= published
        equal += not idle
    assert 20 < equal < 60


def test_cells_that_compute_the_same_are_the_same_graph() -> None:
    idle = text(CONV3, CONV1, CONV3, CONV3, NOTHING, NOTHING)
    assert nas_bench_201(idle).key == nas_bench_201(text(NOTHING, NOTHING, NOTHING, CONV3, NOTHING, NOTHING)).key
    one, other = (
        text(CONV3, NOTHING, NOTHING, POOL, CONV1, NOTHING),
        text(NOTHING, CONV3, NOTHING, POOL, NOTHING, CONV1),
    )
    assert nas_bench_201(one).key == nas_bench_201(other).key != nas_bench_201(ALL3).key


def test_a_cell_without_a_way_through_gives_zeros() -> None:
    graph = nas_bench_201(text(CONV3, NOTHING, SKIP, NOTHING, NOTHING, NOTHING), cells=1, channels=4)
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    outputs = network.module()(images)
    assert torch.allclose(outputs[0], outputs[1], atol=1e-6) and not torch.allclose(images[0], images[1])


def test_the_pooling_does_not_count_the_margin() -> None:
    graph = nas_bench_201(text(*[POOL] * 6), cells=1)
    pools = [node for node in graph.nodes if node.op == "avg_pool2d" and node["padding"] == (1, 1)]
    assert len(pools) == 18 and not any(node["count_include_pad"] for node in pools)


def test_blocks_are_the_stem_the_cells_and_the_reductions() -> None:
    graph, ends = nas_bench_201(ALL3), nas_bench_201_blocks(ALL3)
    assert len(ends) == 18 and all(end in graph for end in ends)
    assert [graph.shapes[end][0] for end in ends] == [16] * 6 + [32] * 6 + [64] * 6
    skips = nas_bench_201_blocks(text(NOTHING, NOTHING, NOTHING, SKIP, NOTHING, NOTHING))
    assert len(skips) == 18 and len(set(skips)) == 3


@pytest.mark.parametrize(
    "cell", ["", "|none~0|", ALL3 + "|none~3|", ALL3.replace("~2", "~1"), ALL3.replace("3x3", "5x5")]
)
def test_what_is_no_cell_is_refused(cell: str) -> None:
    with pytest.raises(SpaceError, match="cell"):
        nas_bench_201(cell)


@pytest.mark.parametrize(
    "arguments", [{"input_shape": (3, 2, 32)}, {"input_shape": (3,)}, {"channels": 0}, {"cells": 0}]
)
def test_sizes_that_make_no_sense_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(SpaceError, match="at least"):
        nas_bench_201(ALL3, **arguments)  # type: ignore[arg-type]
