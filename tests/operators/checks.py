"""What every operator must do, as plain functions, so that deliberately broken operators can be shown to fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import Operator, drift
from tests.graphs import reordered
from tests.operators.sameness import (
    check_exact,
    generator,
    in_all_modes,
    make_inputs,
    make_network,
    permuted,
    relative,
    with_leaky_activations,
)

APART = 1e-9
"""Relative difference of moves that rounding does not make in float64, but a layer behind others that are zero does."""
HARM = 20
"""Times the drift without compensation that a fault in it surely exceeds, and noise in random networks does not."""
FLOOR_32 = 4 * torch.finfo(torch.float32).eps
"""Drift that permuting channels is taken to have at least: in a tiny network it may happen to have none at all."""


@dataclass(frozen=True, eq=False)
class Case:
    """An operator at one of its sites on a network in float64."""

    operator: Operator
    network: Network
    site: Site
    seed: int

    @cached_property
    def inputs(self) -> Tensor:
        return make_inputs(self.network.graph, self.seed)

    @cached_property
    def calibration(self) -> Tensor:
        return make_inputs(self.network.graph, self.seed + 5, n=24)

    @cached_property
    def after(self) -> Network:
        """The network after the edit; made once, since checks must not write into it either."""
        return self.apply()

    def apply(self, network: Network | None = None, *, seed: int | None = None, calibrate: bool = True) -> Network:
        """The network after the edit, made anew."""
        network = network or self.network
        return self.operator.apply(
            network,
            self.site,
            generator=generator(self.seed if seed is None else seed),
            calibration=self.calibration if calibrate else None,
        )


# ----------------------------------------------------------------------------------------------------- the function


def check_function(case: Case) -> None:
    """An exact operator keeps the function, in float64 to 1e-12, running statistics included."""
    if case.operator.exact:
        check_exact(case.network, case.after, case.inputs)


def check_function_in_float32(case: Case) -> None:
    """In float32 an exact operator drifts no more than ten times as far as permuting the channels does."""
    if not case.operator.exact:
        return
    before, inputs = case.network.to(torch.float32), make_inputs(case.network.graph, case.seed, dtype=torch.float32)
    expected, found = in_all_modes(before, inputs), in_all_modes(case.apply(before), inputs)
    yardsticks = [in_all_modes(permuted(before, k), inputs) for k in range(3)]
    for mode, old in expected.items():
        error = relative(old, found[mode])
        allowed = 10 * max(FLOOR_32, *(relative(old, yardstick[mode]) for yardstick in yardsticks))
        assert error <= allowed, f"drift {error:.1e} in float32 in {mode} mode, more than {allowed:.1e}"


def check_history(case: Case) -> None:
    """The new entry says what was done; the drift of an approximate operator is what one measures."""
    with_calibration = case.after
    if case.operator.needs_calibration:
        with pytest.raises(OperatorError, match="needs calibration inputs"):
            case.apply(calibrate=False)
        without = with_calibration
    else:
        without = case.apply(calibrate=False)
        assert not without.history[-1].compensated and without.history[-1].drift is None
    for made in (with_calibration, without):
        assert made.history[:-1] == case.network.history
        entry = made.history[-1]
        assert (entry.site, entry.exact) == (case.site, case.operator.exact)
    entry = with_calibration.history[-1]
    if case.operator.exact:
        assert not entry.compensated and entry.drift is None
    else:
        assert entry.drift == pytest.approx(drift(case.network, with_calibration, case.calibration), rel=1e-9)


def check_compensation(case: Case) -> None:
    """Compensation is no fault that shows at once in the outputs for the inputs that it was fitted to.

    Each layer's own error cannot grow. That of the whole network can: where errors of several layers cancelled out,
    where activations hid them, or where the smallest weights happen to be the better choice of channels; random
    networks were seen to drift up to seven times as far. How often it helps, `test_compensation_helps` asks.
    """
    entry = case.after.history[-1]
    if entry.compensated and not case.operator.needs_calibration:
        plain = case.apply(calibrate=False)
        assert entry.drift is not None
        assert entry.drift <= HARM * drift(case.network, plain, case.calibration) + 1e-3, "compensation made it worse"


# ------------------------------------------------------------------------------------------------ graphs and costs


def check_costs(case: Case) -> None:
    """Declared cost is counted cost is torch's count."""
    edit, before, after = case.operator.edit(case.network.graph, case.site), case.network.graph, case.after.graph
    assert edit.graph == after
    assert edit.cost_delta.n_params == after.n_params - before.n_params
    assert edit.cost_delta.macs == after.macs - before.macs
    assert case.operator.shrinks or (edit.cost_delta.n_params >= 0 and edit.cost_delta.macs >= 0)
    module = case.after.module().eval()
    assert sum(p.numel() for p in module.parameters()) == after.n_params
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = module(case.inputs[:1])
    assert counter.get_total_flops() == 2 * after.macs
    assert tuple(output.shape[1:]) == after.output_shape


