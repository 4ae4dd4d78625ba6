"""Graphs that cannot exist, and damaged files: one line each."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlnas.errors import GraphError, OperatorError, RlnasError
from rlnas.graph import Graph, Node, Site, complete
from rlnas.spaces import conv_stages
from tests.graphs import graphs

QUICK = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
IMAGE = Node.make("image", "input", shape=(2, 6, 6), dtype="float32")
IMAGE_B = Node.make("b", "input", shape=(2, 6, 6), dtype="float32")
FEATURES = Node.make("image", "input", shape=(2,), dtype="float32")


def conv(id: str, source: str, **attrs: Any) -> Node:
    return complete(Node.make(id, "conv2d", source, **({"out_channels": 4, "kernel_size": (3, 3)} | attrs)))


def make(op: str, *inputs: str, **attrs: Any) -> Node:
    return complete(Node.make("a", op, inputs or ("image",), **attrs))


@pytest.mark.parametrize(
    ("nodes", "output", "words"),
    [
        ([IMAGE, Node.make("a", "relux", "image")], "a", r"node a: unknown op 'relux'\. Did you mean 'relu6?'"),
        ([IMAGE, make("relu", "imag")], "a", "relu a reads 'imag'"),
        ([IMAGE, make("relu")], "b", "output 'b'"),
        ([IMAGE, Node.make("a", "relu", "b"), Node.make("b", "relu", "a")], "b", "cycle through a, b"),
        ([IMAGE, make("relu"), make("tanh")], "a", "'a' is used twice"),
        ([make("tanh"), IMAGE, make("relu")], "a", "'a' is used twice"),
        ([IMAGE, make("add")], "a", "add a takes 2 or more inputs, got 1"),
        ([IMAGE, make("relu", "image", "image")], "a", "relu a takes 1 inputs, got 2"),
        ([IMAGE, Node.make("a", "input", "image", shape=(2,))], "a", "input a takes 0 inputs, got 1"),
        ([IMAGE, Node.make("a", "relu", "image", slope=1)], "a", "relu a: unknown attribute 'slope'"),
        ([IMAGE, Node.make("a", "conv2d", "image", out_channels=4)], "a", "conv2d a lacks the attribute 'kernel_size'"),
        ([IMAGE, Node("a", "dropout", ("image",), (("p", 0.1), ("p", 0.2)))], "a", "once each"),
        ([IMAGE, conv("a", "image", groups=3)], "a", "groups=3 must divide 2 inputs and 4 outputs"),
        ([IMAGE, conv("a", "image", groups=2, out_channels=3)], "a", "groups=2 must divide"),
        ([IMAGE, conv("a", "image", kernel_size=(9, 9))], "a", "a window of 9 does not fit into 6"),
        ([IMAGE, conv("a", "image", bias=1)], "a", "bias=1 should be true or false"),
        ([IMAGE, conv("a", "image", out_channels=True)], "a", "out_channels=True should be a whole number"),
        ([IMAGE, conv("a", "image", out_channels=4.0)], "a", r"out_channels=4\.0 should be a whole number"),
        ([IMAGE, conv("a", "image", out_channels=0)], "a", "out_channels=0 should be a whole number of at least 1"),
        ([IMAGE, conv("a", "image", kernel_size=3)], "a", "kernel_size=3 should be a list of whole numbers"),
        ([IMAGE, conv("a", "image", kernel_size=(3, 3, 3))], "a", "should be two whole numbers"),
        ([IMAGE, conv("a", "image", stride=(1, 0))], "a", r"stride=\(1, 0\) should be .* at least 1"),
        ([IMAGE, conv("a", "image", padding=(-1, 0))], "a", r"padding=\(-1, 0\) should be .* at least 0"),
        ([IMAGE, make("dropout", p=1.0)], "a", r"p=1\.0 should be a number in"),
        ([IMAGE, make("dropout", p=0)], "a", "p=0 should be a number in"),
        ([IMAGE, make("batch_norm2d", eps=float("nan"))], "a", "eps=nan"),
        ([IMAGE, make("batch_norm2d", momentum=2.0)], "a", r"momentum=2\.0"),
        ([IMAGE, make("gelu", approximate="no")], "a", "approximate='no' should be 'none' or 'tanh'"),
        ([IMAGE, make("elu", alpha=float("inf"))], "a", "alpha=inf should be a finite number"),
        ([IMAGE, make("max_pool2d", kernel_size=(2, 2), stride=(2, 2), padding=(2, 2))], "a", "more than half"),
        ([IMAGE, conv("b", "image"), make("add", "b", "image")], "a", r"different shapes \(4, 4, 4\), \(2, 6, 6\)"),
        ([IMAGE, conv("b", "image"), make("concat", "b", "image")], "a", "sizes beside axis 0 differ"),
        (
            [FEATURES, make("batch_norm2d")],
            "a",
            r"needs an input of \(channels",
        ),
        (
            [IMAGE, IMAGE_B, make("add", "image", "b")],
            "a",
            "exactly one input node",
        ),
        ([Node.make("image", "input", shape=(0, 6, 6), dtype="float32")], "image", "at least 1"),
        ([Node.make("image", "input", shape=(), dtype="float32")], "image", r"shape=\(\)"),
        ([], "image", "not a node"),
        ([IMAGE, make("relu"), Node.make("b", "tanh", "image")], "a", "nothing reads tanh b"),
        ([IMAGE, make("relu"), Node.make("b", "tanh", "a"), Node.make("c", "tanh", "b")], "b", "nothing reads tanh c"),
    ],
)
def test_impossible_graphs_say_why_in_one_line(nodes: list[Node], output: str, words: str) -> None:
    with pytest.raises(GraphError, match=words) as caught:
        Graph(tuple(nodes), output)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("id", ["not a name", "1st", "", "class", "a.b", "_hidden", "Übung", "a\n"])
def test_ids_that_name_no_module(id: str) -> None:
    with pytest.raises(GraphError, match="cannot name a module"):
        Node.make(id, "relu", "image")


@pytest.mark.parametrize("value", [None, [1.5, 2], ["3", 3], {"a": 1}, [True, 2], [[1, 2]]])
def test_values_that_are_no_attributes(value: Any) -> None:
    with pytest.raises(GraphError, match="attribute value") as caught:
        Node.make("a", "conv2d", "image", kernel_size=value)
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_node_does_not_depend_on_what_was_seen_before() -> None:
    """True == 1 == 1.0 as keys of a memo, but not as attributes."""
    for name, right, wrong in (("groups", 1, True), ("groups", 1, 1.0), ("bias", True, 1)):
        assert Graph((IMAGE, conv("a", "image", **{name: right})), "a").n_params
        with pytest.raises(GraphError):
            Graph((IMAGE, conv("a", "image", **{name: wrong})), "a")


def test_unknown_node_of_a_graph() -> None:
    with pytest.raises(GraphError, match=r"unknown node 'conv9'\. Did you mean 'conv"):
        conv_stages((1, 8, 8), 10).node("conv9")
    with pytest.raises(GraphError, match="unknown op 'conv4d'"):
        complete(Node.make("a", "conv4d", "image"))


@given(graph=graphs(dropout=True))
@QUICK
def test_json_and_pickle_round_trip(graph: Graph) -> None:
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again.key == graph.key and again.order == graph.order and set(again.nodes) == set(graph.nodes)
    assert again.to_json() == graph.to_json()
    assert hash(graph) == hash(Graph(graph.nodes, graph.output))
    for made in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph), copy.copy(graph)):
        assert made == graph and hash(made) == hash(graph) and made.order == graph.order


def test_computing_does_not_change_what_is_pickled() -> None:
    fresh, used = conv_stages((1, 8, 8), 10), conv_stages((1, 8, 8), 10)
    assert used.channels and used.key and used.peak_memory_bytes
    assert pickle.dumps(used) == pickle.dumps(fresh)


def damage(data: Any, path: list[int], value: Any) -> Any:
    """Put a value somewhere into nested JSON."""
    if not path or not isinstance(data, dict | list) or not data:
        return value
    keys = list(data) if isinstance(data, dict) else list(range(len(data)))
    key = keys[path[0] % len(keys)]
    made = copy.copy(data)
    made[key] = damage(data[key], path[1:], value)
    return made


JSON = st.sampled_from([None, True, 0, -1, 2.5, "", "conv1", [], [1], [[]], {}, {"id": "a"}, [None, None], "x" * 9])


@given(path=st.lists(st.integers(0, 30), min_size=0, max_size=5), value=JSON)
@settings(QUICK, max_examples=400)
def test_damaged_json_is_refused_in_one_line_or_is_a_graph(path: list[int], value: Any) -> None:
    data = json.loads(json.dumps(damage(conv_stages((1, 8, 8), 10).to_json(), path, value)))
    try:
        graph = Graph.from_json(data)
    except GraphError as error:
        assert "\n" not in str(error)
    else:
        assert Graph.from_json(graph.to_json()).key == graph.key


@given(path=st.lists(st.integers(0, 30), min_size=0, max_size=2), value=JSON)
@settings(QUICK, max_examples=100)
def test_damaged_site_is_refused_in_one_line_or_is_a_site(path: list[int], value: Any) -> None:
    try:
        site = Site.from_json(damage(Site("widen", "conv1", None, 2.0).to_json(), path, value))
    except OperatorError as error:
        assert "\n" not in str(error) and isinstance(error, RlnasError)
    else:
        assert Site.from_json(site.to_json()) == site and str(site)
