"""Take in an ordinary module: its architecture as a graph, with its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlnas.errors import GraphError
from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import shared
from rlnas.interchange.handlers import HANDLERS
from rlnas.interchange.samples import samples
from rlnas.interchange.trace import Tracer
from rlnas.interchange.values import BATCH, Tied
from rlnas.interchange.whole import n_lost, whole_parameters
from rlnas.network import Network

LAYOUTS = frozenset({"permute", "attention", "matmul", "einsum", "opaque", "expand", "index_select", "each", "sdpa"})
"""Ops whose values may lie in memory as they like, which other numbers of samples may bring to light."""
PIECES = frozenset({"slice", "concat"})
"""Ops of which the same holds for features and tokens, not for maps."""
SMALL, LARGE = 10**6, 10**9
"""Multiply-accumulates from which on networks are compared for one number of samples only."""


def from_module(module: nn.Module, example_input: Tensor, *, opaque: bool = False) -> Network:
    """Make a network of a module, with the same weights and bit for bit the same outputs.

    The module runs once on two samples made from the example, in eval mode, and what it calls is written down. So code
    that depends on shapes is resolved against the example's; the number of samples stays free. The module itself is
    left as it was. Fused kernels that PyTorch takes for `nn.MultiheadAttention` in inference round differently from the
    steps of which it consists; the network has those.

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
    with kept_as_it_is(module), torch.no_grad():
        for varied in (True, False):
            try:
                return _taken_in(module, example, opaque=opaque, varied=varied)
            except _Unfit as error:  # ids of tokens that may stand in their own places only
                problem = error
    raise GraphError(
        f"{type(module).__name__} fails on two samples of the example input: {problem.__cause__}"
    ) from problem.__cause__


class _Unfit(Exception):
    """The module fails on the samples that were made for it."""


def _taken_in(module: nn.Module, example: Tensor, *, opaque: bool, varied: bool) -> Network:
    """The network, by short forms if they give the same bits."""
    best: Network | None = None
    problem, n_least = "", 0
    refused: GraphError | None = None
    for literal in (False, True):
        for eager in (False, True):
            if eager and not n_least:
                continue  # nothing was worked out beforehand
            try:
                made = _written_down(module, example, opaque=opaque, literal=literal, eager=eager, varied=varied)
            except GraphError as error:
                refused = refused or error
                n_least = 1
                continue
            difference = _difference(module, *made, example, varied=varied)
            problem = problem or difference
            if not difference and (best is None or made[1].n_lost < n_least):
                best = made[0]
            n_least = made[1].n_lost
        if best is not None:
            return best
        if refused is not None and not problem:
            raise refused
    raise GraphError(problem)


def _written_down(
    module: nn.Module, example: Tensor, *, opaque: bool, literal: bool, eager: bool, varied: bool
) -> tuple[Network, Tracer]:
    """A network, and what wrote it down."""
    plain: frozenset[int] = frozenset()
    while True:
        tracer = Tracer(module, HANDLERS, opaque=opaque, literal=literal, eager=eager, plain=plain)
        try:
            return run_and_write_down(module, tracer, samples(example, BATCH, varied=varied)), tracer
        except Tied as tied:
            plain |= {id(t) for t in tied.tensors}


def run_and_write_down(module: nn.Module, tracer: Tracer, batch: Tensor) -> Network:
    """Run a module on two samples and make a network of what it calls."""
    tracer.start(batch, dtype="float32" if batch.is_floating_point() else "int64")
    name = type(module).__name__
    torch.manual_seed(0)
    with tracer:
        try:
            out = module(batch)
        except (GraphError, Tied):
            raise
        except Exception as error:
            raise _Unfit from error
    if not isinstance(out, Tensor):
        raise GraphError(f"{name} gives a {type(out).__name__}, not one tensor; wrap it in a module that does")
    if not tracer.is_traced(out):
        raise GraphError(f"what {name} gives does not depend on its input")
    if not out.is_floating_point():
        raise GraphError(f"{name} gives {out.dtype}, not floating-point values")
    try:
        return _finished(tracer, out)
    except GraphError as error:
        raise GraphError(f"cannot take in {name}: its output: {error}") from None


