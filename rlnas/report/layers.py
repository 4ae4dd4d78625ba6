"""The layers of a network as a table, and its totals."""

from __future__ import annotations

from collections.abc import Sequence

from rlnas.graph import Graph, Shape
from rlnas.graph.order import reading_order
from rlnas.graph.outline import flattened_concats, outline
from rlnas.report.words import in_words

WIDEST = 40
"""Characters in which inputs of a layer are named."""
HEAD = ("layer", "what", "reads", "output", "parameters", "", "MACs", "")


def layer_table(graph: Graph) -> list[str]:
    """Lines of a table: a row for each node in reading order, those that belong together under one heading.

    "reads" names the inputs of a layer, unless it is the row above alone (a concat of what an earlier one joins reads
    that one); both shares are of the whole network.
    """
    rows: list[tuple[str, ...]] = [HEAD]
    before: str | None = None
    found = flattened_concats(graph, reading_order(graph))
    for group in outline(graph):
        if group.name:
            n_params, macs = (sum(graph.node_costs[id][k] for id in group.nodes) for k in (0, 1))
            rows.append((group.name, "", "", "", *_cost(graph, n_params, macs)))
        for id in group.nodes:
            n_params, macs = graph.node_costs[id]
            inputs = found[id]
            reads = "" if inputs == (before,) else _listed(inputs)
            name = f"  {id}" if group.name else id
            size = "x".join(map(str, graph.shapes[id]))
            rows.append((name, in_words(graph, id), reads, size, *_cost(graph, n_params, macs)))
            before = id
    return columns(rows, left=(0, 1, 2))


def _listed(ids: Sequence[str]) -> str:
    """The ids, or the last of many."""
    n = next((n for n in range(len(ids), 1, -1) if len(", ".join(ids[-n:])) <= WIDEST), 1)
    return (f"{len(ids) - n} more, " if len(ids) > n else "") + ", ".join(ids[-n:])


def _cost(graph: Graph, n_params: int, macs: int) -> tuple[str, ...]:
    return (*_share(n_params, graph.n_params), *_share(macs, graph.macs))


def _share(value: int, whole: int) -> tuple[str, str]:
    return (f"{value:,}", f"{100 * value / whole:.1f} %") if value else ("", "")


def total_lines(graph: Graph) -> list[str]:
    """The network's totals."""
    return [
        f"{len(graph)} nodes, {_size(graph.input_shape)} -> {_size(graph.output_shape)}",
        f"{graph.n_params:,} parameters ({_bytes(graph.n_params * 4)} in float32)",
        f"{graph.macs:,} MACs ({2 * graph.macs:,} FLOPs) for one sample",
        f"{_bytes(graph.peak_memory_bytes)} of activations at once for one sample in float32",
    ]


def _bytes(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape))


def columns(rows: Sequence[tuple[str, ...]], *, left: Sequence[int], ruled: bool = True) -> list[str]:
    """Rows of text as aligned lines.

    Args:
        rows: The cells of each row.
        left: Columns aligned to the left.
        ruled: The first row is a head, with a rule under it.
    """
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        words = [
            cell.ljust(w) if k in left else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(word for word, w in zip(words, widths, strict=True) if w).rstrip())
    if ruled:
        lines.insert(1, "-" * max(map(len, lines)))
    return lines