def check_graph(case: Case) -> None:
    """A valid graph that keeps the network's input and output, and does not depend on the order of the nodes."""
    before, after = case.network.graph, case.after.graph
    assert Graph(after.nodes, after.output) == after
    assert after.input_shape == before.input_shape and after.output_shape == before.output_shape
    assert after.key != before.key
    mixed = case.apply(Network(reordered(before, case.seed), case.network.tensors, case.network.history))
    assert mixed.graph.key == after.key and mixed.graph.order == after.order
    assert case.operator.sites(mixed.graph) == case.operator.sites(after)
    assert all(torch.equal(mixed.tensors[name], tensor) for name, tensor in case.after.tensors.items())


def check_round_trip(case: Case) -> None:
    """Through JSON and safetensors."""
    after, site = case.after, case.site
    graph = Graph.from_json(json.loads(json.dumps(after.graph.to_json())))
    assert graph.key == after.graph.key and set(graph.nodes) == set(after.graph.nodes)
    again = Network.from_bytes(after.to_bytes())
    assert again.content_hash == after.content_hash and again.history == after.history
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in after.tensors.items())
    assert Site.from_json(json.loads(json.dumps(site.to_json()))) == site


# ------------------------------------------------------------------------------------------- values and randomness


def check_input_untouched(case: Case) -> None:
    """The given network and torch's global generator stay as they are, whatever is done to the module that results."""
    network = case.network
    graph, copies, history = network.graph.to_json(), _copies(network), network.history
    state, calibration = torch.get_rng_state(), case.calibration.clone()
    after = case.apply()
    assert torch.equal(state, torch.get_rng_state()), "drew from the global generator"
    for tensor in after.module().state_dict().values():
        tensor.add_(1)
    assert network.graph.to_json() == graph and network.history == history
    assert all(torch.equal(tensor, copies[name]) for name, tensor in network.tensors.items()), "wrote into its input"
    assert torch.equal(case.calibration, calibration), "wrote into the calibration inputs"


def check_reproducible(case: Case) -> None:
    """The same seed gives the same bits; another one does not, if the operator draws at all."""
    g = generator(3)
    state = g.get_state()
    first = case.apply(seed=3)
    second = case.operator.apply(case.network, case.site, generator=g, calibration=case.calibration)
    assert first.graph == second.graph and _same(first, second), "the same seed gives other tensors"
    draws = not torch.equal(g.get_state(), state)
    assert draws != _same(first, case.apply(seed=4)), "the seed does not tell what is drawn"


def _copies(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.tensors.items()}


def _same(a: Network, b: Network) -> bool:
    return all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)


# --------------------------------------------------------------------------------------------------------- training


def check_finite_gradients(case: Case) -> None:
    """Two steps in training mode leave every parameter with a finite gradient."""
    module = case.after.module().train()
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-2)
    targets = torch.arange(len(case.inputs)) % math.prod(case.after.graph.output_shape)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(case.inputs).flatten(1), targets).backward()
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert bool(parameter.grad.isfinite().all()), f"{name} has a gradient that is not finite"
        optimizer.step()


def shifts_of_keys(graph: Graph) -> set[str]:
    """Biases of layers that make keys only: what adds the same to every key changes nothing that attention makes."""
    channels = graph.channels
    keys = {cell for rows in channels.rows.values() for cell, _ in rows.get("key", ())}
    made = {id: {cell for cell, _ in rows["out"]} for id, rows in channels.rows.items() if "out" in rows}
    return {f"{id}.bias" for id, cells in made.items() if cells <= keys}


def without_gradient(module: nn.Module) -> set[str]:
    """Parameters that the last backward pass gave no gradient but zero."""
    return {name for name, p in module.named_parameters() if p.grad is None or not bool((p.grad != 0).any())}


def never_read(graph: Graph, seed: int) -> set[str]:
    """Parameters that matter to no output, whatever the weights: only what is not read hangs on them."""
    network = with_leaky_activations(make_network(graph, seed))
    module = network.module().eval()
    module(make_inputs(network.graph, seed, n=8)).square().sum().backward()
    return without_gradient(module)


