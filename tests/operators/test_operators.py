"""What single operators do, beyond what all of them must."""

from __future__ import annotations

import pytest
import torch

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import OPERATORS, CostDelta, apply_sites, get_operator
from rlnas.operators.widen import Widen
from rlnas.spaces import conv_stages
from tests.graphs import Builder
from tests.operators.checks import Case, check_everything_learns
from tests.operators.sameness import check_exact, generator, make_inputs, make_network


def apply(network: Network, operator: str, anchor: str, amount: float = 1) -> Network:
    return apply_sites(network, [Site(operator, anchor, None, amount)], generator=generator(0))


def ids(graph: Graph) -> set[str]:
    return {node.id for node in graph.nodes}


# -------------------------------------------------------------------------------------------------------- registry


def test_unknown_operator() -> None:
    with pytest.raises(OperatorError, match=r"unknown operator 'wide'\. Did you mean 'widen'\? Known: add_gate, "):
        get_operator("wide")
    with pytest.raises(OperatorError, match="unknown operator"):
        apply_sites(make_network(conv_stages((1, 8, 8), 10), 0), [Site("x", "conv1")], generator=generator(0))


def test_amounts_are_offered_as_asked() -> None:
    graph = conv_stages((1, 8, 8), 10)
    assert {site.amount for site in OPERATORS["widen"].sites(graph)} == {1.5, 2.0}
    assert {site.amount for site in OPERATORS["widen"].sites(graph, (3.0, 99.0))} == {3.0}


# ----------------------------------------------------------------------------------------------------------- widen


def test_widen_takes_every_channel_once_before_any_of_them_twice() -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    for factor, most in ((1.5, 2), (2.0, 2), (2.5, 3), (4.0, 4)):
        old, new = network.tensors["conv2.weight"], apply(network, "widen", "conv2", factor).tensors["conv2.weight"]
        copies = [sum(torch.equal(row, wide) for wide in new) for row in old]
        assert sum(copies) == len(new) == int(8 * factor) and max(copies) - min(copies) <= 1 and max(copies) == most


def test_widen_by_a_little_adds_one_channel() -> None:
    network = make_network(conv_stages((1, 8, 8), 10, width=2), 0)
    assert apply(network, "widen", "conv1", 1.01).graph.node("conv1")["out_channels"] == 3


def test_widen_counts_what_it_adds() -> None:
    graph = conv_stages((1, 8, 8), 10)
    delta = OPERATORS["widen"].edit(graph, Site("widen", "conv2", None, 2.0)).cost_delta
    assert delta == CostDelta(n_params=8 * 8 * 9 * 2 + 16, macs=16 * 8 * 8 * 9 + 4 * 8 * 8 * 9)


@pytest.mark.parametrize("before", [False, True])
def test_replicas_part_even_before_a_layer_that_is_zero_or_of_one_weight(before: bool) -> None:
    """A new residual block ends in zeros; noise relative to them, or to the spread of one value, would be none."""
    b = Builder(1, 5, 5)
    b.conv(1, 1)
    b.add("relu", id="act")
    b.add("flatten")
    b.add("linear", out_channels=3)
    network = make_network(b.graph(), 1)
    grown = apply(network, "insert_residual", "act", 3)
    operator, site = Widen(), Site("widen", "conv1", None, 2.0)
    case = (
        Case(operator, grown, site, 0) if before else Case(operator, network, Site("widen", "conv2d_1", None, 2.0), 0)
    )
    check_exact(case.network, case.after, make_inputs(case.network.graph, 0))
    assert all(bool(tensor.isfinite().all()) for tensor in case.after.tensors.values())
    check_everything_learns(case)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 4.0])
def test_noise_of_any_size_cancels_out_over_replicas(noise: float) -> None:
    """What a replica is read with spreads as the noise says around its share; the sum is what it was."""
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    site = Site("widen", "conv1", None, 2.0)
    case = Case(Widen(noise=noise), network, site, 0)
    check_exact(network, case.after, make_inputs(network.graph, 0))
    old, new = (n.tensors["conv2.weight"] for n in (network, case.after))
    made = case.after.tensors["conv1.weight"]
    same = (made[:, None] == made[None]).flatten(2).all(2).to(old.dtype)
    assert same.sum(1).eq(2).all(), "each channel has one replica"
    spread = (new - torch.einsum("oihw,ij->ojhw", new, same) / 2).square().mean().sqrt() / old.square().mean().sqrt()
    # Of two independent values, what is left after their mean is taken away has half the variance.
    assert float(spread) == pytest.approx(noise / 2**0.5, rel=0.1, abs=1e-12)


# --------------------------------------------------------------------------------------------------------- deepen


def test_deepen_copies_the_activation_and_takes_no_norm() -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    after = apply(network, "deepen", "relu1", 3)
    assert ids(after.graph) - ids(network.graph) == {"conv4", "relu4"}
    assert after.graph.node("conv4")["bias"] is True and after.graph.node("pool1").inputs == ("relu4",)


