"""What growing operators insert, where they refuse, and what their edits cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site, to_source
from rlnas.network import Network
from rlnas.operators import OPERATORS, CostDelta, apply_sites
from tests.graphs import Builder
from tests.operators.families import densenet, mobilenet, resnet, squeezenet, transformer
from tests.operators.sameness import check_exact, generator, make_inputs, make_network


def stem(activation: str = "relu", *, norm: str | None = None, groups: int = 1, **attrs: Any) -> Graph:
    """A convolution of 8 channels with an activation called ``act``, and a classifier."""
    b = Builder(8, 6, 6)
    b.conv(8, groups=groups)
    if norm:
        more: dict[str, Any] = {"groups": 4} if norm == "group_norm" else {}
        b.add(norm, eps=1e-2, **more)
    b.add(activation, id="act", **attrs)
    b.add("adaptive_avg_pool2d", id="pool")
    b.add("flatten")
    b.add("linear", out_channels=3)
    return b.graph()


def edited(graph: Graph, operator: str, anchor: str, amount: float, target: str | None = None) -> Graph:
    return OPERATORS[operator].edit(graph, Site(operator, anchor, target, amount)).graph


def new_ops(graph: Graph, operator: str, anchor: str, amount: float) -> list[str]:
    """Ops of the new nodes, in the order in which they run."""
    after = edited(graph, operator, anchor, amount)
    return [after.node(id).op for id in after.order if id not in graph]


def refusal(graph: Graph, operator: str, anchor: str, amount: float, target: str | None = None) -> str:
    with pytest.raises(OperatorError) as caught:
        edited(graph, operator, anchor, amount, target)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- deepen


@pytest.mark.parametrize(
    ("activation", "wanted"),
    [
        ("relu", ["conv2d", "relu"]),
        ("relu6", ["conv2d", "relu6"]),
        ("hardtanh", ["conv2d", "hardtanh"]),
        ("silu", ["conv2d", "silu", "conv2d"]),
        ("gelu", ["conv2d", "gelu", "conv2d"]),
        ("hardswish", ["conv2d", "hardswish", "conv2d"]),
        ("leaky_relu", ["conv2d", "leaky_relu", "conv2d"]),
        ("mish", ["conv2d", "mish", "conv2d", "add"]),
        ("tanh", ["conv2d", "tanh", "conv2d", "add"]),
    ],
)
def test_deepen_by_activation(activation: str, wanted: list[str]) -> None:
    assert new_ops(stem(activation), "deepen", "act", 3) == wanted


def test_deepen_keeps_the_activation_s_attributes() -> None:
    given: dict[str, dict[str, Any]] = {
        "leaky_relu": {"negative_slope": 0.3},
        "hardtanh": {"min_val": -2.0, "max_val": 0.5},
    }
    for name, attrs in given.items():
        network = make_network(stem(name, **attrs), 0)
        after = apply_sites(network, [Site("deepen", "act", None, 3)], generator=generator(0))
        check_exact(network, after, make_inputs(network.graph, 1))
        assert [node.attrs for node in after.graph.nodes if node.op == name] == [network.graph.node("act").attrs] * 2


def test_deepen_follows_the_groups_of_the_convolution_before() -> None:
    for groups, kernel, wanted in ((8, 3, 8), (4, 3, 4), (4, 1, 1), (1, 3, 1)):
        for norm in (None, "batch_norm2d"):
            after = edited(stem(norm=norm, groups=groups), "deepen", "act", kernel)
            assert after.node("conv1")["groups"] == wanted


def test_a_depthwise_network_with_silu_stays_depthwise() -> None:
    assert new_ops(stem("silu", groups=8), "deepen", "act", 3) == ["conv2d", "silu", "conv2d", "add"]
    assert edited(stem("silu", groups=8), "deepen", "act", 3).node("conv2")["groups"] == 8


def test_gates_are_not_deepened() -> None:
    assert "sigmoid is no activation between layers" in refusal(stem("sigmoid"), "deepen", "act", 1)


def test_tokens_are_deepened_by_linear_layers() -> None:
    graph = transformer()
    assert new_ops(graph, "deepen", "gelu_1", 1) == ["linear", "gelu", "linear"]
    assert "channels on the last axis take only a kernel of 1" in refusal(graph, "deepen", "gelu_1", 3)


# -------------------------------------------------------------------------------------------------- kernels and groups


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_kernels_grow_under_every_padding_that_still_fits(mode: str) -> None:
    b = Builder(2, 7, 7)
    b.conv(3, id="conv", padding_mode=mode, dilation=(2, 2), padding=(2, 2))
    b.add("flatten")
    b.add("linear", out_channels=2)
    network = make_network(b.graph(), 0)
    after = apply_sites(network, [Site("grow_kernel", "conv", None, 2)], generator=generator(0))
    check_exact(network, after, make_inputs(network.graph, 1))
    assert after.graph.node("conv")["padding"] == (4, 4)
    assert "reach past a map of 7 x 7" in refusal(after.graph, "grow_kernel", "conv", 4)


def test_padding_that_does_not_fit_is_refused() -> None:
    """A larger padding than the kernel needs: a map of 4 cannot be reflected by 4."""
    b = Builder(2, 4, 4)
    b.conv(3, id="conv", padding_mode="reflect", padding=(3, 3))
    b.add("flatten")
    b.add("linear", out_channels=2)
    assert "reflect padding takes no more than a map of 4 x 4 holds" in refusal(b.graph(), "grow_kernel", "conv", 2)


def test_transposed_convolutions_grow_too() -> None:
    b = Builder(2, 5, 5)
    b.add("conv_transpose2d", id="up", out_channels=3, kernel_size=(2, 2), stride=(2, 2), output_padding=(1, 1))
    b.add("relu")
    b.add("flatten")
    b.add("linear", out_channels=2)
    network = make_network(b.graph(), 0)
    after = apply_sites(network, [Site("grow_kernel", "up", None, 2)], generator=generator(0))
    check_exact(network, after, make_inputs(network.graph, 1))


def test_groups_stand_in_blocks() -> None:
    network = make_network(stem(groups=4), 0)
    conv = network.graph.node("act").inputs[0]
    after = apply_sites(network, [Site("fewer_groups", conv, None, 2)], generator=generator(0))
    old, new = (n.tensors[f"{conv}.weight"] for n in (network, after))
    assert old.shape == (8, 2, 3, 3) and new.shape == (8, 4, 3, 3)
    for row in range(8):
        start = 2 * (row // 2 % 2)
        assert torch.equal(new[row, start : start + 2], old[row])
        assert int((new[row] == 0).all(-1).all(-1).sum()) == 2


def test_depthwise_becomes_dense_and_can_be_widened_then() -> None:
    network = make_network(stem("relu", norm="batch_norm2d", groups=8), 0)
    conv = next(node.id for node in network.graph.nodes if node.op == "conv2d")
    sites = [Site("fewer_groups", conv, None, 1), Site("widen", conv, None, 1.5)]
    after = apply_sites(network, sites, generator=generator(0))
    assert after.graph.node(conv)["out_channels"] == 12 and after.graph.node(conv)["groups"] == 1
    check_exact(network, after, make_inputs(network.graph, 1))


@pytest.mark.parametrize("amount", [8, 3, 16])
def test_groups_that_do_not_divide_are_refused(amount: float) -> None:
    graph = stem(groups=8)
    conv = next(node.id for node in graph.nodes if node.op == "conv2d")
    assert f"its 8 groups do not make {amount:g} larger ones" in refusal(graph, "fewer_groups", conv, amount)


# ----------------------------------------------------------------------------------------------------- residual blocks


def test_blocks_on_maps() -> None:
    graph = stem("silu", norm="batch_norm2d")
    normed = ["conv2d", "batch_norm2d", "silu"]
    assert new_ops(graph, "insert_residual", "act", 3) == [*normed, "conv2d", "add"]
    assert new_ops(graph, "insert_bottleneck", "act", 3) == [*normed, *normed, "conv2d", "add"]
    assert new_ops(graph, "insert_inverted", "act", 3) == [*normed, *normed, "conv2d", "add"]
    narrow, wide = (edited(graph, f"insert_{flavour}", "act", 3) for flavour in ("bottleneck", "inverted"))
    assert [(n["out_channels"], n["groups"]) for i in "123" for n in [narrow.node(f"conv{i}")]] == [
        (2, 1),
        (2, 1),
        (8, 1),
    ]
    assert [(n["out_channels"], n["groups"]) for i in "123" for n in [wide.node(f"conv{i}")]] == [
        (32, 1),
        (32, 32),
        (8, 1),
    ]


def test_blocks_without_norm_have_biases() -> None:
    after = edited(stem(), "insert_bottleneck", "act", 3)
    assert all(node["bias"] for node in after.nodes if node.op == "conv2d")


def test_blocks_on_tokens() -> None:
    for norm in ("layer_norm", "rms_norm"):
        graph = transformer(norm)
        assert new_ops(graph, "insert_inverted", "add_2", 1) == [norm, "linear", "gelu", "linear", "add"]
        assert edited(graph, "insert_inverted", "add_2", 1).node("linear1")["out_channels"] == 32


def test_group_norm_keeps_a_number_of_groups_that_divides() -> None:
    after = edited(stem(norm="group_norm"), "insert_bottleneck", "act", 3)
    assert after.node("norm1")["groups"] == 2


def test_no_norm_of_a_single_value() -> None:
    """Trained with a batch of one it would raise."""
    network = make_network(stem(norm="batch_norm2d"), 0)
    after = apply_sites(network, [Site("insert_residual", "pool", None, 1)], generator=generator(0))
    assert "batch_norm2d" not in new_ops(network.graph, "insert_residual", "pool", 1)
    module = after.module().train()
    assert module(make_inputs(network.graph, 0, n=1)).shape == (1, 3)


def test_the_activation_is_the_most_frequent_one_and_no_gate() -> None:
    assert new_ops(mobilenet("silu"), "insert_residual", "adaptive_avg_pool2d_2", 1)[1] == "silu"
    assert new_ops(stem("sigmoid"), "insert_residual", "pool", 1) == ["conv2d", "relu", "conv2d", "add"]


# ---------------------------------------------------------------------------------------------------- skips and gates


def test_a_skip_of_factors_between_equal_shapes_and_a_layer_between_others() -> None:
    graph = resnet((3,))
    kinds: dict[bool, set[str]] = {}
    for site in OPERATORS["add_skip"].sites(graph, tuple(range(1, 9))):
        assert site.target is not None
        after = OPERATORS["add_skip"].edit(graph, site).graph
        new = {node.op for node in after.nodes if node.id not in graph}
        assert kinds.setdefault(graph.shapes[site.anchor] == graph.shapes[site.target], new) == new
    assert kinds == {True: {"parameter", "mul", "add"}, False: {"conv2d", "add"}}


def test_skips_lead_past_a_layer_and_are_not_drawn_twice() -> None:
    graph = resnet((3,))
    relus = [id for id in graph.order if graph.node(id).op == "relu"]
    first, last = relus[3], relus[-1]
    site = next(s for s in OPERATORS["add_skip"].sites(graph, (1, 2, 3, 4)) if (s.anchor, s.target) == (first, last))
    after = OPERATORS["add_skip"].edit(graph, site).graph
    assert after.node("gate1")["shape"] == (32, 1, 1) and after.node("gate1")["axis"] == -3
    again = {s.target for s in OPERATORS["add_skip"].sites(after, (1, 2, 3, 4)) if s.anchor == first}
    assert last not in again and "add1" not in again
    shortcut = next(id for id in graph.consumers[first] if graph.node(id).op == "add")
    assert f"a skip connection from {first} can lead to" in refusal(graph, "add_skip", first, 1, shortcut)


def test_the_amount_of_a_skip_is_its_target_s_number() -> None:
    graph = resnet((3,))
    site = OPERATORS["add_skip"].sites(graph, (1,))[0]
    assert f"{site.target} comes as number 1; that is the amount" in refusal(
        graph, "add_skip", site.anchor, 2, site.target
    )
    assert "no second node is named" in refusal(graph, "add_skip", site.anchor, 1)
    assert "has no node 'nowhere'" in refusal(graph, "add_skip", site.anchor, 1, "nowhere")
    assert "widen takes no second node" in refusal(graph, "widen", site.anchor, 2, site.target)


def test_skips_go_forward() -> None:
    for graph in (resnet((2, 1)), densenet(), squeezenet(), transformer()):
        for site in OPERATORS["add_skip"].sites(graph, (1, 2, 3, 4, 5)):
            assert site.target is not None and graph.depths[site.anchor] < graph.depths[site.target]


def test_a_gate_is_in_the_source_and_comes_once() -> None:
    graph = stem()
    after = edited(graph, "add_gate", "act", 4)
    source = to_source(after)
    assert "torch.sigmoid" in source and "* 2" in source and after.node("conv1")["out_channels"] == 2
    assert "it has a gate already" in refusal(after, "add_gate", "act", 4)
    assert "a gate goes after an activation" in refusal(graph, "add_gate", "pool", 4)
    assert "no map whose places could be averaged" in refusal(after, "add_gate", "relu1", 4)


def test_a_gate_s_cost_is_declared() -> None:
    delta = OPERATORS["add_gate"].edit(stem(), Site("add_gate", "act", None, 4)).cost_delta
    assert delta == CostDelta(n_params=8 * 2 + 2 + 2 * 8 + 8, macs=8 * 2 + 2 * 8)


def test_gates_stand_at_the_ends_of_branches() -> None:
    graph = resnet()
    ends = {site.anchor for site in OPERATORS["add_gate"].sites(graph) if graph.node(site.anchor).op == "batch_norm2d"}
    assert ends == {i for node in graph.nodes if node.op == "add" for i in node.inputs}


# ------------------------------------------------------------------------------------- expansion and dense connections


def test_expansion_grows_by_the_channels_that_the_block_reads() -> None:
    network = make_network(mobilenet(), 0)
    graph = network.graph
    anchors = {site.anchor for site in OPERATORS["expand_inverted_residual"].sites(graph)}
    assert all(graph.node(id)["kernel_size"] == (1, 1) for id in anchors) and len(anchors) == 2
    for anchor in sorted(anchors):
        reads, wide = graph.input_shapes(anchor)[0][0], graph.shapes[anchor][0]
        site = Site("expand_inverted_residual", anchor, None, 1.0)
        after = apply_sites(network, [site], generator=generator(0))
        assert after.graph.shapes[anchor][0] == wide + reads
        changed = [n for n, t in network.tensors.items() if t.shape != after.tensors[n].shape]
        grown = {name: after.tensors[name] for name in changed if after.tensors[name].dim() > 1}
        readers = [t[:, wide:] for t in grown.values() if t.shape[1] == wide + reads]
        makers = [t[wide:] for t in grown.values() if t.shape[0] == wide + reads]
        assert readers and all(not bool(t.any()) for t in readers)
        assert len(makers) >= 2 and all(bool((t != 0).any()) for t in makers)


def test_no_expansion_without_a_depthwise_convolution() -> None:
    graph = resnet()
    first = next(id for id in graph.order if graph.node(id).op == "conv2d" and graph.node(id)["kernel_size"] == (1, 1))
    assert "no depthwise convolution alone reads" in refusal(graph, "expand_inverted_residual", first, 1)
    assert "the anchor is the expansion" in refusal(graph, "expand_inverted_residual", "relu_1", 1)


def test_a_mini_layer_brings_as_many_channels_as_the_last_one() -> None:
    network = make_network(densenet(growth=3), 0)
    anchors = [site.anchor for site in OPERATORS["dense_growth"].sites(network.graph)]
    assert len(anchors) == 4
    for anchor in anchors:
        for amount, wanted in ((1.0, 3), (2.0, 6)):
            site = Site("dense_growth", anchor, None, amount)
            after = apply_sites(network, [site], generator=generator(0))
            assert after.graph.shapes["concat1"][0] == after.graph.shapes[anchor][0] + wanted
            for name, tensor in network.tensors.items():
                new = after.tensors[name]
                if new.shape != tensor.shape and new.dim() > 1:
                    assert int((new == 0).transpose(0, 1).flatten(1).all(-1).sum()) == wanted


def test_a_mini_layer_is_as_in_the_network() -> None:
    graph = densenet(growth=1)
    after = edited(graph, "dense_growth", OPERATORS["dense_growth"].sites(graph)[-1].anchor, 1)
    new = [node.op for id in after.order if id not in graph for node in [after.node(id)]]
    assert new == ["batch_norm2d", "relu", "conv2d", "batch_norm2d", "relu", "conv2d", "concat"]
    assert new_ops(squeezenet(), "dense_growth", "concat_1", 1) == ["relu", "conv2d", "concat"]


def test_what_cannot_take_more_channels_takes_no_mini_layer() -> None:
    b = Builder(3, 6, 6)
    source = b.add("relu")
    b.add("concat", b.conv(2, 3, source), b.conv(4, 3, source), id="joined")
    b.add("add", "joined", b.conv(6, 3, source), id="sum")
    b.add("flatten")
    b.add("linear", out_channels=3)
    assert "something that follows cannot take more channels" in refusal(b.graph(), "dense_growth", "joined", 1)


def test_moments_of_readers_grow_by_zeros() -> None:
    network = make_network(densenet(), 0)
    site = OPERATORS["dense_growth"].sites(network.graph)[-1]
    ones = {name: torch.ones_like(tensor) for name, tensor in network.tensors.items() if tensor.is_floating_point()}
    after, state = OPERATORS["dense_growth"].apply_with_optimizer(
        network, site, {"exp_avg": ones}, generator=generator(0)
    )
    grown = [name for name, t in ones.items() if name in state["exp_avg"] and after.tensors[name].shape != t.shape]
    assert grown
    for name in grown:
        assert float(state["exp_avg"][name].sum()) == ones[name].numel()


def test_what_is_new_starts_without_moments() -> None:
    network: Network = make_network(stem(groups=4), 0)
    ones = {name: torch.ones_like(tensor) for name, tensor in network.tensors.items()}
    conv = network.graph.node("act").inputs[0]
    for operator, anchor, amount in (("fewer_groups", conv, 1), ("deepen", "act", 3), ("add_gate", "act", 4)):
        site = Site(operator, anchor, None, amount)
        after, state = OPERATORS[operator].apply_with_optimizer(
            network, site, {"exp_avg": ones}, generator=generator(0)
        )
        total = sum(float(values.sum()) for values in state["exp_avg"].values())
        assert total == sum(t.numel() for t in ones.values()) and set(state["exp_avg"]) <= set(after.tensors)
