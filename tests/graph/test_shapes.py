"""Shapes, costs and memory, against torch and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rlnas.errors import GraphError
from rlnas.graph import OPS, Graph, Node, complete
from rlnas.network import Network, tensor_specs
from rlnas.spaces import conv_stages
from tests.graph.examples import EXAMPLES, inputs, network
from tests.graphs import Builder

MANY = settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def pair(least: int, most: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(least, most), st.integers(least, most))


def torch_shape(node: Node, inputs: torch.Tensor) -> tuple[int, ...] | None:
    """What torch makes of one node; None if it refuses."""
    try:
        if node.op == "conv2d":
            attrs = {k: v for k, v in node.attrs if k not in ("out_channels", "bias")}
            made = torch.nn.Conv2d(inputs.shape[1], node["out_channels"], **attrs)(inputs)
        else:
            call = OPS[node.op].call
            assert call is not None
            made = eval(call(node, ("x",)), {"F": torch.nn.functional, "torch": torch, "x": inputs})
    except (RuntimeError, ValueError):
        return None
    return tuple(made.shape[1:])


@given(
    shape=st.tuples(st.sampled_from([2, 4]), st.integers(1, 7), st.integers(1, 7)),
    kernel=pair(1, 4),
    stride=pair(1, 3),
    padding=pair(0, 2),
    dilation=pair(1, 2),
    groups=st.integers(1, 4),
    op=st.sampled_from(["conv2d", "max_pool2d", "avg_pool2d"]),
    ceil=st.booleans(),
)
@MANY
def test_windows_are_torch_windows(shape: Any, op: str, groups: int, dilation: Any, ceil: bool, **window: Any) -> None:
    window = {f"{name}_size" if name == "kernel" else name: value for name, value in window.items()}
    own = {"out_channels": 4, "groups": groups, "dilation": dilation} if op == "conv2d" else {"ceil_mode": ceil}
    node = complete(Node.make("a", op, "image", **window, **own))
    expected = torch_shape(node, torch.zeros(1, *shape))
    try:
        graph = Graph((Node.make("image", "input", shape=shape, dtype="float32"), node), "a")
    except GraphError as error:
        assert "\n" not in str(error)
        # In ceil mode torch lets a window begin inside and reach beyond the padding; we refuse it.
        assert expected is None or ceil
    else:
        assert graph.shapes["a"] == expected


def test_examples_cover_the_table() -> None:
    assert set(EXAMPLES) == set(OPS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_op_makes_what_torch_makes(name: str) -> None:
    made = network(name)
    graph, module = made.graph, made.module()
    specs = tensor_specs(graph)
    assert {k: tuple(p.shape) for k, p in module.state_dict().items()} == {k: p.shape for k, p in specs.items()}
    assert {k for k, _ in module.named_parameters()} == {k for k, param in specs.items() if param.trained}
    assert sum(p.numel() for p in module.parameters()) == graph.n_params
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # of fused ones it knows nothing
        output = module(inputs(graph, 3))
    assert tuple(output.shape) == (3, *graph.output_shape)
    assert counter.get_total_flops() == 3 * 2 * graph.macs
    assert Graph.from_json(graph.to_json()).key == graph.key


def test_idempotent_activations_are_those_declared() -> None:
    x = torch.linspace(-8, 8, 101, dtype=torch.float64)
    for name, op in OPS.items():
        if op.family == "activation" and op.call is not None:
            code = op.call(complete(Node.make("a", name, "image")), ("x",))
            once = eval(code, {"F": torch.nn.functional, "torch": torch, "x": x})
            twice = eval(code, {"F": torch.nn.functional, "torch": torch, "x": once})
            assert torch.equal(once, twice) == op.idempotent, name


def test_known_costs() -> None:
    graph = conv_stages((1, 8, 8), 10)
    assert graph.n_params == 8 * 9 + 2 * 8 * 8 * 9 + 3 * 16 + 90
    assert graph.macs == 64 * 8 * 9 + 16 * 64 * 9 + 4 * 64 * 9 + 80
    assert graph.node_costs["conv2"] == (8 * 8 * 9, 16 * 64 * 9)
    assert graph.node_costs["bn1"] == (16, 0)


def memory(b: Builder) -> int:
    return b.graph().peak_memory_bytes // 4


def test_peak_memory_of_a_chain_is_its_largest_step() -> None:
    b = Builder(1, 4, 4)
    b.conv(3)
    b.conv(5)
    b.add("relu")
    b.conv(2)
    assert memory(b) == 16 * (5 + 5)


def test_views_take_nothing() -> None:
    b = Builder(3, 4, 4)
    b.add("identity")
    b.add("flatten")
    assert memory(b) == 48
    b.add("linear", out_channels=7)
    assert memory(b) == 48 + 7


def test_a_shortcut_stays_alive_beside_its_branch() -> None:
    b = Builder(2, 4, 4)
    stem = b.add("relu")
    b.conv(6)
    end = b.conv(2)
    b.add("add", stem, end)
    assert memory(b) == 16 * (2 + 6 + 2)  # the stem, and the second convolution's input and output


def test_branches_run_one_after_the_other() -> None:
    """Each narrows a wide map; run side by side, both wide maps would be alive at once."""
    b = Builder(1, 4, 4)
    stem = b.add("relu")
    ends = [b.conv(1, 3, b.conv(10, 1, stem)), b.conv(1, 5, b.conv(10, 1, stem))]
    b.add("add", *ends)
    assert memory(b) == 16 * (1 + 10 + 1)  # the first result, the second wide map, and what it is made of or into


def test_an_output_that_is_read_on_stays_alive() -> None:
    b = Builder(1, 4, 4)
    first = b.conv(2)
    b.add("concat", b.add("identity", first), b.conv(3, 3, first))
    assert memory(b) == 16 * (2 + 3 + 5)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (3, 4, 4)])
def test_inputs_of_any_rank(shape: tuple[int, ...]) -> None:
    b = Builder(*shape)
    b.add("relu")
    b.add("flatten")
    b.add("linear", out_channels=2)
    graph = b.graph()
    module = Network.initialize(graph, generator=torch.Generator().manual_seed(0)).module()
    assert graph.input_shape == shape and tuple(module(torch.zeros(2, *shape)).shape) == (2, 2)