def test_kernels_stay_within_the_map() -> None:
    """The last stage has maps of 2 x 2."""
    graph = conv_stages((1, 8, 8), 10)
    reach = {name: {s.anchor for s in OPERATORS[name].sites(graph, (5,))} for name in ("deepen", "insert_residual")}
    assert reach == {"deepen": {"relu1", "relu2"}, "insert_residual": {"relu1", "pool1", "relu2"}}
    assert {site.anchor for site in OPERATORS["grow_kernel"].sites(graph)} == {"conv1", "conv2"}


# --------------------------------------------------------------------------------------------------- remove a layer


def test_activation_goes_with_its_layer_where_another_one_stands_before_it() -> None:
    graph = conv_stages((1, 8, 8), 10)
    after = OPERATORS["remove_layer"].edit(graph, Site("remove_layer", "conv2")).graph
    assert ids(graph) - ids(after) == {"conv2", "bn2", "relu2"} and after.node("pool2").inputs == ("pool1",)


def test_activation_stays_where_it_is_the_only_one() -> None:
    """After an add, or a BatchNorm, the activation is all that keeps two layers from being one linear map."""
    b = Builder(2, 5, 5)
    stem = b.add("batch_norm2d", b.conv(4), id="stem")
    b.conv(4, id="conv1")
    b.add("batch_norm2d", id="bn1")
    b.add("relu", id="relu1")
    b.add("add", stem, b.conv(4, id="conv2"), id="sum")
    b.conv(4, id="conv3")
    b.add("relu", id="relu3")
    b.conv(4, id="conv4")
    b.add("flatten")
    b.add("linear", out_channels=2)
    graph = b.graph()
    for layer, gone in (("conv1", {"conv1", "bn1"}), ("conv3", {"conv3"}), ("conv4", {"conv4"})):
        assert ids(graph) - ids(OPERATORS["remove_layer"].edit(graph, Site("remove_layer", layer)).graph) == gone


def test_a_concat_counts_as_activated_if_all_its_inputs_are() -> None:
    def gone(second: str) -> set[str]:
        b = Builder(2, 5, 5)
        stem = b.add("tanh", b.conv(2))
        b.add("concat", stem, b.add(second, b.conv(2)))
        b.conv(4, id="conv")
        b.add("relu", id="relu")
        b.conv(3)
        return ids(b.graph()) - ids(OPERATORS["remove_layer"].edit(b.graph(), Site("remove_layer", "conv")).graph)

    assert gone("silu") == {"conv", "relu"} and gone("batch_norm2d") == {"conv"}


def residual(*ends: str) -> Graph:
    """A stem, a branch of two layers from it, and an add of the ends."""
    b = Builder(4, 5, 5)
    b.add("relu", id="stem")
    b.conv(3, id="first")
    b.conv(4, id="second")
    b.add("add", *ends, id="sum")
    b.conv(2, id="last")
    return b.graph()


def test_a_residual_branch_goes_at_its_add() -> None:
    graph = residual("second", "stem")
    after = OPERATORS["remove_layer"].edit(graph, Site("remove_layer", "sum")).graph
    assert ids(after) == {"image", "stem", "last"} and after.node("last").inputs == ("stem",)
    with pytest.raises(OperatorError, match="none of its inputs is a shortcut"):
        b = Builder(4, 5, 5)
        stem = b.add("relu")
        b.add("add", b.conv(4, 3, stem), b.conv(4, 1, stem), id="sum")
        OPERATORS["remove_layer"].edit(b.graph(), Site("remove_layer", "sum"))


def test_a_branch_of_one_layer_goes_at_its_add_only() -> None:
    b = Builder(4, 5, 5)
    stem = b.add("relu")
    b.add("add", b.conv(4, id="only"), stem, id="sum")
    b.conv(2)
    with pytest.raises(OperatorError, match="remove it at its add"):
        OPERATORS["remove_layer"].edit(b.graph(), Site("remove_layer", "only"))
    assert OPERATORS["remove_layer"].edit(b.graph(), Site("remove_layer", "sum")).cost_delta.n_params == -(
        4 * 4 * 9 + 4
    )


def test_first_and_last_layer_stay() -> None:
    b = Builder(4)
    for k in range(3):
        b.add("linear", id=f"linear{k}", out_channels=4)
        b.add("relu", id=f"relu{k}")
    assert {site.anchor for site in OPERATORS["remove_layer"].sites(b.graph())} == {"linear1"}


def test_a_new_block_is_removed_without_harm() -> None:
    graph = conv_stages((1, 8, 8), 10)
    network = make_network(graph, 0)
    grown = apply(network, "insert_residual", "relu2", 3)
    back = apply(grown, "remove_layer", "add1")
    assert back.graph.key == graph.key
    check_exact(network, back, make_inputs(graph, 1))
