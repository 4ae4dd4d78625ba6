"""The outline of a graph: what a person would call its blocks and stages."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from rlnas.graph import Graph
from rlnas.graph.order import reading_order
from rlnas.graph.outline import outline
from tests.graphs import Builder, graphs, renamed
from tests.nets import NETS

EXPECTED = {
    "resnet20": ["stem", *(f"stage{s}_block{b}" for s in (1, 2, 3) for b in (1, 2, 3)), "head"],
    "mobilenet": [
        "stem",
        "stage1_block1",
        *("stage2_block1", "stage2_block2"),
        *("stage3_block1", "stage3_block2", "stage3_block3"),
        "head",
    ],
    "densenet": [
        "stem",
        *(f"stage1_block{b}" for b in range(1, 5)),
        "transition1",
        *(f"stage2_block{b}" for b in range(1, 7)),
        "head",
    ],
    "vit": ["stem", "block1", "block2", "block3", "head"],
    "fused_vit": ["stem", "block1", "block2", "head"],
    "squeezenet": ["stem", "stage1_block1", "stage1_block2", "transition1", "stage2_block1", "head"],
    "vgg": [""],
}


@pytest.mark.parametrize("name", NETS)
def test_blocks_are_those_that_the_network_was_built_of(name: str) -> None:
    assert [group.name for group in outline(NETS[name]())] == EXPECTED[name]


def test_a_block_holds_its_layers() -> None:
    graph = NETS["mobilenet"]()
    ops = {group.name: [graph.node(id).op for id in group.nodes] for group in outline(graph)}
    assert ops["stage1_block1"] == ["conv2d", "batch_norm2d", "relu6", "conv2d", "batch_norm2d"]
    assert ops["stage2_block2"][-1] == "add" and ops["stage3_block1"].count("mul") == 1
    assert ops["stage3_block1"][-2:] == ["conv2d", "batch_norm2d"]


@given(graph=graphs(dropout=True))
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_node_is_in_one_group_in_reading_order(graph: Graph) -> None:
    groups = outline(graph)
    assert [id for group in groups for id in group.nodes] == reading_order(graph)
    other, names = renamed(graph, 1)
    assert [[names[id] for id in group.nodes] for group in groups] == [list(g.nodes) for g in outline(other)]
    named = [group.name for group in groups]
    assert len(set(named)) == len(named)


def test_blocks_that_are_normed_after_their_sums_end_with_the_norm() -> None:
    b = Builder(6, 8)
    b.add("linear", out_channels=8)
    for _ in range(3):
        source = b.last
        parts = [b.add("linear", source, out_channels=8) for _ in range(3)]
        b.add("attention", *parts, heads=2, kv_heads=2, scale=0.5)
        b.add("add", b.last, source)
        source = b.add("layer_norm")
        b.add("linear", out_channels=16)
        b.add("relu")
        b.add("add", b.add("linear", out_channels=8), source)
        b.add("layer_norm")
    b.add("reduce", kind="mean", axes=(0,))
    graph = b.graph()
    groups = outline(graph)
    assert [group.name for group in groups] == ["stem", "block1", "block2", "block3", "head"]
    assert {graph.node(group.nodes[-1]).op for group in groups[1:4]} == {"layer_norm"}
    assert [graph.node(id).op for id in groups[4].nodes] == ["reduce"]
