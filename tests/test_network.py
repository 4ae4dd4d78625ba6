"""Networks as values: modules, copies, files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import rlnas
from rlnas.errors import GraphError
from rlnas.graph import Graph, Node, Site, complete
from rlnas.network import TAKEN, Applied, Network, fresh_tensor, tensor_specs
from rlnas.operators import OPERATORS
from rlnas.spaces import conv_stages
from tests.graphs import graphs
from tests.operators.sameness import generator, make_inputs, make_network

QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.fixture
def network() -> Network:
    return make_network(conv_stages((1, 8, 8), 10), 0, torch.float32)


@given(graph=graphs(dropout=True), seed=st.integers(0, 100))
@QUICK
def test_module_is_ordinary_and_has_the_networks_tensors(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    module = network.module()
    assert isinstance(module, nn.Module) and module.training
    assert module.state_dict().keys() == network.tensors.keys()
    assert all(torch.equal(tensor, network.tensors[name]) for name, tensor in module.state_dict().items())
    assert all(p.requires_grad and p.is_leaf for p in module.parameters())
    module.load_state_dict(network.module().state_dict())


def test_modules_own_their_tensors(network: Network) -> None:
    before = network.content_hash
    first, second = network.module(), network.module()
    for tensor in first.state_dict().values():
        tensor.add_(1)
    first.train()(torch.randn(4, 1, 8, 8))
    assert Network(network.graph, network.tensors).content_hash == before
    assert all(torch.equal(tensor, network.tensors[name]) for name, tensor in second.state_dict().items())
    with pytest.raises(TypeError):
        network.tensors["conv1.weight"] = torch.zeros(1)  # type: ignore[index]


def test_with_tensors_copies_and_keeps_graph_and_history(network: Network) -> None:
    grown = OPERATORS["widen"].apply(network, Site("widen", "conv1", None, 2.0), generator=generator(0))
    module = grown.module()
    with torch.no_grad():
        module.get_parameter("conv1.weight").add_(1.0)
    trained = grown.with_tensors(module.state_dict())
    with torch.no_grad():
        module.get_parameter("conv1.weight").zero_()
    assert torch.equal(trained.tensors["conv1.weight"], grown.tensors["conv1.weight"] + 1.0)
    assert trained.graph == grown.graph and trained.history == grown.history
    assert not any(tensor.requires_grad for tensor in trained.tensors.values())


def test_initialize_is_he_initialization_from_the_generator() -> None:
    graph = conv_stages((1, 8, 8), 10, width=64)
    first, second, other = (Network.initialize(graph, generator=generator(seed)) for seed in (0, 0, 1))
    assert first.content_hash == second.content_hash != other.content_hash
    weight = first.tensors["conv2.weight"]
    bound = (6 / (64 * 9)) ** 0.5
    assert float(weight.abs().max()) <= bound and float(weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert not first.tensors["linear1.bias"].any() and bool((first.tensors["bn1.weight"] == 1).all())
    state = torch.get_rng_state()
    Network.initialize(graph, generator=generator(0))
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_draw_in_every_type() -> None:
    param = tensor_specs(conv_stages((1, 8, 8), 10))["conv1.weight"]
    low, high = (fresh_tensor(param, generator=generator(0), dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert torch.equal(low, high.float()) and low.dtype == torch.float32


def test_to_changes_floating_point_tensors_only(network: Network) -> None:
    double = network.to(torch.float64)
    assert double.dtype == torch.float64 and network.dtype == torch.float32
    assert double.tensors["bn1.num_batches_tracked"].dtype == torch.int64
    assert double.to(torch.float32).content_hash == network.content_hash


def test_content_hash_sees_everything(network: Network) -> None:
    def changed(name: str) -> str:
        tensors = {n: t.clone() for n, t in network.tensors.items()}
        tensors[name].view(-1)[0] += 1
        return Network(network.graph, tensors).content_hash

    graph, relu6 = network.graph, complete(Node.make("relu1", "relu6", "bn1"))
    other = Graph(tuple(relu6 if node.id == "relu1" else node for node in graph.nodes), graph.output)
    hashes = {
        network.content_hash,
        network.to(torch.float64).content_hash,
        network.to(torch.bfloat16).content_hash,
        Network(other, network.tensors).content_hash,
        *(changed(name) for name in network.tensors),
    }
    assert len(hashes) == 4 + len(network.tensors)


# ----------------------------------------------------------------------------------------------------- what is wrong


def test_tensors_must_fit(network: Network) -> None:
    tensors = dict(network.tensors)
    for wrong, words in (
        ({n: t for n, t in tensors.items() if n != "bn2.bias"}, r"lack the tensor 'bn2\.bias'"),
        (
            tensors | {"conv1.weight": torch.zeros(8, 1, 5, 5)},
            r"'conv1\.weight' has shape \(8, 1, 5, 5\), not \(8, 1, 3, 3\)",
        ),
        (tensors | {"conv9.weight": torch.zeros(1)}, r"no node for: conv9\.weight"),
    ):
        with pytest.raises(GraphError, match=words) as caught:
            Network(network.graph, wrong)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("id", ["forward", "training", "parameters", "to", "T_destination", "half"])
def test_names_that_pytorch_needs(id: str) -> None:
    assert id in TAKEN and {name for name in dir(nn.Module()) if not name.startswith("_")} <= TAKEN
    graph = Graph(
        (
            Node.make("image", "input", shape=(3,), dtype="float32"),
            complete(Node.make(id, "linear", "image", out_channels=2)),
        ),
        id,
    )
    with pytest.raises(GraphError, match=f"may be called '{id}'"):
        Network.initialize(graph, generator=generator(0))


@pytest.mark.parametrize("id", ["x", "self", "torch", "F", "nn", "Network", "y", "print", "input", "image1"])
def test_names_that_look_dangerous_and_are_not(id: str) -> None:
    nodes = [
        Node.make("image", "input", shape=(3,), dtype="float32"),
        complete(Node.make(id, "linear", "image", out_channels=3)),
    ]
    nodes += [Node.make("sum", "add", (id, "image")), Node.make("end", "relu", "sum")]
    network = Network.initialize(Graph(tuple(nodes), "end"), generator=generator(0))
    inputs = torch.randn(2, 3, generator=generator(1))
    expected = (inputs @ network.tensors[f"{id}.weight"].T + network.tensors[f"{id}.bias"] + inputs).relu()
    assert torch.allclose(network.module()(inputs), expected)


# ------------------------------------------------------------------------------------------------------------- files


HISTORY = (
    Applied(Site("widen", "conv1", None, 1.5), exact=True),
    Applied(Site("prune_channels", "conv2", None, 0.5), exact=False, compensated=True, drift=0.125),
)


@given(graph=graphs(dropout=True), seed=st.integers(0, 100))
@QUICK
def test_bytes_round_trip(graph: Graph, seed: int) -> None:
    network = Network(graph, make_network(graph, seed).tensors, HISTORY)
    again = Network.from_bytes(network.to_bytes())
    assert again.graph.key == graph.key and again.history == HISTORY and again.content_hash == network.content_hash
    assert {n: t.dtype for n, t in again.tensors.items()} == {n: t.dtype for n, t in network.tensors.items()}
    inputs = make_inputs(graph, seed)
    with torch.no_grad():
        assert torch.equal(again.module().eval()(inputs), network.module().eval()(inputs))
    copy = pickle.loads(pickle.dumps(network))
    assert copy.content_hash == network.content_hash and copy.history == HISTORY


def test_folder_round_trip(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "deep" / "folder")
    for again in (Network.load(tmp_path / "deep" / "folder"), rlnas.load(tmp_path / "deep" / "folder")):
        assert again.content_hash == network.content_hash and again.graph.key == network.graph.key


def test_tensors_that_are_not_contiguous_are_stored_all_the_same(network: Network) -> None:
    weight = network.tensors["conv2.weight"].to(memory_format=torch.channels_last)
    odd = Network(network.graph, {**network.tensors, "conv2.weight": weight})
    assert odd.content_hash == network.content_hash
    assert Network.from_bytes(odd.to_bytes()).content_hash == network.content_hash


def test_equal_networks_give_equal_bytes(network: Network) -> None:
    """The writer of safetensors puts metadata in an order that is new each time."""
    first = network.to_bytes()
    assert all(network.to_bytes() == first for _ in range(8))
    assert Network.from_bytes(first).to_bytes() == first


def metadata(data: bytes) -> dict[str, Any]:
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    return header


def with_metadata(data: bytes, **entries: str) -> bytes:
    header = metadata(data)
    header["__metadata__"] |= entries
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


@pytest.mark.parametrize(
    "entries",
    [
        {"graph": "{"},
        {"graph": "[]"},
        {"graph": '{"format": "rlnas.graph/1"}'},
        {"history": "null"},
        {"history": "[1]"},
        {"history": "[{}]"},
        {"history": '[{"site": {}, "exact": true, "compensated": false, "drift": null}]'},
        {"history": '[{"site": {"operator": "widen", "anchor": "conv1", "target": null, "amount": "much"}}]'},
    ],
)
def test_damaged_metadata_is_refused_in_one_line(network: Network, entries: dict[str, str]) -> None:
    assert Network.from_bytes(with_metadata(network.to_bytes())).content_hash == network.content_hash
    with pytest.raises(GraphError) as caught:
        Network.from_bytes(with_metadata(network.to_bytes(), **entries))
    assert "\n" not in str(caught.value)


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
@settings(QUICK, max_examples=200)
def test_damaged_bytes_are_refused_in_one_line_or_are_a_network(at: int, bit: int, cut: bool) -> None:
    data = bytearray(make_network(conv_stages((1, 4, 4), 2, stages=1, width=2), 0).to_bytes())
    data[at % len(data)] ^= 1 << bit
    if cut:
        del data[at % len(data) :]
    try:
        Network.from_bytes(bytes(data)).module()
    except GraphError as error:
        assert "\n" not in str(error)


def test_damaged_folders_are_refused_in_one_line(network: Network, tmp_path: Path) -> None:
    def refused(words: str) -> None:
        with pytest.raises(GraphError, match=words) as caught:
            Network.load(tmp_path / "net")
        assert "\n" not in str(caught.value)

    refused(r"no network in .*net: No such file")
    network.save(tmp_path / "net")
    graph = tmp_path / "net" / "graph.json"
    for text, words in (("{", "not JSON"), ("[]", "not a graph in the format"), ("\x80", "not")):
        graph.write_bytes(text.encode("latin-1"))
        refused(words)
    network.save(tmp_path / "net")
    graph.write_text(json.dumps(conv_stages((1, 8, 8), 10, width=4).to_json()))
    refused("has shape")
    network.save(tmp_path / "net")
    (tmp_path / "net" / "weights.safetensors").unlink()
    refused("No such file")
