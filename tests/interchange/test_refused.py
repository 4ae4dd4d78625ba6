"""What cannot come in says why, where and what to do; black boxes keep what is not known."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rlnas
from rlnas.errors import GraphError
from rlnas.interchange import record
from rlnas.interchange.spelling import KNOWN
from tests.networks import REFUSED, enliven

WHY = {
    "control flow": r"the flow of control, or a number, depends on the input \(.*use torch.where",
    "inputs": "the example input should be one batch.*got tuple; wrap a module of several inputs",
    "outputs": "gives a (tuple|dict), not one tensor; wrap it in a module that does",
    "batch": "mixed|mixes samples|side by side|places to look up depend on the input",
    "op": "opaque=True",
}


def prepared(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    module = enliven(REFUSED[name].make(), generator=torch.Generator().manual_seed(0)).eval()
    return module, REFUSED[name].example()


@pytest.mark.parametrize("name", REFUSED)
def test_says_why_where_and_what_to_do(name: str) -> None:
    module, example = prepared(name)
    reason = REFUSED[name].refused
    with pytest.raises(GraphError, match=WHY[reason]) as caught:
        rlnas.from_module(module, example)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    if reason not in ("inputs", "outputs"):
        assert text.startswith(f"cannot take in {type(module).__name__}")
        assert re.search(r"tests/networks/refused\.py:\d+\): ", text), "the line in a person's own code"


@pytest.mark.parametrize("name", [name for name, fixture in REFUSED.items() if fixture.refused == "op"])
def test_black_boxes_keep_what_is_not_known(name: str) -> None:
    module, example = prepared(name)
    network = rlnas.from_module(module, example, opaque=True)
    made = network.module().eval()
    assert sum(p.numel() for p in module.parameters()) == network.graph.n_params
    for inputs in (example, torch.cat([example] * 3)):
        outputs = []
        for run in (module, made):
            torch.manual_seed(3)
            with torch.no_grad():
                outputs.append(run(inputs))
        assert torch.equal(*outputs)
    boxes = {node.id for node in network.graph.nodes if node.op == "opaque"}
    sites = [site for operator in rlnas.OPERATORS.values() for site in operator.sites(network.graph)]
    assert boxes and sites
    for operator in rlnas.OPERATORS.values():
        if not operator.exact:
            continue
        for site in operator.sites(network.graph)[:2]:
            graph = operator.edit(network.graph, site).graph
            kept = {node.id: node.attrs for node in graph.nodes if node.op == "opaque"}
            assert kept == {id: network.graph.node(id).attrs for id in boxes}


@pytest.mark.parametrize("name", [name for name, fixture in REFUSED.items() if fixture.refused != "op"])
def test_no_black_box_hides_what_no_graph_can_hold(name: str) -> None:
    with pytest.raises(GraphError, match=WHY[REFUSED[name].refused]):
        rlnas.from_module(*prepared(name), opaque=True)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_names_the_module_within() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"a": Inner()})["a"])
    with pytest.raises(GraphError, match=r"in 1 \(.*test_refused\.py:\d+\): .*bessel_j0") as caught:
        rlnas.from_module(module, torch.ones(1, 3))
    assert KNOWN in str(caught.value)


def test_names_a_layer_of_torch_without_a_line_of_its_callers() -> None:
    with pytest.raises(GraphError, match=r"^cannot take in Sequential in 0: lstm: not one"):
        rlnas.from_module(nn.Sequential(nn.LSTM(3, 3)), torch.ones(1, 2, 3))


class Loop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(200):
            x = torch.sin(x)
        return x


def test_endless_loops_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_NODES", 100)
    with pytest.raises(GraphError, match=r"test_refused\.py:\d+\): sin: over 100 operations"):
        rlnas.from_module(Loop(), torch.ones(1, 3))


class Odd(nn.Module):
    """Modules that a careless importer takes for something else than they are."""

    def __init__(self, do: Any) -> None:
        super().__init__()
        self.do, self.fc = do, nn.Linear(4, 4)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.do(self, x))


def counting(module: Odd, x: Tensor) -> Tensor:
    module.count += 1
    return x * module.count


def replacing(module: Odd, x: Tensor) -> Tensor:
    module.count = module.count + 1
    return x * module.count


def baked(module: Odd, x: Tensor) -> Tensor:
    scale = torch.zeros(x.shape[0], 4)
    part = scale[:, :2]
    part += x[:, :2]
    return x * scale


def detoured(module: Odd, x: Tensor) -> Tensor:
    return x + torch.from_numpy(x.detach().numpy())


def named(module: Odd, x: Tensor) -> Tensor:
    return x * (1 + len(x))


ODD = {
    "a state": (counting, "outputs differ.*keep a state"),
    "another state": (replacing, "outputs differ.*keep a state"),
    "a view written into": (baked, "changed through another view"),
    "a detour": (detoured, "numpy"),
    "the number of samples": (named, "depend on the number of samples"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_modules_are_refused_and_left_as_they_were(name: str) -> None:
    do, why = ODD[name]
    module = Odd(do)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(GraphError, match=why):
        rlnas.from_module(module, torch.ones(1, 4))
    assert all(torch.equal(value, before[path]) for path, value in module.state_dict().items())
