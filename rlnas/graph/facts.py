"""What follows from a node and the shapes of its inputs; worked out once for each kind of node, and checked."""

from __future__ import annotations

import math
from typing import NamedTuple

from rlnas.errors import GraphError, unknown_name
from rlnas.graph.attributes import ATTRIBUTES
from rlnas.graph.flow import FROZEN, Flow
from rlnas.graph.node import Node, Shape, Value
from rlnas.graph.op import REQUIRED, Params
from rlnas.graph.ops import OPS

MEMO_SIZE = 100_000
NUMBER = ("no", "one", "two", "three")
WINDOWS = ("kernel_size", "stride", "padding", "dilation", "output_padding", "output_size")


class Facts(NamedTuple):
    """What the op table says of a node.

    Attributes:
        shape: Shape of its output for one sample.
        params: Its tensors.
        n_params: Trained values.
        macs: Multiply-accumulates for one sample.
        flow: How channels pass.
    """

    shape: Shape
    params: Params
    n_params: int
    macs: int
    flow: Flow


_memo: dict[tuple[str, tuple[tuple[str, Value], ...], tuple[Shape, ...]], Facts] = {}


def facts_of(node: Node, shapes: tuple[Shape, ...]) -> Facts:
    """Check a node and work out its facts; each node remembers its own, and nodes of one kind share them.

    Args:
        shapes: Shapes of its inputs.

    Raises:
        GraphError: If the op or an attribute is unknown, missing or of the wrong kind, or the shapes do not fit.
    """
    found: Facts | None = node.facts.get(shapes)
    if found is None:
        if not node.facts:
            _check_once(node)
        key = (node.op, node.attrs, shapes)
        found = _memo.get(key)
        if found is None:
            if len(_memo) >= MEMO_SIZE:
                _memo.clear()
            found = _memo[key] = _work_out(node, shapes)
        node.facts[shapes] = found
    return found


def shared(node: Node) -> str | None:
    """Id of the node whose tensors a node uses instead of tensors of its own."""
    return node.shares


def _work_out(node: Node, shapes: tuple[Shape, ...]) -> Facts:
    row = OPS[node.op]
    shape = row.shape(node, shapes)
    macs = row.macs(node, shapes, shape)
    if shared(node) is not None:
        return Facts(shape, {}, 0, macs, FROZEN)
    params = row.params(node, shapes)
    n_params = sum(math.prod(param.shape) for param in params.values() if param.trained)
    return Facts(shape, params, n_params, macs, row.flow(node, shapes, shape))


_checked: set[tuple[object, ...]] = set()


def _check_once(node: Node) -> None:
    """Check a node, unless one of its op with the same attributes, types included, and as many inputs was right."""
    key = (node.op, node.attrs, tuple([type(value) for _, value in node.attrs]), len(node.inputs))
    if key not in _checked:
        _check(node)
        if len(_checked) >= MEMO_SIZE:
            _checked.clear()
        _checked.add(key)


def _check(node: Node) -> None:
    if node.op not in OPS:
        raise GraphError(f"node {node.id}: {unknown_name('op', node.op, OPS)}")
    row = OPS[node.op]
    if len(node.inputs) != row.arity and (row.arity is not None or len(node.inputs) < row.at_least):
        wanted = f"{row.at_least} or more" if row.arity is None else str(row.arity)
        raise GraphError(f"{node.op} {node.id} takes {wanted} inputs, got {len(node.inputs)}")
    given = [name for name, _ in node.attrs if name != "shares" or row.source is None]
    for name in given:
        if name not in row.attributes:
            raise GraphError(f"{node.op} {node.id}: {unknown_name('attribute', name, row.attributes)}")
    for name in row.attributes:
        if name not in given:
            raise GraphError(f"{node.op} {node.id} lacks the attribute {name!r}")
    if given != sorted(row.attributes):
        raise GraphError(f"{node.op} {node.id}: attributes must come once each, sorted by name; Node.make sees to it")
    for name, value in node.attrs:
        kind = ATTRIBUTES[name]
        if not kind.accepts(value):
            raise GraphError(f"{node.op} {node.id}: {name}={value!r} should be {kind.description}")
    ranks = [len(value) for value in row.attributes.values() if isinstance(value, tuple)]
    for name, value in node.attrs:
        if ranks and name in WINDOWS and isinstance(value, tuple) and len(value) != ranks[0]:
            raise GraphError(f"{node.op} {node.id}: {name}={value!r} should be {NUMBER[ranks[0]]} whole numbers")


def complete(node: Node) -> Node:
    """Fill in the default attributes of a node.

    Raises:
        GraphError: If the op is unknown.
    """
    if node.op not in OPS:
        raise GraphError(f"node {node.id}: {unknown_name('op', node.op, OPS)}")
    defaults = {name: value for name, value in OPS[node.op].attributes.items() if value is not REQUIRED}
    return node.replace(**(defaults | dict(node.attrs)))
