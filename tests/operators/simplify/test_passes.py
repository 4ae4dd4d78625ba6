"""What each simplification finds, and what it must leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import rlnas
from rlnas.errors import OperatorError
from rlnas.graph import Graph
from rlnas.graph.table.moves import DROPOUTS
from rlnas.network import Network
from rlnas.operators.simplify import PASSES, Finding, simplify
from rlnas.operators.simplify.convolutions import composed, merged
from tests.cli.running import REPOSITORY
from tests.docs.pages import section, table
from tests.graphs import Builder
from tests.operators.sameness import drifts, make_inputs, make_network
from tests.operators.simplify.exactness import check_finding, check_findings, check_simplify
from tests.operators.test_conformance import QUICK


def found(name: str, network: Network, *, training: bool = False) -> list[Finding]:
    """Findings of one pass, each checked."""
    one = PASSES[name](training=training)
    findings = list(one.find(network))
    for finding in findings:
        check_finding(one, network, finding)
    return findings


def changed(network: Network, **tensors: Tensor) -> Network:
    """The network with other tensors; double underscores stand for dots."""
    return network.with_tensors({**network.tensors, **{k.replace("__", "."): v for k, v in tensors.items()}})


def rows(network: Network, name: str, factors: dict[int, tuple[int, float]]) -> Network:
    """The network with some rows of a layer's tensors multiples of others: row i is factor times row j."""
    made = {key: tensor.clone() for key, tensor in network.tensors.items()}
    for key in (f"{name}.weight", f"{name}.bias"):
        for i, (j, factor) in factors.items():
            made[key][i] = factor * made[key][j]
    return network.with_tensors(made)


def chain(*steps: tuple[str, dict[str, Any]], channels: int = 4, size: int = 6) -> Graph:
    """Convolutions and other ops one after the other, then a classifier."""
    b = Builder(channels, size, size)
    for op, attrs in steps:
        b.conv(**attrs) if op == "conv" else b.add(op, **attrs)
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=3)
    return b.graph()


# ----------------------------------------------------------------------------------------------- batch norm


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_folds_into_the_layer_before_it(groups: int) -> None:
    graph = chain(("conv", {"out": 4, "groups": groups, "bias": False}), ("batch_norm2d", {}), ("relu", {}))
    (finding,) = found("fold_batch_norm", make_network(graph, 0))
    assert finding.nodes == ("batch_norm2d_1", "conv2d_1") and finding.n_params == 4


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_transposed_convolutions_with_a_norm_and_a_replica(n: int, groups: int) -> None:
    b = Builder(4, *(5,) * n)
    sizes = {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 0, "dilation": 1}
    sizes_n = {name: (size,) * n for name, size in sizes.items()}
    for out in (6, 4):
        b.add(f"conv_transpose{n}d", out_channels=out, groups=groups, bias=True, **sizes_n)
        b.add(f"batch_norm{n}d")
        b.add("relu")
    network = make_network(b.graph(), 0)
    assert len(found("fold_batch_norm", network)) == 2
    tensors = {name: tensor.clone() for name, tensor in network.tensors.items()}
    for name, tensor in tensors.items():
        if (name.startswith("batch_norm") and "_1." in name and tensor.dim()) or name == f"conv_transpose{n}d_1.bias":
            tensor[1] = tensor[0]
        elif name == f"conv_transpose{n}d_1.weight":
            tensor[:, 1] = tensor[:, 0]  # the first outputs of every block, of which each reads its own inputs
    merged = found("merge_duplicate_channels", network.with_tensors(tensors), training=True)
    assert [f.amount for f in merged] == [1] * (groups == 1)


def test_batch_norm_folds_into_the_layers_after_it() -> None:
    graph = chain(("relu", {}), ("batch_norm2d", {}), ("conv", {"out": 6, "kernel": 3, "padding": (0, 0), "groups": 2}))
    (finding,) = found("fold_batch_norm", make_network(graph, 0))
    assert finding.nodes == ("batch_norm2d_1", "conv2d_1") and "after it" in finding.text


