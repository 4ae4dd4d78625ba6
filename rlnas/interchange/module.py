"""Take in an ordinary module: its architecture as a graph, with its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import GraphError
from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import shared
from rlnas.interchange.attending import plain_attention
from rlnas.interchange.calls import HANDLERS
from rlnas.interchange.trace import BATCH, Tracer
from rlnas.network import Network

LAYOUTS = frozenset({"permute", "attention", "matmul", "einsum", "opaque", "expand", "index_select"})
"""Ops whose values may lie in memory as they like, which other numbers of samples may bring to light."""
LARGE = 10**10
"""Multiply-accumulates of networks that are compared for one number of samples only."""


def from_module(module: nn.Module, example_input: Tensor, *, opaque: bool = False) -> Network:
    """Make a network of a module, with the same weights and bit for bit the same outputs.

    The module runs once on two samples made from the example, in eval mode, and what it calls is written down. So code
    that depends on shapes is resolved against the example's; the number of samples stays free. The module itself is
    left as it was.

    Args:
        module: Any module of one tensor to one tensor, both with the batch in front.
        example_input: A batch of inputs, shape (samples, *input shape), floating-point or ids of tokens.
        opaque: Keep operations that are not known as black boxes, which operators leave alone.

    Raises:
        GraphError: If the module does something that a graph cannot hold; says what, and where in its code.
    """
    if not isinstance(module, nn.Module):
        raise GraphError(f"from_module takes a torch.nn.Module, got {type(module).__name__}")
    _check_example(module, example_input)
    example = example_input.detach()
    with kept_as_it_is(module), torch.no_grad(), plain_attention(module):
        network = _run(module, example, opaque=opaque, literal=False)
        problem = _difference(module, network, example)
        if problem is not None:
            literal = _run(module, example, opaque=opaque, literal=True)
            problem = _difference(module, literal, example)
            if problem is not None:
                raise GraphError(problem)
            return literal
    return network


def _run(module: nn.Module, example: Tensor, *, opaque: bool, literal: bool) -> Network:
    """Run a module on two samples and make a network of what it calls."""
    batch = torch.cat([example] * BATCH)[:BATCH] if len(example) < BATCH else example[:BATCH].clone()
    tracer = Tracer(module, HANDLERS, opaque=opaque, literal=literal)
    tracer.start(batch, dtype="float32" if batch.is_floating_point() else "int64")
    with tracer:
        try:
            out = module(batch)
        except GraphError:
            raise
        except Exception as error:
            name = type(module).__name__
            raise GraphError(f"{name} fails on two samples of the example input: {error}") from error
    if not isinstance(out, Tensor):
        raise GraphError(
            f"{type(module).__name__} gives a {type(out).__name__}, not one tensor; wrap it in a module that does"
        )
    if not tracer.is_traced(out):
        raise GraphError(f"what {type(module).__name__} gives does not depend on its input")
    if not out.is_floating_point():
        raise GraphError(f"{type(module).__name__} gives {out.dtype}, not floating-point values")
    try:
        return _finished(tracer, out)
    except GraphError as error:
        raise GraphError(f"cannot take in {type(module).__name__}: its output: {error}") from None


def _check_example(module: nn.Module, example: Any) -> None:
    if not isinstance(example, Tensor) or example.dim() < 2 or len(example) < 1:
        given = f"a tensor of shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise GraphError(f"the example input should be a batch, shape (samples, *input shape); got {given}")
    if not (example.is_floating_point() or example.dtype == torch.int64):
        raise GraphError(f"the example input holds {example.dtype}; floating-point values or int64 ids can be taken in")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise GraphError(f"{name} has no values yet; run the module once first")
        if tensor.is_sparse or tensor.is_quantized or tensor.is_complex():
            raise GraphError(f"{name} is sparse, quantized or complex; only dense real tensors can be taken in")
        if tensor.device.type != "cpu":
            raise GraphError(f"{name} lies on {tensor.device}; take the module in from the CPU: module.cpu()")


@contextmanager
def kept_as_it_is(module: nn.Module) -> Iterator[None]:
    """Eval mode; flags, buffers and torch's random numbers as they were afterwards."""
    training = [m for m in module.modules() if m.training]
    buffers = [(b, b._version, b.detach().clone()) for b in module.buffers()]
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m in training:
            m.training = True
        for buffer, version, values in buffers:
            if buffer._version != version:
                buffer.detach().copy_(values)


def _finished(tracer: Tracer, out: Tensor) -> Network:
    value = tracer.value(out)
    if value.sample.batch != 0 or value.sample.merged > 1:
        raise GraphError("the output does not have the batch in front")
    read, kept = {value.node}, []
    for node in reversed(tracer.nodes):
        if node.id in read or node.op == "input":
            read.update(node.inputs)
            owner = shared(node)
            if owner is not None:
                read.add(owner)
            kept.append(node)
    nodes = tuple(reversed(kept))
    if not any(node.inputs for node in nodes):
        raise GraphError("the module gives its input as it is; there is nothing to design")
    graph = _with_axes(Graph(nodes, value.node))
    tensors = {name: t.detach().clone() for name, t in tracer.tensors.items() if name.split(".", 1)[0] in graph}
    return Network(graph, _contiguous(tensors))


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _with_axes(graph: Graph) -> Graph:
    """Say of each `parameter` which axis is that of channels: the one along which it meets those of other values."""
    axes = graph.channel_axes
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "parameter" or node["dtype"] != "float32":
            continue
        for id in graph.consumers[node.id]:
            axis, rank = axes[id], len(graph.shapes[id])
            joins = OPS[graph.node(id).op].family == "merge"
            if joins and axis is not None and rank - axis <= len(node["shape"]) and node["shape"][axis - rank] > 1:
                changed[node.id] = node.replace(axis=axis - rank)
    return Graph(tuple(changed.get(node.id, node) for node in graph.nodes), graph.output) if changed else graph


def _difference(module: nn.Module, network: Network, example: Tensor) -> str | None:
    """What is wrong with a network; None if it gives the same bits, for another number of samples too."""
    made = network.module().eval()
    risky = not LAYOUTS.isdisjoint([n.op for n in network.graph.nodes]) and network.graph.macs < LARGE
    for size in (1, BATCH + 1) if risky else (1,):
        x = torch.cat([example] * size)[:size]
        expected, got = module(x.clone()), made(x.clone())
        if expected.shape != got.shape:
            return (
                f"the graph gives {tuple(got.shape)} where {type(module).__name__} gives {tuple(expected.shape)}; does "
                "what it computes depend on the number of samples?"
            )
        if not torch.equal(torch.nan_to_num(expected), torch.nan_to_num(got)):
            far = float((expected - got).abs().max())
            return (
                f"the graph's outputs differ from those of {type(module).__name__} by up to {far:.1e}; does it draw "
                "random numbers, keep a state, depend on the number of samples or call functions compiled by "
                "torch.jit.script?"
            )
    return None
