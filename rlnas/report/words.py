"""Layers in words."""

from __future__ import annotations

from rlnas.graph import OPS, Graph, Node
from rlnas.graph.facts import shared
from rlnas.graph.ops import is_depthwise

LONGEST = 48
"""Characters of a description at most."""

PLAIN = {
    "add": "sum",
    "sub": "difference",
    "mul": "product",
    "div": "quotient",
    "flatten": "flatten",
    "matmul": "matmul",
}
NORMS = {"batch_norm": "batch norm", "layer_norm": "layer norm", "rms_norm": "RMS norm", "group_norm": "group norm"}


def in_words(graph: Graph, id: str) -> str:
    """What a node is: ``3x3 conv 16 -> 32, stride 2``."""
    node = graph.node(id)
    text = _words(graph, node)
    owner = shared(node)
    if owner is not None:
        text = f"{text}, tensors of {owner}"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _words(graph: Graph, node: Node) -> str:
    op, row, shapes = node.op, OPS[node.op], graph.input_shapes(node.id)
    if op == "input":
        return f"input, {node['dtype']}"
    if op == "parameter":
        return "learned values" if node["trained"] else "constant values"
    if op in PLAIN:
        return PLAIN[op]
    if op == "concat":
        return f"concat along axis {node['axis']}"
    if op in ("reshape", "permute"):
        return f"reshape to {_sizes(node['shape'])}" if op == "reshape" else f"axes in the order {node['dims']}"
    if op.startswith("conv"):
        return _convolution(node, shapes[0][0], depthwise=is_depthwise(node, shapes))
    if op == "linear":
        return _list(f"linear {shapes[0][-1]} -> {node['out_channels']}", (not node["bias"], "no bias"))
    if op == "embedding":
        return f"embedding of {node['num_embeddings']:,} ids -> {node['out_channels']}"
    if row.family == "norm":
        kind = next((name for prefix, name in NORMS.items() if op.startswith(prefix)), op.replace("_", " "))
        groups = dict(node.attrs).get("groups")
        return _list(kind, (groups is not None, f"{groups} groups"))
    if op == "attention":
        fewer = node["kv_heads"] != node["heads"]
        return _list(
            f"attention, {node['heads']} heads", (fewer, f"{node['kv_heads']} for keys"), (node["causal"], "causal")
        )
    if op == "reduce":
        return f"{node['kind']} over axes {', '.join(str(axis) for axis in node['axes'])}"
    if op.startswith("adaptive"):
        size = "global" if set(node["output_size"]) == {1} else f"to {_sizes(node['output_size'])}"
        return f"{op.split('_')[1]} pool, {size}"
    if row.family == "pool" and "kernel_size" in dict(node.attrs):
        strided = set(node["stride"]) != {1}
        return _list(f"{_sizes(node['kernel_size'])} {op.split('_')[0]} pool", (strided, _stride(node)))
    if "dropout" in op:
        return f"dropout {node['p']:g}"
    if op == "hardtanh" and (node["min_val"], node["max_val"]) == (0, 6):
        return "relu6"
    if row.family == "activation":
        values = [f"{name} {value:g}" for name, value in node.attrs if isinstance(value, float)]
        return ", ".join([op.replace("_", " "), *values])
    if row.source is not None:
        return row.source(node, shapes).removeprefix("nn.")
    assert row.call is not None
    names = ("x",) if len(node.inputs) == 1 else "abc" if len(node.inputs) <= 3 else [f"x{k + 1}" for k in range(9)]
    return row.call(node, tuple(names[: len(node.inputs)]))


def _convolution(node: Node, n_in: int, *, depthwise: bool) -> str:
    transposed = "transpose" in node.op
    kind = "depthwise conv" if depthwise else "transposed conv" if transposed else "conv"
    channels = f"{node['out_channels']}" if depthwise else f"{n_in} -> {node['out_channels']}"
    return _list(
        f"{_sizes(node['kernel_size'])} {kind} {channels}",
        (set(node["stride"]) != {1}, _stride(node)),
        (set(node["dilation"]) != {1}, f"dilation {_sizes(node['dilation'], same=True)}"),
        (node["groups"] > 1 and not depthwise, f"{node['groups']} groups"),
    )


def _stride(node: Node) -> str:
    return f"stride {_sizes(node['stride'], same=True)}"


def _sizes(sizes: tuple[int, ...], *, same: bool = False) -> str:
    return str(sizes[0]) if same and len(set(sizes)) == 1 else "x".join(map(str, sizes))


def _list(first: str, *more: tuple[bool, str]) -> str:
    return ", ".join([first, *(text for said, text in more if said)])