def test_batch_norm_before_padding_with_zeros_stays_unless_it_shifts_nothing() -> None:
    graph = chain(("relu", {}), ("batch_norm2d", {}), ("conv", {"out": 4, "kernel": 3}))
    network = make_network(graph, 0)
    assert not found("fold_batch_norm", network)
    zeros = torch.zeros(4, dtype=torch.float64)
    assert found("fold_batch_norm", changed(network, batch_norm2d_1__bias=zeros, batch_norm2d_1__running_mean=zeros))
    reflect = chain(("batch_norm2d", {}), ("conv", {"out": 4, "kernel": 3, "padding_mode": "reflect"}))
    assert found("fold_batch_norm", make_network(reflect, 0))


def test_batch_norm_stays_where_others_read_the_layer_and_where_training_goes_on() -> None:
    b = Builder(3, 6, 6)
    conv = b.conv(4)
    b.add("batch_norm2d")
    b.add("relu")
    b.add("add", b.last, conv)
    assert not found("fold_batch_norm", make_network(b.graph(), 0))
    graph = chain(("conv", {"out": 4}), ("batch_norm2d", {}))
    network = make_network(graph, 0)
    assert not found("fold_batch_norm", network, training=True)
    assert simplify(network, training=True) is network
    assert drifts(network, simplify(network), make_inputs(graph, 0))["training"] > 1e-3, "it changes training mode"


def test_a_linear_batch_norm_on_vectors_folds_but_not_across_axes() -> None:
    b = Builder(5)
    b.add("linear", out_channels=4)
    b.add("batch_norm1d")
    assert len(found("fold_batch_norm", make_network(b.graph(), 0))) == 1
    b = Builder(5, 4)  # the linear layer makes the last axis, the norm is over the first
    b.add("linear", out_channels=5)
    b.add("batch_norm1d")
    b.add("linear", out_channels=5)
    assert not found("fold_batch_norm", make_network(b.graph(), 0))


# ------------------------------------------------------------------------------------------------ two layers


@given(
    first=st.tuples(*[st.sampled_from(v) for v in ((1, 3), (1, 2), (0, 1), (1, 2), (1, 2), (True, False))]),
    second=st.tuples(*[st.sampled_from(v) for v in ((1, 2, 3), (1, 2), (0, 1), (1, 2), (1, 2, 4), (True, False))]),
    mode=st.sampled_from(["zeros", "circular"]),
    shift=st.booleans(),
)
@settings(QUICK, max_examples=60)
def test_merging_two_convolutions(first: tuple[Any, ...], second: tuple[Any, ...], mode: str, shift: bool) -> None:
    """Whatever the strides, paddings, dilations and groups: merged exactly, or left alone."""
    b = Builder(4, 17, 16)
    for out, (kernel, stride, padding, dilation, groups, bias) in ((8, first), (4, second)):
        sizes = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        b.add(
            "conv2d",
            out_channels=out,
            groups=groups,
            bias=bias,
            padding_mode=mode,
            **{k: (v, v) for k, v in sizes.items()},
        )
    network = make_network(b.graph(), 0)
    if not shift:
        network = network.with_tensors({k: v * (k != "conv2d_1.bias") for k, v in network.tensors.items()})
    inputs = make_inputs(network.graph, 0)
    node = merged(network.graph, network.tensors, "conv2d_1", "conv2d_2")
    if node is None:
        return
    weight, bias = composed(network.graph, network.tensors, "conv2d_1", node)
    tensors = {"conv2d_2.weight": weight} | ({"conv2d_2.bias": bias} if node["bias"] else {})
    after = Network(Graph((network.graph.input, node), "conv2d_2"), tensors)
    assert max(drifts(network, after, inputs).values()) <= 1e-12


@pytest.mark.parametrize(
    ("first", "second", "merges"),
    [
        ({"out": 8, "kernel": 1}, {"out": 4, "kernel": 1}, True),
        ({"out": 8, "kernel": 3}, {"out": 4, "kernel": 1}, True),
        ({"out": 8, "kernel": 3, "stride": (2, 2)}, {"out": 2, "kernel": 1, "stride": (2, 2)}, True),
        ({"out": 8, "kernel": 1, "bias": False}, {"out": 4, "kernel": 3}, True),
        ({"out": 8, "kernel": 1}, {"out": 4, "kernel": 3}, False),  # the bias is not there past the border
        ({"out": 8, "kernel": 1}, {"out": 4, "kernel": 3, "padding": (0, 0)}, True),
        ({"out": 8, "kernel": 1}, {"out": 4, "kernel": 3, "padding_mode": "reflect"}, True),
        ({"out": 8, "kernel": 3, "bias": False}, {"out": 4, "kernel": 3}, False),  # nor what the first would make there
        ({"out": 2, "kernel": 1}, {"out": 8, "kernel": 1}, False),  # a bottleneck is the smaller form
    ],
)
def test_which_convolutions_merge(first: dict[str, Any], second: dict[str, Any], merges: bool) -> None:
    network = make_network(chain(("conv", first), ("conv", second), channels=8), 0)
    assert len(found("merge_convolutions", network)) == merges


