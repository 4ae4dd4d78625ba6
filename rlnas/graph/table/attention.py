"""Rows of the op table: attention between projected queries, keys and values, and between heads of any making."""

from __future__ import annotations

import math

from rlnas.errors import GraphError
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Op, Shapes


def _shape(node: Node, shapes: Shapes) -> Shape:
    query, key, value = shapes
    heads, kv_heads = node["heads"], node["kv_heads"]
    if any(len(shape) != 2 for shape in shapes):
        raise GraphError(f"attention {node.id} reads three values of shape (tokens, features), got {shapes}")
    if heads % kv_heads or query[1] % heads or key[1] % kv_heads or value[1] % kv_heads:
        raise GraphError(f"attention {node.id}: heads={heads}, kv_heads={kv_heads} do not divide {shapes}")
    if query[1] // heads != key[1] // kv_heads or key[0] != value[0]:
        raise GraphError(f"attention {node.id}: queries, keys and values of {shapes} do not fit")
    if node["causal"] and query[0] != key[0]:
        raise GraphError(f"attention {node.id}: causal attention needs as many queries as keys")
    return query[0], value[1] // kv_heads * heads


def _call(node: Node, names: tuple[str, ...]) -> str:
    return (
        f"attention({', '.join(names)}, heads={node['heads']}"
        + ("" if node["kv_heads"] == node["heads"] else f", kv_heads={node['kv_heads']}")
        + f", scale={node['scale']!r}"
        + (", causal=True" if node["causal"] else "")
        + ("" if node["kind"] == "sdpa" else f", kind={node['kind']!r}")
        + ")"
    )


HELPER = '''def attention(q, k, v, *, heads, scale, causal=False):
    """Attention of several heads; q, k and v have the shape (batch, tokens, heads * width)."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    return y.transpose(1, 2).flatten(2)
'''
"""What `to_source` prints above a network that attends."""

FULL_HELPER = '''def attention(q, k, v, *, heads, scale, kv_heads=None, causal=False, kind="sdpa"):
    """Attention of several heads; q, k and v have the shape (batch, tokens, heads * width)."""
    kv_heads = kv_heads or heads
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
    k, v = (x.unflatten(-1, (kv_heads, -1)).transpose(1, 2) for x in (k, v))
    if kv_heads != heads:
        k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    if kind == "sdpa":
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
    else:
        scores = (q * scale if kind == "query" else q) @ k.transpose(-2, -1)
        scores = scores * scale if kind == "scores" else scores / scale if kind == "divided" else scores
        if causal:
            mask = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool, device=q.device).tril()
            scores = scores.masked_fill(~mask, float("-inf"))
        y = F.softmax(scores, dim=-1) @ v
    return y.transpose(1, 2).flatten(2)
'''
"""The same above one whose heads share keys and values, or that writes attention out."""


def _macs(node: Node, shapes: Shapes, out: Shape) -> int:
    (n, queries), (m, _), _ = shapes
    return n * m * (queries + out[1])


def _fused_shape(node: Node, shapes: Shapes) -> Shape:
    query, key, value = shapes[:3]
    rank = 3 if node["groups"] == 1 else 4
    if any(len(shape) != rank for shape in shapes[:3]) or len(shapes) > 4:
        raise GraphError(f"sdpa {node.id} reads values of shape (heads, tokens, features) and a mask, got {shapes}")
    if query[-1] != key[-1] or key[:-1] != value[:-1] or query[:-2] != key[:-2] or query[0] % node["groups"]:
        raise GraphError(f"sdpa {node.id}: queries, keys and values of {shapes[:3]} do not fit")
    return *query[:-1], value[-1]


def _fused_call(node: Node, names: tuple[str, ...]) -> str:
    words = list(names[:3])
    if node["groups"] > 1:
        words = [f"{name}.flatten(0, 1)" for name in words]
    words += [f"attn_mask={name}" for name in names[3:]] + (["is_causal=True"] if node["causal"] else [])
    text = f"F.scaled_dot_product_attention({', '.join(words)}, scale={node['scale']!r})"
    return text if node["groups"] == 1 else f"{text}.unflatten(0, (-1, {node['groups']}))"


ROWS = (
    Op(
        "attention",
        "attention",
        _shape,
        call=_call,
        arity=3,
        attributes={"heads": REQUIRED, "kv_heads": REQUIRED, "scale": REQUIRED, "causal": False, "kind": "sdpa"},
        macs=_macs,
        flow=lambda node, shapes, out: Flow("attention", axis=1),
    ),
    Op(
        "sdpa",
        "attention",
        _fused_shape,
        call=_fused_call,
        arity=None,
        at_least=3,
        attributes={"scale": REQUIRED, "causal": False, "groups": 1},
        macs=lambda node, shapes, out: (math.prod(shapes[0]) + math.prod(out)) * shapes[1][-2],
        flow=lambda node, shapes, out: FROZEN,
        broadcasts=True,
    ),
)
