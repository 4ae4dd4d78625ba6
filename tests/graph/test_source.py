"""Source text: what it says, and that it computes what the nodes say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlnas.graph import OPS, Graph, to_source
from rlnas.graph.table.attention import HELPER
from rlnas.network import Network
from tests.graph.examples import EXAMPLES, example
from tests.graphs import Builder, graphs
from tests.nets import NETS

TEXTS: list[tuple[str, dict[str, Any], str]] = [
    ("conv2d", {"out_channels": 8, "kernel_size": (3, 3)}, "nn.Conv2d(4, 8, 3)"),
    (
        "conv2d",
        {"out_channels": 8, "kernel_size": (1, 3), "padding": (0, 1), "stride": (2, 2), "groups": 2, "bias": False},
        "nn.Conv2d(4, 8, (1, 3), stride=2, padding=(0, 1), groups=2, bias=False)",
    ),
    (
        "conv2d",
        {"out_channels": 4, "kernel_size": (2, 2), "dilation": (2, 1), "groups": 4},
        "nn.Conv2d(4, 4, 2, dilation=(2, 1), groups=4)",
    ),
    ("batch_norm2d", {}, "nn.BatchNorm2d(4)"),
    ("batch_norm2d", {"eps": 0.001, "momentum": 0.2}, "nn.BatchNorm2d(4, eps=0.001, momentum=0.2)"),
    ("dropout", {"p": 0.25}, "nn.Dropout(0.25)"),
    ("relu", {}, "F.relu(x)"),
    ("relu6", {}, "F.relu6(x)"),
    ("leaky_relu", {}, "F.leaky_relu(x)"),
    ("leaky_relu", {"negative_slope": 0.2}, "F.leaky_relu(x, negative_slope=0.2)"),
    ("elu", {}, "F.elu(x)"),
    ("elu", {"alpha": 0.5}, "F.elu(x, alpha=0.5)"),
    ("silu", {}, "F.silu(x)"),
    ("gelu", {}, "F.gelu(x)"),
    ("gelu", {"approximate": "tanh"}, 'F.gelu(x, approximate="tanh")'),
    ("mish", {}, "F.mish(x)"),
    ("hardswish", {}, "F.hardswish(x)"),
    ("hardsigmoid", {}, "F.hardsigmoid(x)"),
    ("hardtanh", {"max_val": 6.0}, "F.hardtanh(x, max_val=6.0)"),
    ("hardtanh", {"min_val": 0.0, "max_val": 6.0}, "F.relu6(x)"),
    ("sigmoid", {}, "torch.sigmoid(x)"),
    ("tanh", {}, "torch.tanh(x)"),
    ("max_pool2d", {"kernel_size": (2, 2), "stride": (2, 2)}, "F.max_pool2d(x, 2)"),
    (
        "max_pool2d",
        {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1), "ceil_mode": True},
        "F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=True)",
    ),
    (
        "avg_pool2d",
        {"kernel_size": (3, 2), "stride": (1, 1), "padding": (1, 1), "count_include_pad": False},
        "F.avg_pool2d(x, (3, 2), stride=1, padding=1, count_include_pad=False)",
    ),
    ("adaptive_avg_pool2d", {}, "F.adaptive_avg_pool2d(x, 1)"),
    ("adaptive_avg_pool2d", {"output_size": (2, 1)}, "F.adaptive_avg_pool2d(x, (2, 1))"),
    ("flatten", {}, "torch.flatten(x, 1)"),
]


@pytest.mark.parametrize(("op", "attrs", "text"), TEXTS)
def test_text_of_an_op_leaves_out_defaults(op: str, attrs: dict[str, Any], text: str) -> None:
    b = Builder(4, 6, 6)
    b.add(op, **attrs)
    lines = [line.strip() for line in to_source(b.graph()).splitlines()]
    assert (f"self.{b.last} = {text}" if OPS[op].source else f"return {text}") in lines
    Network.initialize(b.graph(), generator=torch.Generator()).module()(torch.zeros(2, 4, 6, 6))


def test_text_of_a_whole_network() -> None:
    b = Builder(1, 6, 6)
    stem = b.conv(4, id="conv1", bias=False)
    b.conv(4, id="conv2")
    b.add("relu")
    left = b.add("add", stem, b.conv(4, id="conv3"))
    right = b.conv(2, 1, left, id="conv4")
    b.add("identity", left)
    b.add("concat", right, left, b.last)
    b.add("flatten")
    b.add("linear", id="head", out_channels=3, bias=False)
    assert to_source(b.graph(), class_name="Small", docstring="A network.") == (
        '''import torch
import torch.nn.functional as F
from torch import nn


class Small(nn.Module):
    """A network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv4 = nn.Conv2d(4, 2, 1)
        self.head = nn.Linear(360, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        y = F.relu(self.conv2(x))
        y = self.conv3(y)
        x = x + y
        y = self.conv4(x)
        z = x
        x = torch.cat([y, x, z], dim=1)
        return self.head(torch.flatten(x, 1))
'''
    )


def test_growing_concats_are_written_with_what_is_joined_already() -> None:
    b = Builder(2, 4, 4)
    features = [b.conv(2, id="first")]
    for k in range(2):
        if k:
            b.add("concat", *features)
        features.append(b.conv(3, id=f"layer{k}"))
    b.add("concat", *features)
    b.add("concat", features[2], features[0], b.last)
    text = to_source(b.graph())
    assert "y = torch.cat([x, y], dim=1)" in text and "return torch.cat([z, x, y], dim=1)" in text
    assert text.count("torch.cat([") == 3


def test_brackets_where_an_operator_binds_less() -> None:
    b = Builder(2, 4, 4)
    b.add("add_scalar", value=1.0)
    b.add("mul_scalar", value=2.0)
    b.add("pow_scalar", value=2.0)
    b.add("permute", dims=(1, 2, 0))
    b.add("relu")
    graph = b.graph()
    assert "return F.relu((((x + 1) * 2) ** 2).permute(0, 2, 3, 1))" in to_source(graph)
    value = Network.initialize(graph, generator=torch.Generator()).module()(torch.full((1, 2, 4, 4), 3.0))
    assert torch.equal(value, torch.full((1, 4, 4, 2), 64.0))


def test_text_of_a_black_box_may_read_an_input_twice() -> None:
    b = Builder(2, 4, 4)
    b.add("relu")
    b.add("opaque", text="{0} * torch.sigmoid({0})", shape=(2, 4, 4))
    assert to_source(b.graph()).endswith("        x = F.relu(x)\n        return x * torch.sigmoid(x)\n")


def test_text_is_laid_out_as_formatters_do(tmp_path: Path) -> None:
    found = {name: make() for name, make in NETS.items()} | {name: example(name) for name in EXAMPLES}
    for name, graph in found.items():
        text = to_source(graph)
        assert max(map(len, text.splitlines())) <= 120
        (tmp_path / f"{name}.py").write_text(text)
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--isolated", "--line-length=120", "--no-cache"]
    done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


HELPERS: dict[str, Any] = {"torch": torch, "F": torch.nn.functional}
exec(HELPER, HELPERS)


def interpreted(graph: Graph, module: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """The output, node by node, each value kept."""
    values: dict[str, torch.Tensor] = {}
    for id in graph.order:
        node = graph.node(id)
        row, read = OPS[node.op], [values[i] for i in node.inputs]
        if node.op == "input":
            values[id] = inputs
        elif node.op == "parameter":
            values[id] = module.get_parameter(id).expand(len(inputs), *node["shape"])
        elif row.source is not None:
            values[id] = module.get_submodule(id)(*read)
        else:
            assert row.call is not None
            text = row.call(node, tuple(f"v[{k}]" for k in range(len(read))))
            values[id] = eval(text, {"v": read, "torch": torch, "F": torch.nn.functional, **HELPERS})
        assert tuple(values[id].shape[1:]) == graph.shapes[id]
    return values[graph.output]


@st.composite
def tangles(draw: st.DrawFn) -> Graph:
    """Elementwise ops between which values are read again and again, as far apart as it happens."""
    b = Builder(2, 3, 3)
    ids = ["image"]
    for _ in range(draw(st.integers(2, 12))):
        op = draw(st.sampled_from(["tanh", "identity", "add", "add", "conv2d"]))
        read = [draw(st.sampled_from(ids)) for _ in range(2 if op == "add" else 1)]
        ids.append(b.conv(2, 1, *read) if op == "conv2d" else b.add(op, *read))
    read = [i for node in b.nodes for i in node.inputs]
    loose = [id for id in ids if id not in read]
    if len(loose) > 1:
        b.add("add", *loose)
    return b.graph()


@pytest.mark.parametrize("name", NETS)
def test_networks_compute_what_their_nodes_say(name: str) -> None:
    graph = NETS[name]()
    module = Network.initialize(graph, generator=torch.Generator().manual_seed(0)).to(torch.float64).module().eval()
    inputs = torch.randn(2, *graph.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(module(inputs), interpreted(graph, module, inputs))


@given(graph=st.one_of(graphs(dropout=True), tangles()), seed=st.integers(0, 100))
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_variable_is_overwritten_before_its_last_use(graph: Graph, seed: int) -> None:
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(seed)).to(torch.float64)
    module = network.module().eval()
    inputs = torch.randn(2, *graph.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        assert torch.equal(module(inputs), interpreted(graph, module, inputs))


@given(graph=st.one_of(graphs(dropout=True), tangles()))
@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_more_variables_than_values_alive_at_once(graph: Graph) -> None:
    """So that nothing outlives the statement of its last use."""
    function = next(n for n in ast.walk(ast.parse(to_source(graph))) if getattr(n, "name", "") == "forward")
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} - {"self", "torch", "F"}
    assert isinstance(function, ast.FunctionDef)
    written = [ast.unparse(s.targets[0]) for s in function.body if isinstance(s, ast.Assign)]
    assert set(written) <= used == used & {"x", "y", "z", *(f"v{k}" for k in range(3, 99))}
    rest = [function.body[k:] for k in range(len(written))]
    alive = [{n.id for s in later for n in ast.walk(s) if isinstance(n, ast.Name)} & used for later in rest]
    assert len(used) <= max([1, *map(len, alive)])