def test_linear_layers_merge_and_others_between_keep_them_apart() -> None:
    b = Builder(5, 6)
    b.add("linear", out_channels=9)
    b.add("linear", out_channels=3, bias=False)
    (finding,) = found("merge_convolutions", make_network(b.graph(), 0))
    assert finding.nodes == ("linear_2", "linear_1")
    relu = chain(("conv", {"out": 8, "kernel": 1}), ("relu", {}), ("conv", {"out": 4, "kernel": 1}))
    assert not found("merge_convolutions", make_network(relu, 0))


# ------------------------------------------------------------------------------------------------- channels


@pytest.mark.parametrize(("activation", "factor", "merges"), [
    ("relu", 1.0, True), ("relu", 2.5, True), ("relu", -1.0, False), ("leaky_relu", 0.3, True),
    ("sigmoid", 1.0, True), ("sigmoid", 2.5, False), ("gelu", 2.5, False),
])  # fmt: skip
def test_channels_that_are_multiples(activation: str, factor: float, merges: bool) -> None:
    graph = chain(
        ("conv", {"out": 6}),
        (activation, {}),
        ("max_pool2d", {"kernel_size": (2, 2), "stride": (2, 2)}),
        ("conv", {"out": 4}),
    )
    network = rows(make_network(graph, 0), "conv2d_1", {3: (1, factor)})
    findings = found("merge_duplicate_channels", network, training=True)
    assert [f.amount for f in findings] == [1] * merges
    if merges:
        assert findings[0].nodes == ("conv2d_1", "conv2d_2")
        assert findings[0].n_params == 4 * 9 + 1 + 4 * 9


def test_channels_through_adds_concats_flatten_depthwise_and_gates() -> None:
    b = Builder(3, 4, 4)
    one, two = b.conv(4, 3), b.conv(4, 1, "image")
    total = b.add("relu", b.add("add", one, two))
    b.conv(4, 3, total, groups=4)
    joined = b.add("concat", b.add("relu"), total)
    b.add("adaptive_avg_pool2d")
    b.conv(8, 1)
    b.add("mul", b.add("sigmoid"), joined)
    b.add("flatten")
    b.add("linear", out_channels=3)
    network = make_network(b.graph(), 0)
    for layer in ("conv2d_1", "conv2d_2"):
        network = rows(network, layer, {2: (0, 1.0)})
    assert not found("merge_duplicate_channels", network)
    network = rows(network, "conv2d_3", {2: (0, 1.0)})
    assert not found("merge_duplicate_channels", network)  # the gates still differ
    network = rows(network, "conv2d_4", {2: (0, 1.0), 6: (4, 1.0)})
    (finding,) = found("merge_duplicate_channels", network)
    assert finding.amount == 1


@pytest.mark.parametrize("kind", ["dropout", "dropout2d", "alpha_dropout"])
def test_dropout_keeps_equal_channels_apart_in_training_only(kind: str) -> None:
    graph = chain(("conv", {"out": 6}), ("relu", {}), (kind, {"p": 0.3}), ("conv", {"out": 4}))
    network = rows(make_network(graph, 0), "conv2d_1", {3: (1, 1.0)})
    assert found("merge_duplicate_channels", network) and not found("merge_duplicate_channels", network, training=True)


