"""Pruning and least-squares compensation: what goes, and what is made up for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import OPERATORS, drift
from rlnas.operators.compensate import compensate
from rlnas.operators.patches import MAX_ROWS, rows, sample
from rlnas.operators.widen import Widen
from rlnas.spaces import conv_stages
from tests.graphs import Builder
from tests.operators.sameness import check_exact, generator, make_inputs, make_network

PRUNE = OPERATORS["prune_channels"]


def prune(network: Network, anchor: str, share: float, calibration: Tensor | None) -> Network:
    site = Site("prune_channels", anchor, None, share)
    return PRUNE.apply(network, site, generator=generator(0), calibration=calibration)


def chain(*, norm: bool, flat: bool = False) -> Graph:
    """Two convolutions and a classifier, on pooled features or on the whole map."""
    b = Builder(2, 6, 6)
    for k in (1, 2):
        b.conv(8, id=f"conv{k}")
        if norm:
            b.add("batch_norm2d", id=f"bn{k}")
        b.add("relu")
    if not flat:
        b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    return b.graph()


def with_changes(network: Network, **changes: Any) -> Network:
    """Some rows of some tensors set; ``conv1__weight={3: 0.0}`` sets row 3 of ``conv1.weight``."""
    tensors = {name: tensor.clone() for name, tensor in network.tensors.items()}
    for name, changed in changes.items():
        for row, value in changed.items():
            tensors[name.replace("__", ".")][row] = value
    return Network(network.graph, tensors)


@pytest.mark.parametrize("calibrate", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_dead_channels_go_first_and_are_not_missed(norm: bool, calibrate: bool) -> None:
    graph = chain(norm=norm)
    zero: dict[str, Any] = {"conv1__weight": {2: 0.0, 5: 0.0}, "conv1__bias": {2: 0.0, 5: 0.0}}
    if norm:
        zero |= {name: {2: 0.0, 5: 0.0} for name in ("bn1__bias", "bn1__running_mean")}
    network = with_changes(make_network(graph, 0), **zero)
    pruned = prune(network, "conv1", 0.25, make_inputs(graph, 1, n=64) if calibrate else None)
    kept = [0, 1, 3, 4, 6, 7]
    assert torch.equal(pruned.tensors["conv1.weight"], network.tensors["conv1.weight"][kept])
    check_exact(network, pruned, make_inputs(graph, 2))


@pytest.mark.parametrize("norm", [True, False])
def test_unread_channels_go_first_and_are_not_missed(norm: bool) -> None:
    graph = chain(norm=norm)
    network = make_network(graph, 0)
    columns = network.tensors["conv2.weight"].clone()
    columns[:, [1, 6]] = 0.0
    network = Network(graph, {**network.tensors, "conv2.weight": columns})
    for calibration in (None, make_inputs(graph, 1, n=64)):
        check_exact(network, prune(network, "conv1", 0.25, calibration), make_inputs(graph, 2))


def test_constant_channels_go_into_the_shift() -> None:
    """A channel that always carries the same value is worth a bias (read by a 1x1 kernel, without a border)."""
    b = Builder(2, 6, 6)
    b.conv(8, id="conv1")
    b.add("relu")
    b.conv(4, 1, id="conv2")
    b.add("batch_norm2d", id="bn2")
    graph = b.graph()
    network = make_network(graph, 0)
    network = with_changes(network, conv1__weight={3: 0.0, 4: 0.0}, conv1__bias={3: 2.0, 4: 3.0})
    for bias in (True, False):  # into the bias, or into the BatchNorm that follows
        if not bias:
            nodes = tuple(n.replace(bias=False) if n.id == "conv2" else n for n in graph.nodes)
            tensors = {n: t for n, t in network.tensors.items() if n != "conv2.bias"}
            network = Network(Graph(nodes, graph.output), tensors)
        pruned = prune(network, "conv1", 0.25, make_inputs(graph, 1, n=64))
        assert torch.equal(pruned.tensors["conv1.weight"], network.tensors["conv1.weight"][[0, 1, 2, 5, 6, 7]])
        assert drift(network, pruned, make_inputs(graph, 2, n=64)) < 1e-6


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("anchor", ["conv1", "conv2"])
def test_half_of_the_duplicates_go_and_the_function_stays(anchor: str, flat: bool) -> None:
    """Widened twofold without noise, every channel is there twice; pruning takes one of each pair."""
    graph = chain(norm=True, flat=flat)
    network, calibration = make_network(graph, 0), make_inputs(graph, 1, n=256)
    wide = Widen(noise=0.0).apply(network, Site("widen", anchor, None, 2.0), generator=generator(0))
    pruned = prune(wide, anchor, 0.5, calibration)
    rows = {tuple(row.tolist()) for row in pruned.tensors[f"{anchor}.weight"].flatten(1)}
    assert rows == {tuple(row.tolist()) for row in network.tensors[f"{anchor}.weight"].flatten(1)}
    fresh = make_inputs(graph, 2, n=64)
    assert drift(wide, pruned, fresh) < 0.02 < 0.2 < drift(wide, prune(wide, anchor, 0.5, None), fresh)


def test_fit_chooses_better_than_magnitude() -> None:
    """On random networks, with the same refit afterwards."""

    ratios = []
    for seed in range(12):
        graph = chain(norm=seed % 2 == 0, flat=seed % 3 == 0)
        network, calibration = make_network(graph, seed), make_inputs(graph, seed + 1, n=128)
        for anchor in ("conv1", "conv2"):
            site = Site("prune_channels", anchor, None, 0.5)
            fitted, plain = (
                operator.apply(
                    network, replace(site, operator=operator.name), generator=generator(0), calibration=calibration
                )
                for operator in (PRUNE, OPERATORS["prune_channels_magnitude"])
            )
            held_out = make_inputs(graph, seed + 2, n=128)
            ratios.append(drift(network, fitted, held_out) / drift(network, plain, held_out))
    assert sum(ratios) / len(ratios) < 0.9


@pytest.mark.parametrize("name", ["prune_channels", "remove_layer"])
def test_compensation_helps_on_inputs_it_has_not_seen(name: str) -> None:
    graph = conv_stages((1, 8, 8), 10)
    calibration, held_out = make_inputs(graph, 3, n=128), make_inputs(graph, 4, n=128)
    gains = []
    for seed in range(5):
        network = make_network(graph, seed)
        for site in OPERATORS[name].sites(graph):
            plain = OPERATORS[name].apply(network, site, generator=generator(0))
            helped = OPERATORS[name].apply(network, site, generator=generator(0), calibration=calibration)
            gains.append(drift(network, helped, held_out) / drift(network, plain, held_out))
    assert sum(gains) / len(gains) < 0.5 and sum(gain < 1 for gain in gains) > 0.9 * len(gains)


def test_few_samples_for_many_weights_do_no_harm() -> None:
    """More features than samples: without a ridge that knows, the fit is perfect on the samples and wild elsewhere."""
    b = Builder(1, 6, 6)
    b.conv(16, id="conv1")
    b.add("relu")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    graph = b.graph()
    for seed in range(4):
        network, held_out = make_network(graph, seed), make_inputs(graph, seed + 2, n=256)
        helped = prune(network, "conv1", 0.5, make_inputs(graph, seed + 1, n=40))
        assert drift(network, helped, held_out) < 0.8 * drift(network, prune(network, "conv1", 0.5, None), held_out)


@given(
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_what_can_be_made_up_for_is(kernel: int, dilation: int, seed: int, **window: Any) -> None:
    """Weights spoiled at random are found again, for every kind of convolution; the rows are enough to tell them."""
    b = Builder(4, 7, 6)
    b.add("tanh")
    b.add("conv2d", id="conv1", out_channels=6, kernel_size=(kernel, kernel), dilation=(dilation, dilation), **window)
    graph = b.graph()
    network, inputs = make_network(graph, seed), make_inputs(graph, seed, n=300)
    spoiled = {n: t + torch.randn(t.shape, generator=generator(1), dtype=t.dtype) for n, t in network.tensors.items()}
    if not window["bias"]:
        spoiled |= {n: t for n, t in network.tensors.items() if n.endswith("bias")}
    refitted = compensate(network, graph, spoiled, ["conv1"], inputs)
    for name, tensor in network.tensors.items():
        assert torch.allclose(refitted[name], tensor, atol=0.05), name
    after, before = (drift(network, Network(graph, tensors), inputs) for tensors in (refitted, spoiled))
    assert after < 0.05 < 0.5 < before


@given(graph_seed=st.integers(0, 5), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_layer_that_is_refitted_comes_closer_to_what_it_was(graph_seed: int, seed: int) -> None:
    """Least squares: on the inputs it is fitted to, the first refitted layer cannot miss more than before."""
    graph = chain(norm=graph_seed % 2 == 0, flat=graph_seed % 3 == 0)
    network, inputs = make_network(graph, seed), make_inputs(graph, seed, n=40)
    wanted = rows(network, {"conv2": 72}, inputs)["conv2"].made
    noise = 0.2 * torch.randn(network.tensors["conv1.weight"].shape, generator=generator(seed), dtype=torch.float64)
    spoiled = {**network.tensors, "conv1.weight": network.tensors["conv1.weight"] + noise}
    refitted = compensate(network, graph, spoiled, ["conv2"], inputs)
    errors = [
        float((rows(Network(graph, t), {"conv2": 72}, inputs)["conv2"].made - wanted).square().mean())
        for t in (spoiled, refitted)
    ]
    assert errors[1] <= errors[0]


def test_rows_are_spread_over_all_places_of_a_map() -> None:
    """Every sixteenth row of 32 x 32 maps would be columns 0 and 16 only."""
    chosen = sample(256 * 1024)
    assert len(chosen) == MAX_ROWS and len(set(chosen.tolist())) == MAX_ROWS
    assert torch.bincount(chosen % 32, minlength=32).min() > 0.8 * MAX_ROWS / 32
    assert torch.equal(sample(100), torch.arange(100)) and torch.equal(chosen, sample(256 * 1024))


def test_a_grouped_layer_that_becomes_depthwise_is_refitted_block_by_block() -> None:
    b = Builder(1, 6, 6)
    b.conv(4, id="conv1")
    b.add("relu")
    b.conv(2, id="pairs", groups=2)
    b.add("flatten")
    b.add("linear", out_channels=3)
    graph = b.graph()
    network, calibration = make_network(graph, 0), make_inputs(graph, 1, n=64)
    pruned, plain = (prune(network, "conv1", 0.5, given) for given in (calibration, None))
    assert tuple(pruned.tensors["pairs.weight"].shape) == (2, 1, 3, 3)
    assert drift(network, pruned, calibration) < drift(network, plain, calibration)


def test_what_is_not_finite_is_refused() -> None:
    graph = conv_stages((1, 8, 8), 10)
    network = with_changes(make_network(graph, 0), conv2__weight={0: float("inf")})
    with pytest.raises(OperatorError, match=r"conv2 .* not finite"):
        prune(network, "conv1", 0.5, make_inputs(graph, 1))


def test_calibration_inputs_must_fit() -> None:
    graph = conv_stages((1, 8, 8), 10)
    network = make_network(graph, 0)
    for shape in ((4, 3, 8, 8), (0, 1, 8, 8), (4, 8, 8)):
        with pytest.raises(OperatorError, match="calibration inputs have shape"):
            prune(network, "conv1", 0.5, torch.zeros(shape))
    # Task inputs are float32; a network in another type takes them all the same.
    assert prune(network, "conv1", 0.5, make_inputs(graph, 1, dtype=torch.float32)).dtype == torch.float64