def check_everything_learns(case: Case) -> None:
    """Every parameter has had a gradient after two steps; layers and channels once alike have parted after one more.

    Behind a layer that is zero the first step moves that layer only, and the second one what lies before it; earlier
    edits of the network may have left more such layers, one behind the other. What shrinks a network may leave channels
    that nothing reads, as where the branch went that had read that part of them; `simplify` takes them out.
    """
    network = with_leaky_activations(case.after)
    module, inputs = network.module().eval(), make_inputs(network.graph, case.seed + 9, n=8)
    targets = torch.randn(len(inputs), *network.graph.output_shape, generator=generator(9), dtype=torch.float64)
    start = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    optimizer, idle = torch.optim.SGD(module.parameters(), lr=1e-3), set(start) - shifts_of_keys(network.graph)
    idle -= never_read(network.graph, case.seed) if case.operator.shrinks else set()
    steps = 2 + len(case.network.history)
    for step in range(steps + 1):
        assert step < steps or not idle, f"{sorted(idle)} never had a gradient"
        optimizer.zero_grad()
        nn.functional.mse_loss(module(inputs), targets).backward()
        idle &= without_gradient(module)
        optimizer.step()
    moves = {name: p.detach() - start[name] for name, p in module.named_parameters() if p.dim() > 1}
    for one, other in combinations(moves, 2):
        if start[one].shape == start[other].shape and torch.equal(start[one], start[other]):
            apart = float((moves[one] - moves[other]).abs().max())
            assert apart > APART * float(moves[one].abs().max()), f"{one} and {other} stay alike for ever"
    for name, moved in moves.items():
        rows = start[name].flatten(1)
        for i, j in (rows[:, None] == rows[None]).all(-1).triu(1).nonzero().tolist():
            apart = float((moved[i] - moved[j]).abs().max())
            assert apart > APART * float(moved[i].abs().max()), f"rows {i} and {j} of {name} stay alike for ever"


# --------------------------------------------------------------------------------------------------------- legality


def check_legality(operator: Operator, network: Network) -> None:
    """`sites`, `obstacle`, `edit` and `apply` agree, and what does not apply is refused in one line."""
    graph = network.graph
    legal = operator.sites(graph)
    assert len(set(legal)) == len(legal)
    place = {id: k for k, id in enumerate(graph.order)}
    assert [place[site.anchor] for site in legal] == sorted(place[site.anchor] for site in legal)
    unused = generator(0)
    odd = (0, -1.0, 0.3, 2.5, 7, 64.0, 1e30, float("nan"), float("inf"))
    for node in graph.nodes:
        for amount in (*operator.amounts, *odd):
            for target in graph.shapes if operator.takes_target else (None,):
                site = Site(operator.name, node.id, target, amount)
                reason = operator.obstacle(graph, site)
                if reason is None:
                    assert (amount in operator.amounts) == (site in legal)
                    assert operator.edit(graph, site).graph.key != graph.key
                    wrong = "nowhere" if operator.takes_target else graph.output
                    check_refused(operator, network, Site(operator.name, node.id, wrong, amount), unused)
                else:
                    assert site not in legal
                    check_refused(operator, network, site, unused)
    check_refused(operator, network, Site("another", graph.output, None, 1), unused)
    check_refused(operator, network, Site(operator.name, "nowhere", None, operator.amounts[0]), unused)
    assert torch.equal(unused.get_state(), generator(0).get_state()), "numbers were drawn for what is refused"


def check_refused(operator: Operator, network: Network, site: Site, unused: torch.Generator) -> None:
    """Both `edit` and `apply` raise, with one line that names the site; it is tried too often for `pytest.raises`."""
    attempts: list[Callable[[], Any]] = [
        lambda: operator.edit(network.graph, site),
        lambda: operator.apply(network, site, generator=unused),
    ]
    for attempt in attempts:
        try:
            attempt()
        except OperatorError as error:
            assert str(site) in str(error) and "\n" not in str(error)
        else:
            raise AssertionError(f"{site} was not refused")


CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        check_function,
        check_function_in_float32,
        check_history,
        check_compensation,
        check_costs,
        check_graph,
        check_round_trip,
        check_input_untouched,
        check_reproducible,
        check_finite_gradients,
        check_everything_learns,
    )
}
"""All checks of one edit; `check_legality` is one of an operator on a whole graph."""
