"""Every registered operator, over random graphs and sequences; and broken operators, which must fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network
from rlnas.operators import OPERATORS, Operator, apply_sites, drift
from rlnas.operators.base import Edit, Tensors
from rlnas.operators.deepen import Deepen
from rlnas.operators.residual import InsertResidual
from rlnas.operators.widen import Widen
from rlnas.spaces import conv_stages
from tests.graphs import Builder, graphs
from tests.operators.checks import (
    check_costs,
    check_exact,
    check_input_untouched,
    check_reproducible,
    check_round_trip,
    check_trains,
    generator,
    make_inputs,
    make_network,
    relative,
)

QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking a network takes minutes and tells little
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=300)
SEEDS = st.integers(0, 1000)


def conform(operator: Operator, graph: Graph, seed: int, pick: int) -> None:
    """All checks of one operator at one of its sites on a graph."""
    sites = operator.sites(graph)
    if not sites:
        return
    site = sites[pick % len(sites)]
    before, inputs = make_network(graph, seed), make_inputs(graph, seed)
    calibration = make_inputs(graph, seed + 5, n=24)
    after = operator.apply(before, site, generator=generator(seed), calibration=calibration)
    if operator.exact:
        check_exact(before, after, inputs)
    else:
        assert after.history[-1].drift == pytest.approx(drift(before, after, calibration))
    check_costs(operator, before, site, after)
    check_input_untouched(operator, before, site, calibration)
    check_reproducible(operator, before, site, calibration)
    check_round_trip(after, site)
    check_trains(after, inputs)


@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
@QUICK
def test_operator(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPERATORS))
@given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
@LONG
def test_operator_at_length(name: str, graph: Graph, seed: int, pick: int) -> None:
    conform(OPERATORS[name], graph, seed, pick)


def run_sequence(graph: Graph, seed: int, picks: list[int], names: list[str]) -> None:
    start = make_network(graph, seed)
    current, inputs, sites = start, make_inputs(graph, seed), []
    for pick in picks:
        offered = [site for name in names for site in OPERATORS[name].sites(current.graph)]
        if not offered or current.graph.n_params > 50_000:
            break
        site = offered[pick % len(offered)]
        sites.append(site)
        current = OPERATORS[site.operator].apply(current, site, generator=generator(pick))
    if all(OPERATORS[name].exact for name in names):
        check_exact(start, current, inputs)
    assert len(current.history) == len(sites)
    with torch.no_grad():
        assert current.module().eval()(inputs).isfinite().all()
    again = apply_sites(start, sites, generator=generator(0))
    assert again.graph.key == current.graph.key and again.graph == current.graph


EXACT_NAMES = sorted(name for name, operator in OPERATORS.items() if operator.exact)


@given(graph=graphs(), seed=SEEDS, picks=st.lists(st.integers(0, 10_000), min_size=2, max_size=6))
@QUICK
def test_sequences_of_exact_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, EXACT_NAMES)


@given(graph=graphs(), seed=SEEDS, picks=st.lists(st.integers(0, 10_000), min_size=2, max_size=6))
@QUICK
def test_sequences_of_all_operators(graph: Graph, seed: int, picks: list[int]) -> None:
    run_sequence(graph, seed, picks, sorted(OPERATORS))


@given(graph=graphs(), seed=SEEDS)
@QUICK
def test_sites_are_all_there_is(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    for name, operator in OPERATORS.items():
        legal = set(operator.sites(graph))
        for node in graph.nodes:
            for amount in (*operator.amounts, 0.0, -1.0, 2.5, 64.0):
                site = Site(name, node.id, None, amount)
                if amount in operator.amounts:
                    assert (operator.obstacle(graph, site) is None) == (site in legal)
                if operator.obstacle(graph, site) is not None:
                    with pytest.raises(OperatorError) as caught:
                        operator.apply(network, site, generator=generator(0))
                    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_site_of_another_operator_or_node_is_refused() -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    with pytest.raises(OperatorError, match="not of 'widen'"):
        OPERATORS["widen"].apply(network, Site("deepen", "relu1", None, 1), generator=generator(0))
    with pytest.raises(OperatorError, match="no node 'nowhere'"):
        OPERATORS["widen"].apply(network, Site("widen", "nowhere", None, 2), generator=generator(0))
    with pytest.raises(OperatorError, match="calibration"):
        OPERATORS["prune_channels"].apply(
            network,
            Site("prune_channels", "conv1", None, 0.5),
            generator=generator(0),
            calibration=torch.zeros(4, 3, 8, 8),
        )


@given(graph=graphs(), seed=SEEDS, pick=st.integers(0, 100))
@QUICK
def test_float32_drift_is_within_ten_times_that_of_a_permutation(graph: Graph, seed: int, pick: int) -> None:
    """The yardstick: the same network with its hidden channels reordered (at least 8 ulp, where that is exact)."""
    inputs = make_inputs(graph, seed, dtype=torch.float32)
    before = make_network(graph, seed, dtype=torch.float32)
    with torch.no_grad():
        outputs = before.module().eval()(inputs)
        yardstick = 8 * torch.finfo(torch.float32).eps
        for k in range(3):
            yardstick = max(yardstick, relative(outputs, permuted(before, k).module().eval()(inputs)))
        for name in EXACT_NAMES:
            sites = OPERATORS[name].sites(graph)
            if sites:
                after = OPERATORS[name].apply(before, sites[pick % len(sites)], generator=generator(seed))
                assert relative(outputs, after.module().eval()(inputs)) <= 10 * yardstick, name


def permuted(network: Network, seed: int) -> Network:
    """The network with the channels of every free group in another order."""
    from rlnas.operators.remap import remap

    channels, g = network.graph.channels, generator(seed)
    maps = {
        cell: torch.randperm(channels.lengths[cell], generator=g)
        for group in channels
        if not group.fixed
        for cell in group.cells
    }
    return Network(network.graph, remap(network, network.graph, maps, noise=0.0, generator=g))


@given(graph=graphs(), seed=SEEDS)
@QUICK
def test_permuting_coupled_channels_changes_nothing(graph: Graph, seed: int) -> None:
    network = make_network(graph, seed)
    check_exact(network, permuted(network, seed), make_inputs(graph, seed))


def test_replicas_part_after_one_step() -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    after = OPERATORS["widen"].apply(network, Site("widen", "conv2", None, 2.0), generator=generator(1))
    module = after.module().train()
    weight = module.get_parameter("conv2.weight")
    sources = [next(i for i in range(8) if torch.equal(weight[j], weight[i])) for j in range(16)]
    assert sorted(sources) == sorted([*range(8), *range(8)])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    inputs = make_inputs(after.graph, 2, n=16)
    torch.nn.functional.cross_entropy(module(inputs), torch.arange(16) % 10).backward()
    assert all(bool((p.grad != 0).any()) for p in module.parameters() if p.grad is not None)
    optimizer.step()
    for j in range(8, 16):
        assert not torch.allclose(weight[j], weight[sources[j]], atol=1e-9)


@pytest.mark.parametrize("name", EXACT_NAMES)
def test_every_parameter_has_had_a_gradient_after_two_steps(name: str) -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    inputs = make_inputs(network.graph, 2, n=32)
    for site in OPERATORS[name].sites(network.graph):
        module = OPERATORS[name].apply(network, site, generator=generator(1)).module().train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        moved = dict.fromkeys((n for n, _ in module.named_parameters()), False)
        for _ in range(2):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs), torch.arange(32) % 10).backward()
            for n, p in module.named_parameters():
                assert p.grad is not None
                moved[n] |= bool((p.grad != 0).any())
            optimizer.step()
        assert all(moved.values()), (site, moved)


def test_compensation_helps_and_is_reported() -> None:
    graph = conv_stages((1, 8, 8), 10)
    calibration, held_out = make_inputs(graph, 3, n=128), make_inputs(graph, 4, n=128)
    gains = []
    for seed in range(5):
        network = make_network(graph, seed)
        for name in ("prune_channels", "remove_layer"):
            for site in OPERATORS[name].sites(graph):
                plain = OPERATORS[name].apply(network, site, generator=generator(0))
                helped = OPERATORS[name].apply(network, site, generator=generator(0), calibration=calibration)
                assert not plain.history[-1].compensated and plain.history[-1].drift is None
                assert helped.history[-1].compensated and helped.history[-1].drift is not None
                gains.append(drift(network, helped, held_out) / drift(network, plain, held_out))
    assert sum(gains) / len(gains) < 0.6
    assert sum(gain < 1 for gain in gains) > 0.9 * len(gains)


def test_pruning_a_duplicated_channel_costs_nothing() -> None:
    """Widen without noise, then prune as many: least squares gives back the function."""
    graph = conv_stages((1, 8, 8), 10)
    network, calibration = make_network(graph, 0), make_inputs(graph, 1, n=256)
    wide = Widen(noise=0.0).apply(network, Site("widen", "conv2", None, 2.0), generator=generator(0))
    pruned = OPERATORS["prune_channels"].apply(
        wide, Site("prune_channels", "conv2", None, 0.05), generator=generator(0), calibration=calibration
    )
    plain = OPERATORS["prune_channels"].apply(wide, Site("prune_channels", "conv2", None, 0.05), generator=generator(0))
    assert drift(wide, pruned, calibration) < 0.1 * drift(wide, plain, calibration)


def test_replicas_read_by_a_zero_layer_part_too() -> None:
    network = make_network(conv_stages((1, 8, 8), 10), 0)
    grown = InsertResidual().apply(network, Site("insert_residual", "relu2", None, 3), generator=generator(0))
    wide = OPERATORS["widen"].apply(grown, Site("widen", "conv4", None, 2.0), generator=generator(1))
    inputs = make_inputs(network.graph, 1, n=16)
    check_exact(network, wide, inputs)
    module = wide.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    weight = module.get_parameter("conv4.weight")
    source = next(i for i in range(8) if torch.equal(weight[8], weight[i]))
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(inputs), torch.arange(16) % 10).backward()
        optimizer.step()
    assert not torch.allclose(weight[8], weight[source], atol=1e-9)


def test_a_reader_of_a_single_weight_stays_finite() -> None:
    b = Builder(1, 4)
    b.add("conv2d", out_channels=1, kernel_size=(1, 1))
    b.add("relu")
    b.add("adaptive_avg_pool2d")
    b.add("flatten")
    b.add("linear", out_channels=1)
    network = make_network(b.graph(), 0)
    wide = OPERATORS["widen"].apply(network, Site("widen", "conv2d_1x", None, 2.0), generator=generator(0))
    check_exact(network, wide, make_inputs(network.graph, 0))


def test_grouped_reader_that_becomes_depthwise_is_compensated() -> None:
    b = Builder(1, 6)
    b.add("conv2d", out_channels=4, kernel_size=(3, 3), padding=(1, 1))
    b.add("relu")
    b.add("conv2d", out_channels=2, kernel_size=(3, 3), groups=2)
    b.add("flatten")
    b.add("linear", out_channels=3)
    network, inputs = make_network(b.graph(), 0), make_inputs(b.graph(), 0, n=32)
    site = Site("prune_channels", "conv2d_1x", None, 0.5)
    after = OPERATORS["prune_channels"].apply(network, site, generator=generator(0), calibration=inputs)
    assert after.graph.shapes["conv2d_1x"][0] == 2 and after.history[-1].compensated


def test_zero_residual_block_is_removed_without_harm() -> None:
    graph = conv_stages((1, 8, 8), 10)
    network = make_network(graph, 0)
    grown = InsertResidual().apply(network, Site("insert_residual", "relu2", None, 3), generator=generator(0))
    back = OPERATORS["remove_layer"].apply(grown, Site("remove_layer", "add1", None, 1), generator=generator(0))
    assert back.graph.key == graph.key
    check_exact(network, back, make_inputs(graph, 1))


# ------------------------------------------------------------------------------------------------- broken operators


class ForgetsToDivide(Widen):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        reader = network.graph.channels.of(site.anchor).readers[0]  # type: ignore[union-attr]
        made[f"{reader}.weight"] = made[f"{reader}.weight"] * 2
        return Tensors(made)


class ForgetsStatistics(Widen):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        for name in made:
            if name.endswith("running_mean") and made[name].shape != network.tensors[name].shape:
                made[name] = torch.zeros_like(made[name])
        return Tensors(made)


class DeepensWithNorm(Deepen):
    """An identity in eval mode only."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        norm = Node.make(Names(after).new("bn"), "batch_norm2d", plan["layer"])
        return insert_after(after, plan["layer"], [norm], output=norm.id), {**plan, "norm": norm.id}

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        channels = edit.graph.shapes[edit.plan["norm"]][0]
        ones = torch.ones(channels, dtype=torch.float64)
        made |= {f"{edit.plan['norm']}.{name}": ones.clone() for name in ("weight", "running_var")}
        made |= {f"{edit.plan['norm']}.{name}": 0 * ones for name in ("bias", "running_mean")}
        made[f"{edit.plan['norm']}.weight"] = (ones + 1e-5).sqrt()
        made[f"{edit.plan['norm']}.num_batches_tracked"] = torch.tensor(0)
        return Tensors(made)


