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
    integers = not example_input.is_floating_point()
    batch = example_input.detach()
    batch = torch.cat([batch] * BATCH)[:BATCH] if len(batch) < BATCH else batch[:BATCH].clone()
    tracer = Tracer(module, HANDLERS, opaque=opaque)
    with evaluating(module), torch.no_grad(), plain_attention(module):
        tracer.start(batch, dtype="int64" if integers else "float32")
        with tracer:
            out = module(batch)
    if not isinstance(out, Tensor):
        raise GraphError(
            f"{type(module).__name__} gives a {type(out).__name__}, not one tensor; wrap it in a module that does"
        )
    if not tracer.is_traced(out):
        raise GraphError(f"what {type(module).__name__} gives does not depend on its input")
    network = _finished(tracer, out)
    _verify(module, network, example_input.detach())
    return network


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
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without fused kernels of attention, which give other bits; afterwards every flag is as it was."""
    training = [m for m in module.modules() if m.training]
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for m in training:
            m.training = True


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


def _verify(module: nn.Module, network: Network, example: Tensor) -> None:
    """Our own guard: another batch than the traced one must give the same bits."""
    inputs = [example] if len(example) != BATCH else [torch.cat([example, example[:1]])]
    made = network.module().eval()
    with evaluating(module), torch.no_grad():
        for x in inputs:
            expected, got = module(x), made(x)
            if expected.shape != got.shape:
                raise GraphError(f"the graph gives {tuple(got.shape)} where the module gives {tuple(expected.shape)}")
            if not torch.equal(torch.nan_to_num(expected), torch.nan_to_num(got)):
                difference = float((expected - got).abs().max())
                raise GraphError(
                    f"the graph's outputs differ from the module's by up to {difference:.1e}; does the module draw "
                    "random numbers or keep a state while it runs?"
                )
