"""Criteria: which channels go, and what they need to say so."""

from __future__ import annotations

import pytest
import torch

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import OPERATORS
from rlnas.operators.criteria import CRITERIA, get_criterion
from rlnas.operators.importance import Units
from rlnas.operators.prune import PruneChannels
from rlnas.spaces import MorphSpace, Variant
from tests.graphs import Builder
from tests.operators.sameness import generator, make_inputs, make_network


def chain() -> Graph:
    b = Builder(2, 6, 6)
    for k in (1, 2):
        b.conv(8, id=f"conv{k}", bias=False)
        b.add("batch_norm2d", id=f"bn{k}")
        b.add("relu")
    b.add("flatten")
    b.add("linear", id="linear1", out_channels=5)
    return b.graph()


def units(graph: Graph, anchor: str, gone: int) -> tuple[Units, tuple[str, ...]]:
    group = graph.channels.of(anchor)
    assert group is not None
    lengths = {cell: graph.channels.lengths[cell] - gone for cell in group.cells}
    return Units.channels(graph, group.cells, lengths), group.readers


def name(criterion: str) -> str:
    return "prune_channels" if criterion == "reconstruction" else f"prune_channels_{criterion}"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_is_an_operator_that_a_space_can_choose(criterion: str) -> None:
    operator = OPERATORS[name(criterion)]
    assert isinstance(operator, PruneChannels) and operator.criterion is CRITERIA[criterion]
    space = MorphSpace(chain(), (Variant(name(criterion), 0.5),), max_nodes=16)
    assert {site.operator for site in space.legal(chain(), steps_left=1).sites.values()} == {name(criterion)}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_channel_that_is_nothing_goes_first(criterion: str) -> None:
    network = make_network(chain(), 0)
    tensors = {key: tensor.clone() for key, tensor in network.tensors.items()}
    for key in ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"):
        tensors[key][[1, 6]] = 0.0
    network = Network(network.graph, tensors)
    site = Site(name(criterion), "conv1", None, 0.25)
    after = OPERATORS[name(criterion)].apply(
        network, site, generator=generator(0), calibration=make_inputs(chain(), 1, n=32)
    )
    assert torch.equal(after.tensors["conv1.weight"], tensors["conv1.weight"][[0, 2, 3, 4, 5, 7]])


def test_criteria_differ() -> None:
    network, calibration = make_network(chain(), 0), make_inputs(chain(), 1, n=64)
    kept = set()
    for criterion in CRITERIA:
        site = Site(name(criterion), "conv2", None, 0.5)
        after = OPERATORS[name(criterion)].apply(network, site, generator=generator(0), calibration=calibration)
        kept.add(tuple(after.tensors["bn2.running_mean"].tolist()))
    assert len(kept) > 1


@pytest.mark.parametrize("anchor", ["conv1", "conv2"])
def test_taylor_is_the_change_of_the_outputs_when_a_channel_fades(anchor: str) -> None:
    """Against the difference that a slightly smaller channel makes; conv2 is read by a layer behind a flatten."""
    graph = chain()
    network, inputs = make_network(graph, 0), make_inputs(graph, 1, n=70)
    found, readers = units(graph, anchor, 1)
    scores = CRITERIA["taylor"].scores(network, found, readers, inputs)
    assert scores is not None
    (reader,), step = readers, 1e-6
    weight, before = network.tensors[f"{reader}.weight"], network.module().eval()
    for channel in range(8):
        smaller = weight.clone()
        columns = slice(channel, channel + 1) if anchor == "conv1" else slice(36 * channel, 36 * channel + 36)
        smaller[:, columns] *= 1 - step
        after = Network(graph, {**network.tensors, f"{reader}.weight": smaller}).module().eval()
        with torch.no_grad():
            change = ((after(inputs) - before(inputs)) / step).square().sum(1).mean()
        assert float(scores[channel]) == pytest.approx(float(change), rel=1e-3)


def test_scale_counts_every_batch_norm_on_the_channels() -> None:
    graph = chain()
    network = make_network(graph, 0)
    found, readers = units(graph, "conv1", 1)
    scores = CRITERIA["batch_norm_scale"].scores(network, found, readers, None)
    assert scores is not None and torch.allclose(scores, network.tensors["bn1.weight"].abs())


def test_taylor_says_that_it_needs_calibration_inputs() -> None:
    site = Site("prune_channels_taylor", "conv1", None, 0.5)
    with pytest.raises(OperatorError, match="needs calibration inputs"):
        OPERATORS[site.operator].apply(make_network(chain(), 0), site, generator=generator(0))


def test_an_unknown_criterion_is_named_with_the_known_ones() -> None:
    with pytest.raises(OperatorError, match=r"unknown criterion 'tailor'.*taylor"):
        get_criterion("tailor")


def test_a_batch_norm_of_the_inputs_channels_has_no_say() -> None:
    b = Builder(3, 6, 6)
    b.add("conv2d", id="depthwise", out_channels=3, groups=3, kernel_size=(3, 3), bias=False)
    b.add("batch_norm2d", id="bn1")
    b.conv(6, id="conv2", bias=False)
    b.add("batch_norm2d", id="bn2")
    b.conv(4, id="conv3")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=3)
    network, operator = make_network(b.graph(), 0), OPERATORS["prune_channels_batch_norm_scale"]
    sites = [site for site in operator.sites(network.graph) if site.anchor == "conv2"]
    assert sites
    for site in sites:
        kept = operator.apply(network, site, generator=generator(0)).tensors["bn2.weight"].abs()
        assert sorted(kept.tolist()) == sorted(network.tensors["bn2.weight"].abs().tolist())[-len(kept) :]
