"""The layers of a network in words and as a table."""

from __future__ import annotations

import pytest

from rlnas.graph import Graph, Node
from rlnas.graph.outline import outline
from rlnas.report.layers import columns, layer_table, total_lines
from rlnas.report.words import LONGEST, in_words
from tests.graph.examples import EXAMPLES, example
from tests.graphs import Builder
from tests.nets import NETS


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_op_has_words(name: str) -> None:
    graph = example(name)
    for node in graph.nodes:
        words = in_words(graph, node.id)
        assert words and "\n" not in words and len(words) <= LONGEST and "self." not in words


def test_words() -> None:
    b = Builder(8, 16, 16)
    b.conv(16, 5, id="a", stride=(2, 2))
    b.conv(16, 3, id="b", groups=16)
    b.conv(32, 3, id="c", groups=4, dilation=(2, 2), padding=(2, 2))
    b.add("group_norm", id="d", groups=8)
    b.add("leaky_relu", id="e", negative_slope=0.2)
    b.add("hardtanh", id="k", min_val=0.0, max_val=6.0)
    b.add("max_pool2d", id="f", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))
    b.add("adaptive_avg_pool2d", id="g")
    b.add("flatten", id="h")
    b.add("linear", id="i", out_channels=10, bias=False)
    b.add("dropout", id="j", p=0.25)
    graph = b.graph()
    assert {id: in_words(graph, id) for id in "abcdefghijk"} == {
        "a": "5x5 conv 8 -> 16, stride 2",
        "b": "3x3 depthwise conv 16",
        "c": "3x3 conv 16 -> 32, dilation 2, 4 groups",
        "d": "group norm, 8 groups",
        "e": "leaky relu, negative_slope 0.2",
        "f": "3x3 max pool, stride 2",
        "g": "avg pool, global",
        "h": "flatten",
        "i": "linear 32 -> 10, no bias",
        "j": "dropout 0.25",
        "k": "relu6",
    }


def test_words_of_attention_and_tied_tensors() -> None:
    graph = NETS["vit"]()
    attention = next(node.id for node in graph.nodes if node.op == "attention")
    assert in_words(graph, attention) == "attention, 3 heads"
    nodes = (
        Node.make("x", "input", shape=(4,), dtype="float32"),
        Node.make("first", "linear", "x", out_channels=4, bias=True),
        Node.make("second", "linear", "first", out_channels=4, bias=True, shares="first"),
    )
    assert in_words(Graph(nodes, "second"), "second") == "linear 4 -> 4, tensors of first"


@pytest.mark.parametrize("name", NETS)
def test_table_has_a_row_for_each_node_and_sums_by_block(name: str) -> None:
    graph = NETS[name]()
    lines = layer_table(graph)[2:]
    nodes = [line for line in lines if line.split()[0] in graph]
    assert sorted(line.split()[0] for line in nodes) == sorted(graph.shapes)
    groups = [group for group in outline(graph) if group.name]
    headings = [line.split() for line in lines if line not in nodes]
    assert [words[0] for words in headings] == [group.name for group in groups]
    for group, words in zip(groups, headings, strict=True):
        n_params = sum(graph.node_costs[id][0] for id in group.nodes)
        assert words[1:2] == [f"{n_params:,}"] or not n_params


def test_many_inputs_are_not_all_named() -> None:
    b = Builder(2, 4, 4)
    parts = [b.conv(2, 3, "image", id=f"part{k:05d}") for k in range(7)]
    b.add("concat", *parts, id="joined")
    (line,) = (line for line in layer_table(b.graph()) if line.split()[0] == "joined")
    assert "4 more, part00004, part00005, part00006 " in line and "part00003" not in line


def test_totals() -> None:
    b = Builder(1, 4, 4)
    b.conv(2)
    graph = b.graph()
    assert total_lines(graph) == [
        "2 nodes, 1x4x4 -> 2x4x4",
        "20 parameters (0.1 KiB in float32)",
        "288 MACs (576 FLOPs) for one sample",
        "0.2 KiB of activations at once for one sample in float32",
    ]


def test_columns() -> None:
    rows = [("name", "n"), ("a", "10"), ("long one", "7")]
    assert columns(rows, left=(0,)) == ["name       n", "------------", "a         10", "long one   7"]
    assert columns(rows[1:], left=(0,), ruled=False) == ["a         10", "long one   7"]
