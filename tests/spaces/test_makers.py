"""All makers of networks: every choice makes a network that fits, runs and is the same each time."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch

from rlnas.errors import SpaceError
from rlnas.graph import Graph
from rlnas.interchange import export
from rlnas.network import Network
from rlnas.spaces import MAKERS, Chain, Decision, NetworkSpace, make_maker, training_decisions

SMALL: dict[str, dict[str, Any]] = {
    "chain": {"layers": 3, "filters": (2, 3)},
    "nasnet": {"filters": 2},
    "mnasnet": {"filters": (4, 6), "layers": (1, 2), "strides": (1, 2), "stem": 4},
    "nas_bench_201": {"channels": 2},
}
"""Sizes with which a space makes small networks."""
SHAPES = ((1, 8, 8), (3, 5, 7), (2, 1, 1))
"""Images that are halved evenly, unevenly, and not at all."""


def space(name: str, shape: tuple[int, ...] = (1, 8, 8), **sizes: Any) -> NetworkSpace:
    """A small space of that name."""
    made = make_maker(name, input_shape=shape, n_classes=4, arguments=SMALL[name] | sizes)
    return NetworkSpace(made)


@pytest.fixture(params=MAKERS)
def name(request: Any) -> str:
    return str(request.param)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_assignment_makes_a_network_that_fits(name: str, shape: tuple[int, ...]) -> None:
    if name == "nas_bench_201" and shape[1] % 4:
        with pytest.raises(SpaceError, match="halved twice"):
            space(name, shape)
        return
    networks, generator = space(name, shape), np.random.default_rng(0)
    for _ in range(30):
        graph = networks.graph(networks.decisions.sample(generator))
        assert graph.input_shape == shape and graph.output_shape == (4,)
        assert Graph.from_json(json.loads(json.dumps(graph.to_json()))).key == graph.key


def test_networks_compute_and_learn(name: str) -> None:
    networks, generator = space(name), np.random.default_rng(1)
    for _ in range(6):
        graph = networks.graph(networks.decisions.sample(generator))
        module = Network.initialize(graph, generator=torch.Generator().manual_seed(0)).module()
        outputs = module(torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
        assert outputs.shape == (3, 4) and outputs.isfinite().all()
        outputs.square().sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_every_choice_of_every_decision_matters_somewhere(name: str) -> None:
    """No two choices of a decision make the same networks of all that were looked at."""
    networks, generator = space(name), np.random.default_rng(2)
    bases = [networks.reference, *(networks.decisions.sample(generator) for _ in range(60))]
    for slot, choices in enumerate(networks.decisions.shape):
        for other in range(1, choices):
            assert any(
                networks.graph((*b[:slot], 0, *b[slot + 1 :])).key
                != networks.graph((*b[:slot], other, *b[slot + 1 :])).key
                for b in bases
            ), (networks.decisions.decisions[slot], other)


def test_the_same_choices_make_the_same_network_in_a_copy(name: str) -> None:
    networks = space(name)
    copy: NetworkSpace = pickle.loads(pickle.dumps(networks))
    assert copy.decisions == networks.decisions and copy.reference == networks.reference
    drawn = networks.decisions.sample(np.random.default_rng(3))
    assert copy.graph(drawn) == networks.graph(drawn)


def test_the_sampler_reaches_all_and_the_size_counts_them(name: str) -> None:
    networks, generator = space(name), np.random.default_rng(4)
    assert networks.decisions.size == int(np.prod([float(n) for n in networks.decisions.shape]))
    drawn = np.array([networks.decisions.sample(generator) for _ in range(400)])
    for slot, choices in enumerate(networks.decisions.shape):
        assert set(drawn[:, slot]) == set(range(choices))


def test_networks_leave_as_plain_code(name: str, tmp_path: Any) -> None:
    networks = space(name)
    graph = networks.graph(networks.decisions.sample(np.random.default_rng(5)))
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
    done = export(network, tmp_path / name, formats=("python", "graph"))
    assert {"model.py", "weights.safetensors"} <= set(done.files)


def test_wrong_sizes_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(SpaceError, match="argument of the space"):
        space(name, lairs=3)
    with pytest.raises(SpaceError, match="images"):
        make_maker(name, input_shape=(64,), n_classes=4, arguments=SMALL[name])
    with pytest.raises(SpaceError, match="Did you mean"):
        make_maker(name[:-1], input_shape=(1, 8, 8), n_classes=4, arguments={})


def test_the_chain_has_the_papers_decisions() -> None:
    chain = Chain((3, 32, 32), 10, layers=15, kernels=(1, 3, 5, 7), filters=(24, 36, 48, 64), strides=(1,))
    names = [decision.name for decision in chain.decisions]
    assert len(names) == 15 * 4 + 15 * 14 // 2
    assert names[:4] == ["height1", "width1", "filters1", "stride1"] and names[-1] == "14->15"
    assert NetworkSpace(chain).decisions.size == 4 ** (3 * 15) * 2 ** (15 * 14 // 2)


def test_anchors_say_what_a_layer_reads() -> None:
    networks = space("chain", filters=(2, 3), strides=(1, 2))
    first = {name: choice for name, choice in networks.decisions.choices(networks.reference).items()}

    def graph(**given: Any) -> Graph:
        named = {name.replace("_", "->"): choice for name, choice in given.items()}
        return networks.graph(networks.decisions.from_choices(first | named))

    reads = {id: graph().node(id).inputs for id in ("layer1_conv", "layer2_conv", "layer3_conv", "pool")}
    assert reads["layer1_conv"] == ("image",) and reads["pool"] == ("layer3_relu",)
    assert (reads["layer2_conv"], reads["layer3_conv"]) == (("layer1_relu",), ("layer2_relu",))
    both = graph(**{"1_3": 1})
    assert both.node("join3").inputs == ("layer1_relu", "layer2_relu") and both.shapes["join3"][0] == 4
    alone = graph(**{"1_2": 0})  # layer 2 reads the image, and nothing reads layer 1
    assert alone.node("layer2_conv").inputs == ("image",)
    assert alone.node("join").inputs == ("layer1_relu", "layer3_relu")
    padded = graph(**{"1_3": 1, "stride2": 2})
    assert padded.shapes["join3"] == (4, 8, 8) and padded.node("join3_pad2")["amounts"] == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"layers": 0}, "layers=0"),
        ({"kernels": (2, 3)}, "odd"),
        ({"filters": ()}, "filters"),
        ({"strides": "12"}, "strides"),
    ],
    ids=["layers", "kernels", "filters", "strides"],
)
def test_a_chain_that_cannot_be_is_refused(sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        space("chain", **sizes)


@pytest.mark.parametrize(
    ("name", "sizes", "words"),
    [
        ("nasnet", {"blocks": 0}, "blocks=0"),
        ("nasnet", {"ops": ["sep_4x4"]}, "Did you mean 'sep_"),
        ("nasnet", {"ops": "identity"}, "list of names"),
        ("mnasnet", {"filters": (4,)}, "a number for each block"),
        ("mnasnet", {"ratios": (2,)}, "from 0 to 1"),
        ("mnasnet", {"ops": []}, "list of names"),
        ("nas_bench_201", {"cells": "many"}, "cells='many'"),
    ],
)
def test_other_sizes_that_cannot_be_are_refused(name: str, sizes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        space(name, **sizes)


def test_cells_are_stacked_as_in_the_paper() -> None:
    """Each stage but the first begins with a reduction cell, which halves the map and doubles the filters."""
    networks = space("nasnet", filters=4, cells=2, stages=3)
    graph = networks.graph(networks.reference)
    shapes = [graph.shapes[f"cell{i}" if f"cell{i}" in graph.shapes else f"cell{i}_2"] for i in range(1, 9)]
    assert shapes == [(4, 8, 8)] * 2 + [(8, 4, 4)] * 3 + [(16, 2, 2)] * 3
    wide = networks.decisions.choices(networks.reference) | {"normal2_join": "concat"}
    joined = networks.graph(networks.decisions.from_choices(wide))
    assert joined.shapes["cell1_2"] == (8, 8, 8) and joined.n_params > graph.n_params
    separable = [node for node in graph.nodes if node.id.startswith("cell1_1a") and node.op == "conv2d"]
    assert [node["groups"] for node in separable] == [4, 1, 4, 1]  # applied twice


def test_blocks_are_those_of_mnasnet() -> None:
    networks = space("mnasnet", filters=(4, 8), layers=(1, 2), strides=(1, 2), stem=4)
    assert networks.decisions.choices(networks.reference)["filters2"] == 8
    (layers,) = (d.choices for d in networks.decisions.decisions if d.name == "layers2")
    (filters,) = (d.choices for d in networks.decisions.decisions if d.name == "filters2")
    assert layers == (1, 2, 3) and filters == (6, 8, 10)
    usual = networks.decisions.choices(networks.reference)

    def graph(**given: Any) -> Graph:
        return networks.graph(networks.decisions.from_choices(usual | given))

    assert graph().shapes["block2_2_add"] == (8, 4, 4) and "block2_1_add" not in graph().shapes
    assert "block2_1_fit_bn" in graph(skip2="pool").shapes and "block2_2_add" not in graph(skip2="none").shapes
    assert graph(se1=0.25).node("block1_1_reduce")["out_channels"] == 1  # a quarter of the four that it reads
    assert graph(op1="mbconv3").shapes["block1_1_expand_relu"] == (12, 8, 8)
    assert graph(op2="dconv").shapes["block2_1_depth_relu"] == (4, 4, 4)


def test_training_is_decided_after_the_network_and_begins_with_what_is_usual() -> None:
    decided = training_decisions(["learning_rate", "optimizer"], usual={"learning_rate": 0.03, "optimizer": "lion"})
    assert [d.choices[0] for d in decided] == [0.03, "sgd"]
    networks = NetworkSpace(space("chain").maker, training=decided)
    drawn = networks.decisions.sample(np.random.default_rng(0))
    assert set(networks.settings(drawn)) == {"learning_rate", "optimizer"}
    assert networks.graph(drawn) is networks.graph((*drawn[:-2], *networks.reference[-2:]))
    (own,) = training_decisions({"batch_size": (8, 64)}, usual={"batch_size": 64})
    assert own == Decision("batch_size", (64, 8))
    with pytest.raises(SpaceError, match="learning_rate"):
        training_decisions(["lerning_rate"], usual={})
    with pytest.raises(SpaceError, match="list"):
        training_decisions("momentum", usual={})
    with pytest.raises(SpaceError, match="list of choices"):
        training_decisions({"momentum": 0.9}, usual={})  # type: ignore[dict-item]
