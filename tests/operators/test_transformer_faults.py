"""Operators on transformers with one fault each, and the check that must find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from rlnas.graph import Graph, Site
from rlnas.network import Network
from rlnas.operators import Edit, Operator, Tensors
from rlnas.operators.attention import AddHeads, AttentionOperator, Heads, WidenKeys, WidenValues
from rlnas.operators.hidden import NORMS, WidenHidden
from rlnas.operators.layer import InsertLayer
from tests.operators.checks import CHECKS, Case
from tests.operators.sameness import make_network
from tests.transformers import Form, image_classifier

GRAPHS = {
    "layer norm": image_classifier(Form(layers=1, heads=4, fused=False)),
    "rms norm": image_classifier(Form(layers=1, norm="rms_norm"), token=False),
}


def replaced(graph: Graph, op: str, **attributes: Any) -> Graph:
    nodes = [node.replace(**attributes) if node.op == op else node for node in graph.nodes]
    return Graph(tuple(nodes), graph.output)


class _Spoilt(Operator):
    """Lets a subclass spoil the tensors that the operator makes."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        raise NotImplementedError

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        values = super().tensors(network, site, edit, **arguments).values  # type: ignore[safe-super]
        made = {name: tensor.clone() for name, tensor in values.items()}
        self.spoil(made, network)
        return Tensors(made)


class KeepsEpsilon(WidenHidden):
    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        for op in NORMS:
            after = replaced(after, op, eps=1e-2)
        return after, plan


class ForgetsTheScale(WidenHidden):
    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        return after, {**plan, "scale": 1.0}


class ShiftsWhatIsNew(_Spoilt, WidenHidden):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        made["norm1.bias"][8:] = 0.1


class WritesZerosBeforeLayerNorm(_Spoilt, WidenHidden):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        made["patches.weight"][8:] = 0
        made["patches.bias"][8:] = 0


class ForgetsAWriter(_Spoilt, WidenHidden):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        made["places"][:, 8:] = 0.1


class RescalesTheScores(WidenKeys):
    def sizes(self, graph: Graph, heads: Heads, amount: float) -> tuple[dict[int, int], dict[str, Any]] | str:
        found = super().sizes(graph, heads, amount)
        return found if isinstance(found, str) else (found[0], {"scale": (3 * amount) ** -0.5})


class KeysAtRandom(WidenKeys):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        return AttentionOperator.tensors(self, network, site, edit, **arguments)


class QueriesAndKeysZero(_Spoilt, WidenKeys):
    """No product of the two ever has a gradient."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        for name in ("q1.weight", "k1.weight"):
            old = network.tensors[name].shape[0] // 4
            made[name].unflatten(0, (4 if name == "q1.weight" else 2, -1))[:, old:] = 0


class ReadsNewValues(_Spoilt, WidenValues):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        made["o1.weight"][0] += 0.1 * (made["o1.weight"][0] == 0)


class ReadsNewHeads(_Spoilt, AddHeads):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        made["o1.weight"][0] += 0.1 * (made["o1.weight"][0] == 0)


class HeadsOutOfOrder(AddHeads):
    """New columns where the cell lies, not at the end: another head's values."""

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        return AttentionOperator.tensors(self, network, site, edit, **arguments)


class AddsSomething(_Spoilt, InsertLayer):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        for name in made.keys() - network.tensors.keys():
            made[name] = made[name] + 0.1


class NothingLearns(_Spoilt, InsertLayer):
    def spoil(self, made: dict[str, torch.Tensor], network: Network) -> None:
        for name in made.keys() - network.tensors.keys():
            made[name] = torch.zeros_like(made[name])


FAULTS: dict[type[Operator], tuple[str, str]] = {
    KeepsEpsilon: ("rms norm", "check_function"),
    ForgetsTheScale: ("layer norm", "check_function"),
    ShiftsWhatIsNew: ("layer norm", "check_function"),
    WritesZerosBeforeLayerNorm: ("layer norm", "check_function"),
    ForgetsAWriter: ("rms norm", "check_function"),
    RescalesTheScores: ("layer norm", "check_function"),
    KeysAtRandom: ("layer norm", "check_function"),
    QueriesAndKeysZero: ("layer norm", "check_everything_learns"),
    ReadsNewValues: ("layer norm", "check_function"),
    ReadsNewHeads: ("layer norm", "check_function"),
    HeadsOutOfOrder: ("layer norm", "check_function"),
    AddsSomething: ("rms norm", "check_function"),
    NothingLearns: ("rms norm", "check_everything_learns"),
}


@pytest.mark.parametrize("kind", FAULTS, ids=lambda kind: kind.__name__)
def test_fault_is_found_at_every_site(kind: type[Operator]) -> None:
    name, check = FAULTS[kind]
    graph, operator = GRAPHS[name], kind()
    sites = operator.sites(graph)
    assert sites
    for site in sites:
        with pytest.raises(AssertionError):
            CHECKS[check](Case(operator, make_network(graph, 0), site, 0))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("kind", [WidenHidden, WidenKeys, WidenValues, AddHeads, InsertLayer])
def test_sound_operators_pass_there(name: str, kind: type[Operator]) -> None:
    operator = kind()
    for site in operator.sites(GRAPHS[name]):
        for check in CHECKS.values():
            check(Case(operator, make_network(GRAPHS[name], 0), site, 0))