class ForgetsZero(InsertResidual):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        made[f"{edit.plan['zero']}.weight"] = made[f"{edit.plan['zero']}.weight"] + 0.1
        return Tensors(made)


class UsesGlobalRandomness(InsertResidual):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        torch.rand(3)
        return super().tensors(network, site, edit, **arguments)


class WritesIntoItsInput(Widen):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = super().tensors(network, site, edit, **arguments)
        network.tensors[f"{site.anchor}.weight"].mul_(1.5)
        return made


class NotReproducible(Widen):
    count = 0

    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        NotReproducible.count += 1
        return super().tensors(
            network,
            site,
            edit,
            generator=torch.Generator().manual_seed(NotReproducible.count),
            calibration=calibration,
        )


class WrongCost(Widen):
    def edit(self, graph: Graph, site: Site) -> Edit:
        edit = super().edit(graph, site)
        return Edit(edit.graph, type(edit.cost_delta)(edit.cost_delta.n_params + 1, edit.cost_delta.macs), edit.plan)


@pytest.mark.parametrize(
    "operator",
    [
        ForgetsToDivide(),
        ForgetsStatistics(),
        DeepensWithNorm(),
        ForgetsZero(),
        UsesGlobalRandomness(),
        WritesIntoItsInput(),
        NotReproducible(),
        WrongCost(),
    ],
    ids=lambda operator: type(operator).__name__,
)
def test_broken_operator_fails(operator: Operator) -> None:
    graph = conv_stages((1, 8, 8), 10)
    type(operator).__mro__[1]().edit(graph, operator.sites(graph)[0])  # the sound one applies there
    with pytest.raises(AssertionError):
        conform(operator, graph, 0, 0)


def test_dropout_networks_keep_their_function_in_eval_mode() -> None:
    b = Builder(1, 6)
    b.add("conv2d", out_channels=4, kernel_size=(3, 3), padding=(1, 1))
    b.add("relu")
    b.add("dropout", p=0.5)
    b.add("flatten")
    b.add("linear", out_channels=3)
    graph = b.graph()
    network, inputs = make_network(graph, 0), make_inputs(graph, 0)
    for name in EXACT_NAMES:
        for site in OPERATORS[name].sites(graph):
            after = OPERATORS[name].apply(network, site, generator=generator(0))
            with torch.no_grad():
                assert relative(network.module().eval()(inputs), after.module().eval()(inputs)) <= 1e-12