def test_statistics_make_channels_multiples_in_eval_mode_only() -> None:
    b = Builder(3, 6, 6)
    conv = b.conv(4, bias=False)
    b.add("batch_norm2d")
    b.add("relu")
    b.conv(4, 1)
    b.add("add", b.last, b.conv(4, 1, b.add("relu", conv)))  # read twice, so that the norm cannot be folded
    network = make_network(b.graph(), 0)
    tensors = {k: v.clone() for k, v in network.tensors.items()}
    tensors["conv2d_1.weight"][3] = 2 * tensors["conv2d_1.weight"][1]
    for name, power in (("weight", 0), ("bias", 0), ("running_mean", 1), ("running_var", 2)):
        tensors[f"batch_norm2d_1.{name}"][3] = 2.0**power * tensors[f"batch_norm2d_1.{name}"][1]
    tensors["batch_norm2d_1.running_var"][3] = 4 * tensors["batch_norm2d_1.running_var"][1]
    # (var + eps) is not 4 (var + eps); the scale makes up for it, in eval mode
    eps = 1e-5
    var = tensors["batch_norm2d_1.running_var"]
    tensors["batch_norm2d_1.weight"][3] *= ((var[3] + eps) / (4 * (var[1] + eps))).sqrt()
    network = network.with_tensors(tensors)
    assert found("merge_duplicate_channels", network)
    assert not found("merge_duplicate_channels", network, training=True)


@pytest.mark.parametrize("zero", ["weight", "column", "norm"])
def test_dead_units(zero: str) -> None:
    """Constant after the activation, read with zeros, or shut by a norm."""
    b = Builder(3, 6, 6)
    b.conv(5)
    b.add("batch_norm2d")
    b.add("relu")
    b.conv(4, padding=(0, 0))
    network = make_network(b.graph(), 0)
    tensors = {k: v.clone() for k, v in network.tensors.items()}
    if zero == "column":
        tensors["conv2d_2.weight"][:, 2] = 0
    else:
        tensors["conv2d_1.weight" if zero == "weight" else "batch_norm2d_1.weight"][2] = 0
    network = network.with_tensors(tensors)
    (finding,) = found("remove_dead_units", network)
    assert finding.amount == 1 and finding.n_params == 3 * 9 + 1 + 2 + 4 * 9
    assert len(found("remove_dead_units", network, training=True)) == (zero != "weight")


@pytest.mark.parametrize(("bias", "dead"), [(0.5, False), (-0.5, True), (0.0, True)])
def test_a_constant_before_padding_with_zeros_is_dead_only_if_it_is_zero(bias: float, dead: bool) -> None:
    network = make_network(chain(("conv", {"out": 5}), ("relu", {}), ("conv", {"out": 4})), 0)
    tensors = {k: v.clone() for k, v in network.tensors.items()}
    tensors["conv2d_1.weight"][2], tensors["conv2d_1.bias"][2] = 0, bias
    assert len(found("remove_dead_units", network.with_tensors(tensors), training=True)) == dead


def test_blocks_of_grouped_convolutions_stay_equally_long_and_one_channel_stays() -> None:
    network = make_network(chain(("conv", {"out": 8}), ("relu", {}), ("conv", {"out": 4, "groups": 2})), 0)
    three = rows(network, "conv2d_1", {1: (0, 1.0), 2: (0, 1.0), 5: (4, 1.0)})
    (finding,) = found("merge_duplicate_channels", three)
    assert finding.amount == 2
    none = changed(network, conv2d_2__weight=torch.zeros_like(network.tensors["conv2d_2.weight"]))
    finding, behind = found("remove_dead_units", none)
    assert (finding.nodes[0], finding.amount) == ("conv2d_1", 6)
    assert (behind.nodes[0], behind.amount) == ("conv2d_2", 2)  # constant, and a channel of each block stays


def test_tied_layers_and_black_boxes_are_left_alone() -> None:
    b = Builder(4, 6)
    b.add("linear", out_channels=6)
    b.add("relu")
    b.add("linear", out_channels=6, shares="linear_1")
    b.add("opaque", text="{0}.sort(-1).values", shape=(4, 6))
    b.add("linear", out_channels=6)
    network = rows(make_network(b.graph(), 0), "linear_1", {3: (1, 1.0), 4: (4, 0.0)})
    assert not check_findings(network)


# ------------------------------------------------------------------------------------- branches and identities


def test_equal_branches() -> None:
    b = Builder(3, 6, 6)
    ends = []
    for _ in range(3):
        b.conv(4, 3, "image")
        b.add("relu")
        ends.append(b.conv(5, 1))
    b.add("add", *ends)
    network = make_network(b.graph(), 0)
    assert len(found("merge_equal_branches", network)) == 0
    names = {f"conv2d_{2 * k + i}.{t}": network.tensors[f"conv2d_{i}.{t}"] for k in (1, 2) for i in (1, 2)
             for t in ("weight", "bias")}  # fmt: skip
    equal = network.with_tensors({**network.tensors, **names})
    assert len(found("merge_equal_branches", equal)) == 2
    after = check_simplify(equal)
    assert after.graph.n_params == 4 * 28 + 5 * 5 and [n.op for n in after.graph.nodes].count("conv2d") == 2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("kind", DROPOUTS)
