"""Small edits: what they make, and that they keep nodes in a topological order."""

from __future__ import annotations

import pytest

from rlnas.errors import GraphError
from rlnas.graph import Graph, Node, complete
from rlnas.graph.edit import Names, bypass, insert_after, replace_node, resize
from rlnas.spaces import conv_stages
from tests.graphs import Builder, reordered


def in_order(graph: Graph) -> bool:
    """True if every node comes after what it reads, so that nothing has to be sorted."""
    return tuple(graph.sorted_nodes) == graph.nodes


def test_names_are_the_next_free_numbers() -> None:
    b = Builder(1, 4, 4)
    for id in ("conv2", "conv7", "conv", "convolution9", "conv3x", "conv_8"):
        b.conv(1, id=id)
    names = Names(b.graph())
    assert [names.new("conv"), names.new("conv"), names.new("relu")] == ["conv8", "conv9", "relu1"]


def test_insert_after_moves_all_readers() -> None:
    b = Builder(2, 4, 4)
    stem = b.add("relu", id="stem")
    b.add("add", stem, b.conv(2, id="branch"), stem, id="sum")
    new = [Node.make("t", "tanh", "stem"), Node.make("e", "elu", "t")]
    graph = insert_after(b.graph(), "stem", new, output="e")
    assert graph.node("branch").inputs == ("e",) and graph.node("sum").inputs == ("e", "branch", "e")
    assert graph.node("t").inputs == ("stem",) and graph.node("e")["alpha"] == 1.0
    assert in_order(graph) and in_order(insert_after(reordered(b.graph(), 3), "stem", new, output="e"))


def test_insert_after_the_output_moves_the_output() -> None:
    graph = conv_stages((1, 8, 8), 10)
    assert insert_after(graph, "linear1", [Node.make("t", "tanh", "linear1")], output="t").output == "t"


def test_bypass_drops_what_nothing_reads_any_more() -> None:
    b = Builder(2, 4, 4)
    stem = b.add("relu", id="stem")
    b.conv(3, id="first")
    b.add("batch_norm2d", id="norm")
    b.add("add", stem, b.conv(2, id="second"), id="sum")
    b.add("tanh", id="end")
    graph = bypass(b.graph(), "sum", "stem")
    assert [node.id for node in graph.nodes] == ["image", "stem", "end"]
    assert bypass(b.graph(), "end", "sum").output == "sum"
    assert in_order(graph)


def test_resize_follows_flattened_and_depthwise_channels() -> None:
    b = Builder(1, 4, 4)
    b.conv(4, id="first")
    b.conv(4, id="each", groups=4)
    b.add("flatten")
    b.add("linear", id="head", out_channels=3)
    graph = b.graph()
    (cell,) = graph.channels.groups[0].cells
    wide = resize(graph, graph.channels, {cell: 6})
    assert wide.node("each")["out_channels"] == wide.node("each")["groups"] == 6
    assert wide.params("head")["weight"].shape == (3, 6 * 16)
    one = resize(graph, graph.channels, {cell: 1})  # one group of one channel: it counts as dense from here on
    assert one.params("each")["weight"].shape == (1, 1, 3, 3) and one.channels.of("each") is not None
    with pytest.raises(GraphError, match="without channels"):
        resize(graph, graph.channels, {cell: 0})


def test_replace_node() -> None:
    graph = conv_stages((1, 8, 8), 10)
    changed = replace_node(graph, graph.node("conv1").replace(bias=True))
    assert changed.n_params == graph.n_params + 8 and in_order(changed) and graph.node("conv1")["bias"] is False


def test_shared_nodes_share_what_was_worked_out() -> None:
    """An edit works out the nodes again that it changes, and no others."""
    graph = conv_stages((1, 8, 8), 10)
    changed = replace_node(graph, graph.node("linear1").replace(bias=False))
    assert all(changed.facts[id] is graph.facts[id] for id in graph.shapes if id != "linear1")


def test_a_grouped_convolution_with_one_output_a_group_keeps_its_groups() -> None:
    """It is not depthwise: each group reads several channels."""
    nodes = (
        Node.make("image", "input", shape=(4, 6, 6), dtype="float32"),
        Node.make("first", "conv2d", "image", out_channels=4, kernel_size=(1, 1)),
        Node.make("grouped", "conv2d", "first", out_channels=2, kernel_size=(1, 1), groups=2),
        Node.make("last", "conv2d", "grouped", out_channels=3, kernel_size=(1, 1)),
    )
    graph = Graph(tuple(map(complete, nodes)), "last")
    group = graph.channels.of("grouped")
    assert group is not None
    wider = resize(graph, graph.channels, dict.fromkeys(group.cells, 2))
    assert (wider.node("grouped")["groups"], wider.node("grouped")["out_channels"]) == (2, 4)
