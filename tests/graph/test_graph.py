"""Graphs: canonical key and order, shapes and cost against torch, errors, channel groups, source text."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlnas.errors import GraphError
from rlnas.graph import OPS, Graph, Node, to_source
from rlnas.graph.graph import complete
from rlnas.network import Network
from rlnas.spaces import conv_stages
from tests.graphs import Builder, graphs

QUICK = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def renamed(graph: Graph, seed: int) -> tuple[Graph, dict[str, str]]:
    """The same graph with other ids and its nodes in another order."""
    rng = random.Random(seed)
    numbers = rng.sample(range(1000), len(graph))
    names = {node.id: f"n{number}" for node, number in zip(graph.nodes, numbers, strict=True)}
    nodes = [Node(names[n.id], n.op, tuple(names[i] for i in n.inputs), n.attrs) for n in graph.nodes]
    rng.shuffle(nodes)
    return Graph(tuple(nodes), names[graph.output]), names


def branches(n: int, *, twist: bool = False) -> Graph:
    """n branches of two convolutions, summed; with a twist, one of them has a larger kernel."""
    b = Builder(2, 4)
    stem = b.add("relu")
    ends = []
    for k in range(n):
        first = b.add("conv2d", stem, out_channels=2, kernel_size=(1, 1))
        ends.append(
            b.add(
                "conv2d",
                first,
                out_channels=2,
                kernel_size=(3, 3) if twist and k == 0 else (1, 1),
                padding=(1, 1) if twist and k == 0 else (0, 0),
            )
        )
    b.add("add", *ends)
    return b.graph()


@given(graph=graphs(), seed=st.integers(0, 1000))
@QUICK
def test_key_and_order_do_not_depend_on_ids(graph: Graph, seed: int) -> None:
    other, _ = renamed(graph, seed)
    assert other.key == graph.key
    for a, b in zip(graph.order, other.order, strict=True):
        assert graph.node(a).op == other.node(b).op and graph.node(a).attrs == other.node(b).attrs
        assert graph.shapes[a] == other.shapes[b]
    assert other.n_params == graph.n_params and other.macs == graph.macs
    assert other.peak_memory_bytes == graph.peak_memory_bytes
    assert len(other.channels) == len(graph.channels)


@given(graph=graphs())
@QUICK
def test_order_is_topological(graph: Graph) -> None:
    place = {id: i for i, id in enumerate(graph.order)}
    assert all(place[i] < place[node.id] for node in graph.nodes for i in node.inputs)


def test_different_graphs_have_different_keys() -> None:
    keys = {
        conv_stages((1, 8, 8), 10).key,
        conv_stages((1, 8, 8), 9).key,
        conv_stages((1, 9, 9), 10).key,
        conv_stages((1, 8, 8), 10, width=9).key,
        conv_stages((1, 8, 8), 10, stages=2).key,
        branches(2).key,
        branches(3).key,
        branches(3, twist=True).key,
    }
    assert len(keys) == 8


def test_sharing_a_node_is_not_having_two() -> None:
    def build(shared: bool) -> Graph:
        b = Builder(2, 4)
        stem = b.add("relu")
        first = b.add("conv2d", stem, out_channels=2, kernel_size=(1, 1))
        second = first if shared else b.add("conv2d", stem, out_channels=2, kernel_size=(1, 1))
        b.add("concat", first, second)
        return b.graph()

    assert build(True).key != build(False).key


def test_order_of_inputs_matters_to_concat_alone() -> None:
    def build(op: str, swap: bool) -> Graph:
        b = Builder(2, 4)
        stem = b.add("relu")
        pair = [b.add("conv2d", stem, out_channels=2, kernel_size=(1, 1)), b.add("tanh", stem)]
        b.add(op, *(reversed(pair) if swap else pair))
        return b.graph()

    assert build("add", True).key == build("add", False).key
    assert build("concat", True).key != build("concat", False).key


def test_many_equal_branches_have_a_canonical_form() -> None:
    graph = branches(12)
    assert renamed(graph, 1)[0].key == graph.key


def test_pairs_that_refinement_alone_cannot_tell_apart() -> None:
    """Sums along one ring of six against two rings of three: every node looks alike from where it stands."""

    def rings(*sizes: int) -> Graph:
        b = Builder(2, 4)
        stem = b.add("relu")
        sums = []
        for size in sizes:
            nodes = [b.add("conv2d", stem, out_channels=2, kernel_size=(1, 1)) for _ in range(size)]
            sums += [b.add("add", nodes[k], nodes[(k + 1) % size]) for k in range(size)]
        b.add("add", *sums)
        return b.graph()

    one, two = rings(6), rings(3, 3)
    assert one.n_params == two.n_params
    assert one.key != two.key
    for seed in range(4):
        assert renamed(one, seed)[0].key == one.key
        assert renamed(two, seed)[0].key == two.key


def test_key_is_stable_across_processes(tmp_path: Path) -> None:
    graph = branches(3)
    (tmp_path / "graph.json").write_text(json.dumps(graph.to_json()))
    code = "import json,sys; from rlnas.graph import Graph; print(Graph.from_json(json.load(open(sys.argv[1]))).key)"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "graph.json")],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == graph.key


@given(graph=graphs(dropout=True), seed=st.integers(0, 100))
@QUICK
def test_source_runs_and_shapes_are_torch_shapes(graph: Graph, seed: int) -> None:
    """The module against an interpretation node by node, so that no variable is overwritten too early."""
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(seed)).to(torch.float64)
    module = network.module().eval()
    inputs = torch.randn(2, *graph.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    values: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for id in graph.order:
            node = graph.node(id)
            row = OPS[node.op]
            read = [values[i] for i in node.inputs]
            if node.op == "input":
                values[id] = inputs
            elif row.source is not None:
                values[id] = module.get_submodule(id)(*read)
            else:
                assert row.call is not None
                text = row.call(node, tuple(f"v[{k}]" for k in range(len(read))))
                values[id] = eval(text, {"v": read, "torch": torch, "F": torch.nn.functional})
            assert tuple(values[id].shape[1:]) == graph.shapes[id]
        assert torch.equal(module(inputs), values[graph.output])
    assert "rlnas" not in to_source(graph)


@pytest.mark.parametrize("name", sorted(name for name, op in OPS.items() if op.family == "activation"))
def test_idempotent_activations_are_those_declared(name: str) -> None:
    b = Builder(1, 4)
    b.add(name)
    once = Network.initialize(b.graph(), generator=torch.Generator()).module()
    x = torch.linspace(-8, 8, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    assert torch.equal(once(once(x)), once(x)) == OPS[name].idempotent


def test_known_costs() -> None:
    graph = conv_stages((1, 8, 8), 10)
    assert graph.n_params == 8 * 9 + 2 * 8 * 8 * 9 + 3 * 16 + 90
    assert graph.macs == 64 * 8 * 9 + 16 * 64 * 9 + 4 * 64 * 9 + 80
    assert graph.peak_memory_bytes == 4 * 2 * 8 * 64  # input and output of the first BatchNorm
    b = Builder(1, 4)
    b.add("flatten")
    assert b.graph().peak_memory_bytes == 4 * 16  # a view takes nothing


def test_json_and_pickle() -> None:
    graph = branches(2)
    again = Graph.from_json(json.loads(json.dumps(graph.to_json())))
    assert again.key == graph.key and set(again.nodes) == set(graph.nodes)
    copy = pickle.loads(pickle.dumps(graph))
    assert copy == graph and hash(copy) == hash(graph) and copy in {graph}


def conv(id: str, source: str, **attrs: object) -> Node:
    return complete(Node.make(id, "conv2d", source, **({"out_channels": 4, "kernel_size": (3, 3)} | attrs)))


IMAGE = Node.make("image", "input", shape=(2, 6, 6))


@pytest.mark.parametrize(
    ("nodes", "output", "words"),
    [
        ([IMAGE, Node.make("a", "relux", "image")], "a", "relux.*relu"),
        ([IMAGE, Node.make("a", "relu", "imag")], "a", "imag"),
        ([IMAGE, Node.make("a", "relu", "image")], "b", "'b'"),
        ([IMAGE, Node.make("a", "relu", "b"), Node.make("b", "relu", "a")], "b", "cycle"),
        ([IMAGE, Node.make("a", "relu", "image"), Node.make("a", "tanh", "image")], "a", "twice"),
        ([IMAGE, Node.make("a", "add", "image")], "a", "2 or more"),
        ([IMAGE, Node.make("a", "relu", "image", slope=1)], "a", "slope"),
        ([IMAGE, Node.make("a", "conv2d", "image", out_channels=4)], "a", "kernel_size"),
        ([IMAGE, conv("a", "image", groups=3)], "a", "groups=3"),
        ([IMAGE, conv("a", "image", kernel_size=(9, 9))], "a", "does not fit"),
        ([IMAGE, conv("a", "image", bias=1.5)], "a", "bias"),
        ([IMAGE, conv("a", "image"), Node.make("b", "add", ("a", "image"))], "b", "different shapes"),
        ([IMAGE, complete(Node.make("a", "linear", "image", out_channels=3))], "a", "flatten"),
        ([IMAGE, Node.make("other", "input", shape=(2, 6, 6)), Node.make("a", "add", ("image", "other"))], "a", "one"),
        ([Node.make("image", "input", shape=(0, 6, 6))], "image", "at least 1"),
    ],
)
def test_impossible_graphs_say_why_in_one_line(nodes: list[Node], output: str, words: str) -> None:
    with pytest.raises(GraphError, match=words) as caught:
        Graph(tuple(nodes), output)
    assert "\n" not in str(caught.value)


def test_damaged_json() -> None:
    for data in (
        {},
        {"format": "other"},
        {"format": "rlnas.graph/1"},
        {"format": "rlnas.graph/1", "nodes": [{}], "output": "a"},
    ):
        with pytest.raises(GraphError):
            Graph.from_json(data)
    with pytest.raises(GraphError, match="Python name"):
        Node.make("not a name", "relu", "x")


def sizes(graph: Graph) -> dict[str, tuple[int, bool, tuple[str, ...]]]:
    return {g.anchor: (g.size, g.fixed, g.producers) for g in graph.channel_groups()}


def test_channels_coupled_by_an_add_are_one_group() -> None:
    b = Builder(2, 6)
    b.nodes.append(conv("a", "image", out_channels=5, padding=(1, 1)))
    b.nodes.append(conv("c", "a", out_channels=5, padding=(1, 1)))
    b.add("add", "a", "c")
    b.add("flatten")
    b.add("linear", out_channels=3)
    assert sizes(b.graph()) == {"a": (5, False, ("a", "c")), "linear_1x": (3, True, ("linear_1x",))}


def test_concat_that_meets_an_add_splits_the_other_side() -> None:
    b = Builder(2, 6)
    b.nodes += [conv("a", "image", out_channels=2), conv("c", "image", out_channels=3)]
    b.nodes.append(conv("d", "image", out_channels=5))
    joined = b.add("concat", "a", "c")
    b.add("add", joined, "d")
    b.add("flatten")
    b.add("linear", out_channels=3)
    graph = b.graph()
    (group,) = [g for g in graph.channel_groups() if not g.fixed]
    assert sorted(group.producers) == ["a", "c", "d"] and group.size == 5
    assert sorted(graph.channels.lengths[cell] for cell in group.cells) == [2, 3]


def test_grouped_convolutions_and_inputs_are_tied() -> None:
    b = Builder(2, 6)
    b.nodes += [conv("a", "image", out_channels=4), conv("c", "a", out_channels=6, groups=2)]
    b.nodes.append(conv("d", "image", out_channels=2, groups=2))
    b.last = "c"
    b.add("flatten")
    b.add("linear", out_channels=3)
    b.nodes.pop(3)
    groups = {g.anchor: g for g in b.graph().channel_groups()}
    assert [len(partition) for partition in groups["a"].parts] == [2]
    assert [len(partition) for partition in groups["c"].parts] == [2]
    assert not groups["a"].fixed


def test_depthwise_convolutions_pass_channels_on() -> None:
    b = Builder(2, 6)
    b.nodes += [conv("a", "image", out_channels=4), conv("c", "a", out_channels=4, groups=4)]
    b.nodes.append(conv("d", "c", kernel_size=(1, 1)))
    b.last = "d"
    assert sizes(b.graph())["a"][2] == ("a",) and b.graph().channels.of("c") is None


def test_channels_added_to_the_input_are_fixed() -> None:
    b = Builder(2, 6)
    b.nodes.append(conv("a", "image", out_channels=2, padding=(1, 1)))
    b.add("add", "image", "a")
    b.nodes.append(conv("d", b.last, out_channels=3))
    b.last = "d"
    assert sizes(b.graph())["a"][1]
