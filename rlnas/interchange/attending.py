"""How attention is written down: as one node where it reads heads side by side, else step by step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_letters
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.graph import Node
from rlnas.interchange.arithmetic import combine
from rlnas.interchange.calls import HANDLERS, handles, linear
from rlnas.interchange.moving import aligned
from rlnas.interchange.trace import Tracer
from rlnas.interchange.values import ALONG, BATCH, Traced, Value
from rlnas.interchange.views import base_positions, find_sample


class Heads(NamedTuple):
    """A view of features as heads.

    Attributes:
        node: What holds the features, of shape (tokens, features).
        start: The first feature.
        width: Features of a head.
        heads: Heads that have features of their own.
        repeated: How many heads read the same features.
        tokens: Number of tokens.
        outer: If heads are merged with the batch, how many of them are outside of it.
    """

    node: str
    start: int
    width: int
    heads: int
    repeated: int
    tokens: int
    outer: int


def find_heads(tracer: Tracer, traced: Traced, *, transposed: bool = False) -> Heads | None:
    """Read a tensor of shape (..., tokens, width) as heads of a value of shape (tokens, features)."""
    shape = tracer.shapes[traced.node]
    if len(shape) != 2:
        return None
    size = math.prod(shape)
    positions = base_positions(BATCH, shape) if traced.positions is None else traced.positions
    sample = find_sample(positions, BATCH, size)
    if sample is None or sample.positions is None:
        return None
    places = sample.positions
    if places.dim() == 2:
        places = places[None]
    if places.dim() != 3:
        return None
    if transposed:
        places = places.transpose(1, 2)
    heads, tokens, width = places.shape
    starts = (places[:, 0, 0]).tolist()
    repeated = next((i for i, start in enumerate(starts) if start != starts[0]), heads)
    if heads % repeated:
        return None
    own = torch.arange(heads) // repeated * width
    expected = (
        starts[0]
        + own[:, None, None]
        + torch.arange(tokens)[None, :, None] * shape[1]
        + torch.arange(width)[None, None, :]
    )
    if tokens != shape[0] or not bool((places == expected).all()):
        return None
    return Heads(traced.node, starts[0], width, heads // repeated, repeated, tokens, sample.outer)


def _features(tracer: Tracer, heads: Heads) -> str:
    """Id of a node whose value is the features of the heads alone."""
    stop = heads.start + heads.heads * heads.width
    if (heads.start, stop) == (0, tracer.shapes[heads.node][1]):
        return heads.node
    key = (heads.node, b"features", (heads.start, stop))
    if key not in tracer.views:
        tracer.views[key] = tracer.add("slice", (heads.node,), axis=1, start=heads.start, stop=stop)
    return tracer.views[key]


def attend(
    tracer: Tracer,
    out: Tensor,
    query: Traced,
    key: Traced,
    value: Traced,
    *,
    kind: str,
    scale: float,
    causal: bool,
    transposed: bool = False,
    shared: bool = False,
) -> bool:
    """Write attention down as one node; False if its operands are not heads side by side.

    Args:
        shared: Keys and values have fewer heads than queries.
    """
    if tracer.literal and kind != "sdpa":
        return False
    q, k, v = find_heads(tracer, query), find_heads(tracer, key, transposed=transposed), find_heads(tracer, value)
    if shared and q and k and v and k.repeated == v.repeated == 1 and q.heads % k.heads == 0:
        k, v = (heads._replace(repeated=q.heads // k.heads) for heads in (k, v))
    if not q or not k or not v or q.repeated != 1 or (k.heads, k.repeated) != (v.heads, v.repeated):
        return False
    if q.heads != k.heads * k.repeated or q.width != k.width or (causal and q.tokens != k.tokens):
        return False
    if not q.outer == k.outer == v.outer or q.outer not in (1, q.heads):
        return False
    made = tracer.add(
        "attention",
        [_features(tracer, heads) for heads in (q, k, v)],
        heads=q.heads,
        kv_heads=k.heads,
        scale=scale,
        causal=causal,
        kind=kind,
    )
    whole = base_positions(BATCH, (q.tokens, q.heads * v.width)).view(BATCH, q.tokens, q.heads, v.width).transpose(1, 2)
    if whole.numel() != out.numel():
        return False
    tracer.know(out, Traced(made, (whole.transpose(0, 1) if q.outer > 1 else whole).reshape(out.shape), out))
    return True


@handles("scaled_dot_product_attention")
def _sdpa(
    tracer: Tracer,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> None:
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    causal = is_causal or is_causal_mask(attn_mask)
    found = [t for t in [tracer.find(t) for t in (query, key, value)] if t is not None]
    whole = len(found) == 3 and (attn_mask is None or causal)
    if whole and attend(tracer, out, *found, kind="sdpa", scale=factor, causal=causal, shared=enable_gqa):
        return
    if enable_gqa:
        raise GraphError("fewer heads for keys than for queries are known for heads side by side only")
    traced = [t for t in (query, key, value) if tracer.is_traced(t)]
    like = tracer.value(traced[0])
    values = [tracer.value(t) if tracer.is_traced(t) else tracer.constant(t, like) for t in (query, key, value)]
    values = [aligned(tracer, v, like) for v in values]
    if like.sample.batch or like.sample.outer > 1 or len(like.shape) < 2:
        raise GraphError("it needs the batch in front of heads, tokens and features")
    merged = like.sample.merged
    if len(like.shape) == 2:  # of one head
        return tracer.black_box(
            F.scaled_dot_product_attention, (query, key, value, attn_mask, 0.0, is_causal), {"scale": scale}, out
        )
    if attn_mask is not None and tracer.is_traced(attn_mask):
        mask = tracer.value(attn_mask)
        if mask.rank != like.rank or merged > 1:
            raise GraphError("the mask depends on the input and has other axes than the scores")
        values.append(mask)
    elif attn_mask is not None:
        values.append(_mask(tracer, attn_mask, like))
    tracer.emit("sdpa", values, out, like=like, scale=factor, causal=is_causal, groups=merged)


def _mask(tracer: Tracer, mask: Tensor, like: Value) -> str:
    """Id of a constant mask with the axes that it had, for the kernel is chosen by their number."""
    if mask.dim() < like.rank or mask.shape[0] == 1:
        return tracer.raw(mask)
    if like.sample.merged > 1:
        raise GraphError("its mask differs between what is merged with the batch; write the attention out")
    return tracer.constant(mask, like)


def is_causal_mask(mask: Tensor | None) -> bool:
    """True for a constant mask that lets every token see itself and those before it."""
    if mask is None or mask.dim() < 2 or mask.shape[-1] != mask.shape[-2] or mask.numel() != mask.shape[-1] ** 2:
        return False
    square = mask.reshape(mask.shape[-2:])
    seen = square if square.dtype == torch.bool else square == 0
    lower = torch.ones_like(seen, dtype=torch.bool).tril()
    return bool((seen == lower).all()) and (square.dtype == torch.bool or bool((square[~lower] == -torch.inf).all()))


# --------------------------------------------------------------------------------------------------------- products


@handles("matmul", "bmm", "mm", "imatmul", "linalg_matmul")
def _matmul(tracer: Tracer, out: Tensor, input: Tensor, mat2: Tensor) -> None:
    multiply(tracer, out, input, mat2)


@handles("rmatmul")
def _rmatmul(tracer: Tracer, out: Tensor, input: Tensor, other: Tensor) -> None:
    multiply(tracer, out, other, input)


def multiply(tracer: Tracer, out: Tensor, a: Tensor, b: Tensor) -> None:
    """Write down a product of matrices."""
    if tracer.is_traced(a) and tracer.is_traced(b) and _as_attention(tracer, out, a, b):
        return
    if tracer.is_traced(a) and not tracer.is_traced(b) and b.dim() == 2:
        x = tracer.value(a)
        if x.sample.batch == x.rank - 1:
            raise GraphError(ALONG)
        if tracer.is_trained(b) and not tracer.literal:
            linear(tracer, out, a, transposed(tracer, b))
            return
        if len(x.shape) == 1:
            return tracer.black_box(torch.matmul, (a, b), {}, out)
    like = tracer.value(a if tracer.is_traced(a) else b)
    operands: list[Value | str] = []
    for t in (a, b):
        if tracer.is_traced(t):
            operands.append(tracer.value(t))
        else:
            operands.append(tracer.constant(t, like, rank=out.dim()) if t.dim() > 2 else tracer.constant(t))
    values = [v for v in operands if isinstance(v, Value)]
    if any(v.rank - v.sample.batch <= 2 for v in values):
        return tracer.black_box(torch.matmul, (a, b), {}, out) if a.dim() != b.dim() else _refuse()
    if any(v.rank != out.dim() for v in values):
        raise GraphError("its inputs have their batch at different axes")
    made = tracer.add("matmul", [v if isinstance(v, str) else v.node for v in operands])
    tracer.result(made, out, like)
    tracer.reads[made] = [t for t in (tracer.find(a), tracer.find(b)) if t is not None]


def _refuse() -> None:
    raise GraphError(ALONG)


def transposed(tracer: Tracer, weight: Tensor) -> Tensor:
    """The weight of a linear layer, for a matrix that stands behind what it multiplies."""
    tracer.risky = True
    made = weight.t()
    tracer.constants.derive(Tensor.t, (weight,), {}, made)
    root, places = tracer.constants.root(made)
    whole = places is not None and torch.equal(places, torch.arange(root.numel()).view(root.shape))
    return root if whole else made


@handles("baddbmm")
def _baddbmm(
    tracer: Tracer, out: Tensor, input: Tensor, batch1: Tensor, batch2: Tensor, beta: Any = 1, alpha: Any = 1
) -> None:
    product = torch.bmm(batch1, batch2)
    multiply(tracer, product, batch1, batch2)
    if alpha != 1:
        scaled = product * alpha
        combine(tracer, "mul", product, alpha, scaled)
        product = scaled
    if beta != 0:
        term = input
        if beta != 1:
            term = input * beta
            if tracer.is_traced(input):
                combine(tracer, "mul", input, beta, term)
        combine(tracer, "add", product, term, out)
    else:
        tracer.alias(out, product)


@handles("addmm")
def _addmm(
    tracer: Tracer, out: Tensor, input: Tensor, mat1: Tensor, mat2: Tensor, beta: Any = 1, alpha: Any = 1
) -> None:
    if beta != 1 or alpha != 1 or tracer.is_traced([input, mat2]) or not tracer.is_trained(mat2):
        raise GraphError("only as a linear layer is it known")
    linear(tracer, out, mat1, transposed(tracer, mat2), input)


def einsum(tracer: Tracer, name: str, args: Any, kwargs: Any, out: Tensor) -> None:
    """Write down a sum over products by an equation."""
    equation, tensors = args[0].replace(" ", ""), args[1:]
    if len(tensors) == 1 and isinstance(tensors[0], list | tuple):
        tensors = tensors[0]
    if "->" not in equation:
        raise GraphError(f"the equation {equation!r} is not understood; name the axes of the result")
    if "." in equation:
        equation = _spelled_out(equation, [t.dim() for t in tensors])
    left, right = equation.split("->")
    values = [tracer.value(t) if tracer.is_traced(t) else None for t in tensors]
    letters = {word[v.sample.batch] for word, v in zip(left.split(","), values, strict=True) if v is not None}
    words = left.split(",")
    if len(letters) != 1:
        raise GraphError(f"the equation {equation!r} mixes samples")
    batch = letters.pop()
    if batch not in right or any(word.count(batch) != (v is not None) for word, v in zip(words, values, strict=True)):
        raise GraphError(f"the equation {equation!r} sums over the batch")
    found = [v for v in values if v is not None]
    if len({(v.sample.merged, v.sample.outer) for v in found}) > 1:
        raise GraphError(f"the equation {equation!r} mixes samples")
    if len(found) < len(values) and (tracer.literal or found[0].sample.merged > 1):
        tracer.black_box(torch.einsum, (equation, *tensors), {}, out)
        return
    beside = next(c for c in ascii_letters if c not in equation) if found[0].sample.merged > 1 else ""
    text = ",".join(batch + word.replace(batch, beside) for word in words)
    read = [tracer.constant(t) if v is None else v.node for t, v in zip(tensors, values, strict=True)]
    made = tracer.add("einsum", read, text=f"{text}->{batch}{right.replace(batch, beside)}")
    tracer.result(made, out, found[0], batch=right.index(batch))


def _spelled_out(equation: str, ranks: Sequence[int]) -> str:
    """An equation with letters for its dots."""
    free = [c for c in ascii_letters if c not in equation]
    left, right = equation.split("->")
    words = left.split(",")
    counts = [
        rank - len(word.replace("...", "")) if "." in word else 0 for word, rank in zip(words, ranks, strict=True)
    ]
    dots = "".join(free[: max(counts)])
    shown = [word.replace("...", dots[len(dots) - count :]) for word, count in zip(words, counts, strict=True)]
    return f"{','.join(shown)}->{right.replace('...', dots)}"


HANDLERS["einsum"] = einsum


def _as_attention(tracer: Tracer, out: Tensor, weights: Tensor, values: Tensor) -> bool:
    """Recognize softmax(scaled q k^T) v and write it down as one node."""
    nodes = {node.id: node for node in tracer.nodes}
    w, v = tracer.find(weights), tracer.find(values)
    assert w is not None and v is not None
    node = nodes[w.node]
    while node.op == "dropout":
        node = nodes[tracer.reads[node.id][0].node]
    if node.op != "softmax" or node["axis"] != len(tracer.shapes[node.id]) - 1:
        return False
    node = nodes[tracer.reads[node.id][0].node]
    causal = False
    if node.op in ("masked_fill", "add") and node.id in tracer.reads and _masks_future(tracer, node, nodes):
        causal = True
        node = nodes[tracer.reads[node.id][0].node]
    kind, scale = "scores", 1.0
    if node.op in ("mul_scalar", "div_scalar"):
        kind, scale = ("scores" if node.op == "mul_scalar" else "divided"), node["value"]
        node = nodes[tracer.reads[node.id][0].node]
    if node.op != "matmul" or len(tracer.reads.get(node.id, [])) != 2:
        return False
    q, k = tracer.reads[node.id]
    before = nodes[q.node]
    if scale == 1.0 and before.op == "mul_scalar":
        (source,) = tracer.reads[before.id]
        unscaled = _through(tracer, source, before.id, q)
        if unscaled is not None:
            kind, scale, q = "query", before["value"], unscaled
    return attend(tracer, out, q, k, v, kind=kind, scale=scale, causal=causal, transposed=True)


def _through(tracer: Tracer, source: Traced, scaled: str, shown: Traced) -> Traced | None:
    """The view of what was scaled that corresponds to a view of the scaled value."""
    if source.positions is None and tracer.shapes[source.node] == tracer.shapes[scaled]:
        return Traced(source.node, shown.positions, shown.tensor)
    if source.positions is None:
        return None
    sample = find_sample(source.positions, BATCH, math.prod(tracer.shapes[source.node]))
    if sample is None or sample.positions is None or sample.shape != tracer.shapes[scaled]:
        return None
    size = math.prod(tracer.shapes[source.node])
    whole = torch.stack([sample.positions.flatten() + b * size for b in range(BATCH)]).flatten()
    positions = shown.positions if shown.positions is not None else base_positions(BATCH, tracer.shapes[scaled])
    return Traced(source.node, whole[positions.flatten()].view(positions.shape), shown.tensor)


def _masks_future(tracer: Tracer, node: Node, nodes: dict[str, Node]) -> bool:
    mask = next((i for i in node.inputs if nodes[i].op == "parameter"), None)
    if mask is None:
        return False
    values = tracer.tensors[mask]
    if node.op == "masked_fill":
        return node["text"] == "float('-inf')" and is_causal_mask(~values if values.dtype == torch.bool else None)
    return values.is_floating_point() and is_causal_mask(values)
