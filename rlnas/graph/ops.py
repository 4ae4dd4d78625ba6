"""The op table: everything the library knows of each kind of operation. A new op is one row in `rlnas.graph.table`."""

from __future__ import annotations

from rlnas.graph.attributes import ATTRIBUTES
from rlnas.graph.op import Op
from rlnas.graph.table import attention, elementwise, layers, moves, norms, patches, pools
from rlnas.graph.table.layers import is_depthwise, n_blocks

OPS: dict[str, Op] = {
    op.name: op for family in (layers, norms, elementwise, pools, attention, moves, patches) for op in family.ROWS
}
"""All ops by name."""

for _op in OPS.values():
    assert (_op.source is None) != (_op.call is None) and set(_op.attributes) <= set(ATTRIBUTES), _op.name

__all__ = ["OPS", "is_depthwise", "n_blocks"]
