"""Operators that shrink: what they take away, what is made up for, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import OPERATORS, apply_sites, drift
from rlnas.operators.attention import AddHeads, WidenKeys, WidenValues
from rlnas.operators.groups import FewerGroups
from rlnas.operators.kernel import GrowKernel
from tests.graphs import Builder
from tests.operators.sameness import check_exact, generator, make_inputs, make_network

LEFT_OVER = 0.03
"""Drift that a ridge leaves where a fit without one would leave none."""


def shrunk(network: Network, site: Site, calibration: Tensor | None = None) -> Network:
    return OPERATORS[site.operator].apply(network, site, generator=generator(0), calibration=calibration)


def plain(op: str = "conv2d", **attrs: Any) -> Graph:
    """Two convolutions and a classifier; the second convolution is the one that is edited."""
    sides = int(op[-2])
    b = Builder(2, *(4 if sides == 3 else 8,) * sides)
    b.add(op, id="conv1", out_channels=8, kernel_size=(3,) * sides, padding=(1,) * sides)
    b.add("relu")
    b.add(op, id="conv2", out_channels=8, **{"kernel_size": (3,) * sides, "padding": (1,) * sides} | attrs)
    b.add("relu")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    return b.graph()


def attention(*, heads: int = 4, kv_heads: int = 4, width: int = 4) -> Graph:
    """Tokens, one attention, a projection, and a mean over the tokens."""
    b = Builder(6, 10)
    source = b.add("linear", id="embed", out_channels=12)
    made = [
        b.add("linear", source, id=name, out_channels=n * width)
        for name, n in (("query", heads), ("key", kv_heads), ("value", kv_heads))
    ]
    b.add("attention", *made, id="attention1", heads=heads, kv_heads=kv_heads, scale=0.5)
    b.add("linear", id="proj", out_channels=12)
    b.add("reduce", kind="mean", axes=(0,), keepdim=False)
    b.add("linear", id="head", out_channels=5)
    return b.graph()


def branches(merge: str) -> Graph:
    """Three branches side by side; behind a concatenation it is read by a convolution."""
    b = Builder(2, 6, 6)
    source = b.conv(6, id="stem")
    ends = []
    for k in (1, 2, 3):
        b.last = source
        b.conv(4, id=f"branch{k}")
        ends.append(b.add("relu", id=f"end{k}"))
    b.add(merge, *ends, id="merge")
    b.conv(5, id="after")
    b.add("relu")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    return b.graph()


SITES = {
    "shrink_kernel": (plain(), Site("shrink_kernel", "conv2", None, 2)),
    "shrink_kernel, depthwise": (plain(groups=8), Site("shrink_kernel", "conv2", None, 2)),
    "shrink_kernel, transposed": (
        plain("conv_transpose2d"),
        Site("shrink_kernel", "conv2", None, 2),
    ),
    "shrink_kernel, 1d": (plain("conv1d", padding_mode="circular"), Site("shrink_kernel", "conv2", None, 2)),
    "shrink_kernel, 3d": (plain("conv3d"), Site("shrink_kernel", "conv2", None, 2)),
    "more_groups": (plain(), Site("more_groups", "conv2", None, 2)),
    "more_groups of groups": (plain(groups=2), Site("more_groups", "conv2", None, 2)),
    "remove_branch": (branches("concat"), Site("remove_branch", "merge", None, 2)),
    "remove_branch, add": (branches("add"), Site("remove_branch", "merge", None, 3)),
    "prune_heads": (attention(), Site("prune_heads", "attention1", None, 1)),
    "prune_heads, shared": (attention(kv_heads=2), Site("prune_heads", "attention1", None, 1)),
    "shrink_values": (attention(), Site("shrink_values", "attention1", None, 0.5)),
    "shrink_keys": (attention(), Site("shrink_keys", "attention1", None, 0.25)),
    "shrink_keys, shared": (attention(kv_heads=2), Site("shrink_keys", "attention1", None, 0.5)),
    "prune_channels, transposed": (plain("conv_transpose2d"), Site("prune_channels", "conv1", None, 0.5)),
    "prune_channels, 1d": (plain("conv1d"), Site("prune_channels", "conv1", None, 0.5)),
    "prune_channels, 3d": (plain("conv3d"), Site("prune_channels", "conv1", None, 0.5)),
    "prune_channels, tokens": (attention(), Site("prune_channels", "embed", None, 0.5)),
    "prune_width": (plain(), Site("prune_width", "image", None, 0.5)),
}


@pytest.mark.parametrize("case", SITES)
def test_compensation_lowers_the_drift_on_inputs_it_has_not_seen(case: str) -> None:
    graph, site = SITES[case]
    calibration, held_out = make_inputs(graph, 1, n=200), make_inputs(graph, 2, n=100)
    gains = []
    for seed in range(3):
        network = make_network(graph, seed)
        fitted, left = shrunk(network, site, calibration), shrunk(network, site)
        assert fitted.history[-1].compensated and not left.history[-1].compensated
        assert fitted.graph == left.graph and fitted.graph.n_params < graph.n_params
        gains.append(drift(network, fitted, held_out) / drift(network, left, held_out))
    assert sum(gains) / len(gains) < 0.98, gains


def undone(grow: Any, grown: Site, shrink: Site, graph: Graph) -> None:
    """Shrinking what was grown, when what is new does nothing yet, loses nothing."""
    network = make_network(graph, 0)
    larger = grow.apply(network, grown, generator=generator(0))
    for calibration in (None, make_inputs(graph, 1, n=32)):
        again = shrunk(larger, shrink, calibration)
        assert again.graph.n_params == graph.n_params and again.graph.macs == graph.macs
        check_exact(network, again, make_inputs(graph, 2), tolerance=1e-9)


def test_a_border_of_zeros_is_not_missed() -> None:
    undone(GrowKernel(), Site("grow_kernel", "conv2", None, 2), Site("shrink_kernel", "conv2", None, 2), plain())


def test_blocks_of_zeros_are_not_missed() -> None:
    graph = plain(groups=2)
    undone(FewerGroups(), Site("fewer_groups", "conv2", None, 1), Site("more_groups", "conv2", None, 2), graph)


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_an_unread_head_goes_first_and_is_not_missed(kv_heads: int) -> None:
    graph = attention(kv_heads=kv_heads)
    grown, site = Site("add_heads", "attention1", None, 1), Site("prune_heads", "attention1", None, 1)
    undone(AddHeads(), grown, site, graph)


def test_unread_values_and_keys_that_are_zero_are_not_missed() -> None:
    graph = attention()
    grown = Site("widen_values", "attention1", None, 2.0)
    undone(WidenValues(), grown, Site("shrink_values", "attention1", None, 0.5), graph)
    grown = Site("widen_keys", "attention1", None, 2.0)
    undone(WidenKeys(), grown, Site("shrink_keys", "attention1", None, 0.5), graph)


def test_groups_that_only_need_another_order_are_found() -> None:
    """A convolution in which even outputs read even inputs only is two groups, once its channels are reordered."""
    graph = plain()
    network = make_network(graph, 0)
    weight = network.tensors["conv2.weight"].clone()
    weight[::2, 1::2], weight[1::2, ::2] = 0.0, 0.0
    network = Network(graph, {**network.tensors, "conv2.weight": weight})
    for calibration in (None, make_inputs(graph, 1, n=32)):
        after = shrunk(network, Site("more_groups", "conv2", None, 2), calibration)
        check_exact(network, after, make_inputs(graph, 2), tolerance=1e-9)


def test_a_copied_head_takes_over() -> None:
    """Of two heads that are alike one goes, and the projection reads the other twice."""
    graph = attention()
    network = make_network(graph, 0)
    tensors = dict(network.tensors)
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            copy = tensors[f"{name}.{part}"].clone()
            copy[4:8] = copy[:4]
            tensors[f"{name}.{part}"] = copy
    network, held_out = Network(graph, tensors), make_inputs(graph, 2, n=64)
    site = Site("prune_heads", "attention1", None, 1)
    fitted = shrunk(network, site, make_inputs(graph, 1, n=512))
    assert drift(network, fitted, held_out) < LEFT_OVER < drift(network, shrunk(network, site), held_out)


def test_a_branch_that_another_one_copies_is_made_up_for() -> None:
    graph = branches("concat")
    network = make_network(graph, 0)
    copied = {f"branch2.{part}": network.tensors[f"branch1.{part}"] for part in ("weight", "bias")}
    network = Network(graph, {**network.tensors, **copied})
    site, held_out = Site("remove_branch", "merge", None, 2), make_inputs(graph, 2, n=64)
    fitted = shrunk(network, site, make_inputs(graph, 1, n=512))
    assert drift(network, fitted, held_out) < LEFT_OVER < 0.1 < drift(network, shrunk(network, site), held_out)
    assert "branch2" not in fitted.graph and fitted.graph.shapes["merge"] == (8, 6, 6)


def test_of_two_branches_one_is_left_and_no_concatenation() -> None:
    network = make_network(branches("concat"), 0)
    sites = [Site("remove_branch", "merge", None, 3), Site("remove_branch", "merge", None, 1)]
    after = apply_sites(network, sites, generator=generator(0))
    assert "merge" not in after.graph and after.graph.node("after").inputs == ("end2",)
    assert torch.equal(after.tensors["after.weight"], network.tensors["after.weight"][:, 4:8])


def test_keys_are_turned_so_that_most_of_the_scores_stays() -> None:
    """Queries and keys of a lower rank than their width lose nothing, though every channel carries something."""
    graph = attention(heads=2, kv_heads=2)
    network = make_network(graph, 0)
    tensors, mixed = dict(network.tensors), torch.randn(4, 2, generator=generator(3), dtype=torch.float64)
    for part in ("weight", "bias"):
        whole = tensors[f"query.{part}"]
        tensors[f"query.{part}"] = torch.cat([mixed @ head[:2] for head in whole.split(4)])
    network = Network(graph, tensors)
    for calibration in (None, make_inputs(graph, 1, n=32)):
        after = shrunk(network, Site("shrink_keys", "attention1", None, 0.5), calibration)
        check_exact(network, after, make_inputs(graph, 2), tolerance=1e-6)


def test_refitting_in_order_is_better_than_group_by_group() -> None:
    """Each layer is fitted to the network as it was, and not to what the last edit made of it."""
    b = Builder(2, 8, 8)
    for k in range(1, 5):
        b.conv(8, id=f"conv{k}")
        b.add("relu")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    graph = b.graph()
    calibration, held_out, ratios = make_inputs(graph, 1, n=128), make_inputs(graph, 2, n=64), []
    for seed in range(3):
        network = make_network(graph, seed)
        at_once = shrunk(network, Site("prune_width", "image", None, 0.5), calibration)
        sites = OPERATORS["prune_channels"].sites(graph, (0.5,))
        stepwise = apply_sites(network, sites, generator=generator(0), calibration=calibration)
        assert at_once.graph == stepwise.graph
        ratios.append(drift(network, at_once, held_out) / drift(network, stepwise, held_out))
    assert sum(ratios) / len(ratios) < 1.0, ratios


@pytest.mark.parametrize(
    ("graph", "site", "reason"),
    [
        (plain(padding=(0, 0)), Site("shrink_kernel", "conv2", None, 2), "padding .* too narrow"),
        (plain(kernel_size=(1, 1), padding=(0, 0)), Site("shrink_kernel", "conv2", None, 2), "is 1 already"),
        (plain(), Site("shrink_kernel", "conv2", None, 4), "not larger than that"),
        (plain(), Site("more_groups", "conv1", None, 4), "do not make 4 equal parts"),
        (plain(groups=8), Site("more_groups", "conv2", None, 2), "has a group of its own already"),
        (attention(), Site("prune_heads", "attention1", None, 4), "of 4 one must stay"),
        (attention(), Site("shrink_values", "attention1", None, 0.95), "left without channels"),
        (branches("add"), Site("remove_branch", "merge", None, 4), "which of its 3 inputs"),
        (plain(), Site("prune_width", "conv1", None, 0.5), "not the network's input"),
        (plain(), Site("prune_channels_batch_norm_scale", "conv1", None, 0.5), "pass a BatchNorm"),
    ],
)
def test_what_does_not_apply_is_refused(graph: Graph, site: Site, reason: str) -> None:
    with pytest.raises(OperatorError, match=reason):
        OPERATORS[site.operator].edit(graph, site)