def test_branches_with_dropout_draw_for_themselves(kind: str, dropout: float) -> None:
    b = Builder(3, *(6,) * int(kind[-2] if kind.endswith("d") else 2))
    ends = [b.add("relu", b.add(kind, "image", p=dropout)) for _ in range(2)]
    b.add("concat", *ends)
    assert len(found("merge_equal_branches", make_network(b.graph(), 0))) == (not dropout)


def test_layers_of_which_the_sum_is_read_become_one() -> None:
    """Kernels of different sizes too, if their middles lie at the same place."""
    b = Builder(4, 6, 6)
    ends = [b.conv(4, 3, "image"), b.conv(4, 1, "image", bias=False), b.conv(4, 3, "image", groups=2)]
    b.add("add", *ends)
    (finding,) = found("merge_equal_branches", make_network(b.graph(), 0))
    assert finding.nodes == ("add_1", "conv2d_1", "conv2d_2") and finding.n_params == 16
    b.add("relu", "conv2d_2")
    b.add("add", "add_1", b.last)
    assert not found("merge_equal_branches", make_network(b.graph(), 0)), "another node reads one of them"


def test_identities() -> None:
    b = Builder(4, 6, 6)
    b.add("identity")
    b.add("dropout", p=0.0)
    copy = b.conv(4, 3)
    source = b.add("relu", b.add("relu"))
    zero = b.conv(4, 3)
    b.add("add", source, b.add("tanh", zero))
    b.add("add", b.last, b.conv(4, 1))
    network = make_network(b.graph(), 0)
    assert len(found("remove_identities", network)) == 3
    dirac = torch.zeros_like(network.tensors["conv2d_1.weight"])
    dirac[range(4), range(4), 1, 1] = 1
    nothing = {f"{zero}.{name}": network.tensors[f"{zero}.{name}"] * 0 for name in ("weight", "bias")}
    bias = network.tensors["conv2d_1.bias"] * 0
    same = network.with_tensors({**network.tensors, f"{copy}.weight": dirac, f"{copy}.bias": bias, **nothing})
    assert len(found("remove_identities", same)) == 5
    assert [n.op for n in simplify(same, ["remove_identities"]).graph.nodes] == ["input", "relu", "conv2d", "add"]


# --------------------------------------------------------------------------------------------- how it is called


def test_findings_of_another_network_and_unknown_names_are_refused() -> None:
    network = make_network(chain(("conv", {"out": 4}), ("batch_norm2d", {})), 0)
    one = PASSES["fold_batch_norm"]()
    (finding,) = one.find(network)
    with pytest.raises(
        OperatorError, match=r"batch_norm2d_1 .*: not found in this network by fold_batch_norm; ask find"
    ):
        one.apply(one.apply(network, finding), finding)
    with pytest.raises(
        OperatorError, match=r"unknown simplification 'fold_batchnorm'\. Did you mean 'fold_batch_norm'"
    ):
        simplify(network, ["fold_batchnorm"])


def test_the_report_says_what_was_found_and_only_chosen_passes_run() -> None:
    network = make_network(chain(("conv", {"out": 4}), ("batch_norm2d", {}), ("identity", {})), 0)
    lines: list[str] = []
    after = rlnas.simplify(network, ["fold_batch_norm"], report=lambda finding: lines.append(str(finding)))
    assert lines == [
        "fold_batch_norm: batch_norm2d_1 folds into conv2d_1, before it (saves 8 parameters, 0 MACs)",
    ]
    assert [node.op for node in after.graph.sorted_nodes][:3] == ["input", "conv2d", "identity"]
    assert simplify(network, []) is network


def test_the_guide_names_every_pass_in_its_order() -> None:
    listed = table(section(REPOSITORY / "docs" / "operators.md", "The passes"))
    assert [row[0] for row in listed] == list(PASSES)
    assert [row[-1] == "never" for row in listed] == [name == "fold_batch_norm" for name in PASSES]