def _check_example(module: nn.Module, example: Any) -> None:
    if not isinstance(example, Tensor) or example.dim() < 2 or not example.numel():
        given = f"a tensor of shape {tuple(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        raise GraphError(
            f"the example input should be one batch, shape (samples, *input shape), got {given}; wrap a module of "
            "several inputs in one that fixes the others"
        )
    if not (example.dtype in (torch.float32, torch.float64) or example.dtype == torch.int64):
        raise GraphError(f"the example input holds {example.dtype}; float32 values or int64 ids can be taken in")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise GraphError(f"{name} has no values yet; run the module once first")
        if tensor.is_sparse or tensor.is_quantized or (tensor.is_complex() and isinstance(tensor, nn.Parameter)):
            raise GraphError(f"{name} is sparse, quantized or complex; only dense real tensors can be taken in")
        if tensor.device.type != "cpu":
            raise GraphError(f"{name} lies on {tensor.device}; take the module in from the CPU: module.cpu()")


@contextmanager
def kept_as_it_is(module: nn.Module) -> Iterator[None]:
    """Eval mode; flags, buffers and torch's random numbers as they were afterwards."""
    training = [m for m in module.modules() if m.training]
    held = [(m, name, b) for m in module.modules() for name, b in m._buffers.items() if b is not None]
    buffers = [(m, name, b, b._version, b.detach().clone()) for m, name, b in held]
    fast = torch.backends.mha.get_fastpath_enabled()
    module.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    random = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(random)
        torch.backends.mha.set_fastpath_enabled(fast)
        for m in training:
            m.training = True
        for m, name, buffer, version, values in buffers:
            m._buffers[name] = buffer
            if buffer._version != version:
                buffer.detach().copy_(values)


def _finished(tracer: Tracer, out: Tensor) -> Network:
    value = tracer.value(out)
    if value.sample.batch != 0 or value.sample.merged > 1:
        raise GraphError("it does not have the batch in front")
    nodes = _read(tracer, value.node)
    if not any(node.inputs for node in nodes):
        raise GraphError("the module gives its input as it is; there is nothing to design")
    whole = whole_parameters(tracer, nodes)
    tracer.n_lost = n_lost(tracer, nodes)
    graph = _with_axes(Graph(tuple(whole.nodes), whole.new.get(value.node, value.node)))
    tensors = {**tracer.tensors, **whole.tensors}
    kept_tensors = {name: t for name, t in tensors.items() if name.split(".", 1)[0] in graph}
    return Network(graph, {name: t.detach().clone().contiguous() for name, t in kept_tensors.items()})


def _read(tracer: Tracer, output: str) -> list[Node]:
    """The nodes on which the output depends; of nodes that share tensors, the first of them owns these."""
    read, kept = {output}, []
    for node in reversed(tracer.nodes):
        if node.id in read or node.op == "input":
            read.update(node.inputs)
            kept.append(node)
    owners: dict[str, str] = {}
    nodes = []
    for node in reversed(kept):
        owner = shared(node)
        if owner is not None and owner not in read:
            if owner in owners:
                node = node.replace(shares=owners[owner])
            else:
                owners[owner] = node.id
                node = Node(node.id, node.op, node.inputs, tuple([a for a in node.attrs if a[0] != "shares"]))
                tracer.pass_on(owner, node.id)
        nodes.append(node)
    return nodes


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


def _difference(module: nn.Module, network: Network, tracer: Tracer, example: Tensor, *, varied: bool) -> str:
    """What is wrong with a network; nothing if it gives the same bits, for other numbers of samples too."""
    made = network.module().eval()
    name = type(module).__name__
    graph = network.graph
    ops = {n.op for n in graph.nodes if n.op not in PIECES or len(graph.shapes[n.id]) < 3}
    risky = tracer.risky or not (LAYOUTS | PIECES).isdisjoint(ops)
    several = graph.macs < (LARGE if risky else SMALL)
    for size in (1, BATCH + 1, BATCH + 3) if several else (1,):
        x = samples(example, size + 1, varied=varied)[1:]
        outputs = []
        for run in (module, made):
            torch.manual_seed(0)
            try:
                outputs.append(run(x.clone()))
            except RuntimeError as error:
                return f"for {size} samples {name} or its graph fails: {str(error).splitlines()[0]}"
        expected, got = outputs
        if expected.shape != got.shape:
            return (
                f"the graph gives {tuple(got.shape)} where {name} gives {tuple(expected.shape)}; does what it computes "
                "depend on the number of samples?"
            )
        if not torch.equal(torch.nan_to_num(expected), torch.nan_to_num(got)):
            far = float((expected - got).abs().max())
            return (
                f"the graph's outputs differ from those of {name} by up to {far:.1e}; does it draw random numbers, "
                "keep a state, depend on the number of samples or call functions compiled by torch.jit.script?"
            )
    return ""
