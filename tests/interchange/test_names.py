"""Names of layers in what is exported."""

from __future__ import annotations

import torch

from rlnas.graph import Graph, Node
from rlnas.interchange import tidy
from rlnas.interchange.names import layer_names
from rlnas.network import Network, tensor_specs
from rlnas.operators import OPERATORS
from rlnas.spaces import conv_stages
from tests.graphs import Builder
from tests.nets import NETS
from tests.operators.sameness import generator


def tensors(name: str) -> set[str]:
    network = Network.initialize(NETS[name](), generator=torch.Generator().manual_seed(0))
    return {tensor.split(".")[0] for tensor in tidy(network).tensors}


def test_layers_of_blocks_are_named_by_what_they_do() -> None:
    assert {"stem_conv", "stage2_block1_shortcut_bn", "stage3_block3_conv2", "head_fc"} <= tensors("resnet20")
    assert {"stage2_block1_conv3", "stage3_block2_gate_conv1", "head_bn"} <= tensors("mobilenet")
    assert {"stage2_block6_bn2", "transition1_conv"} <= tensors("densenet")
    attention = {f"block3_{role}" for role in ("norm1", "query", "key", "value", "proj", "norm2", "fc1", "fc2")}
    assert attention | {"stem_token", "stem_position", "head_norm"} <= tensors("vit")
    assert "block2_qkv" in tensors("fused_vit")


def test_layers_of_a_chain_are_numbered_by_kind() -> None:
    assert tensors("vgg") == {*(f"{kind}{k}" for kind in ("conv", "bn") for k in range(1, 8)), "linear1", "linear2"}
    assert set(layer_names(conv_stages((1, 8, 8), 10)).values()) >= {"image", "conv3", "pool3", "flatten1", "linear1"}


def test_names_that_a_person_gave_are_kept() -> None:
    b = Builder(3, 8, 8)
    for k in range(3):
        b.conv(4, id=f"features_{k}_conv")
        b.add("relu")
    network = Network.initialize(b.graph(), generator=generator(0))
    site = OPERATORS["deepen"].sites(network.graph)[0]
    grown = OPERATORS["deepen"].apply(network, site, generator=generator(0))
    assert set(tidy(grown).graph.shapes) == set(grown.graph.shapes)


def test_names_follow_the_structure_when_it_changes() -> None:
    network = tidy(Network.initialize(conv_stages((1, 8, 8), 10), generator=generator(0)))
    grown = OPERATORS["insert_residual"].apply(
        network, OPERATORS["insert_residual"].sites(network.graph)[-1], generator=generator(0)
    )
    named = tidy(grown)
    assert {"stem_conv1", "block1_conv1", "block1_conv2", "head_fc"} <= set(named.graph.shapes)
    assert tidy(named).graph == named.graph


def test_tied_weights_are_renamed_with_their_owner() -> None:
    nodes = (
        Node.make("image", "input", shape=(4,), dtype="float32"),
        Node.make("linear_7", "linear", "image", out_channels=4, bias=True),
        Node.make("relu_9", "relu", "linear_7"),
        Node.make("linear_8", "linear", "relu_9", out_channels=4, bias=True, shares="linear_7"),
    )
    network = tidy(Network.initialize(Graph(nodes, "linear_8"), generator=generator(0)))
    assert set(tensor_specs(network.graph)) == {"linear1.weight", "linear1.bias"}
    assert network.graph.node("linear2")["shares"] == "linear1"
    inputs = torch.ones(1, 4)
    assert network.module()(inputs).shape == (1, 4)
