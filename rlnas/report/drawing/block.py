"""The layout of one group of layers: its longest path straight down, everything else in lanes beside it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlnas.graph import Graph
from rlnas.report.drawing.labels import Box, boxes
from rlnas.report.drawing.scene import SMALL, TEXT, Edge, Place, Scene, Shape, text_width

GAP = 12.0
"""Between one layer and the next."""
LANE = 14.0
"""Width of a lane in which nothing but a line runs."""
BESIDE = 10.0
"""Between two boxes side by side."""
PORT = -1
"""Number of the place where the value from before comes in."""


def box_width(box: Box) -> float:
    """Width that a box needs for its words."""
    if box.kind == "circle":
        return 17.0
    room = 22 if box.kind == "pill" else 18
    return max(
        text_width(box.label, TEXT if box.kind == "box" else SMALL + 1) + room, text_width(box.note, SMALL) + room
    )


def box_height(box: Box) -> float:
    """Height that goes with it."""
    if box.kind == "circle":
        return 17.0
    if box.kind == "pill":
        return 18.0
    return 33.0 if box.note else 24.0


@dataclass
class _Path:
    """Boxes one after the other in a lane, with the line that leads to the first and the one from the last."""

    boxes: list[int]
    source: int | None
    target: int | None


class _Block:
    def __init__(self, graph: Graph, ids: Sequence[str], reads: Mapping[str, tuple[str, ...]], width: float) -> None:
        self.boxes = boxes(graph, ids, {id: reads[id] for id in ids})
        self.width = width
        self.joined = {box.nodes[0] for box in self.boxes if box.kind == "circle"}
        owner = {id: k for k, box in enumerate(self.boxes) for id in box.nodes}
        self.before: list[list[int]] = []
        for box in self.boxes:
            first = graph.node(box.nodes[0])
            sources = [owner.get(i, PORT) for i in reads[first.id]]
            self.before.append(list(dict.fromkeys(sources)))
        self.ported = any(PORT in sources for sources in self.before)
        self.after: dict[int, list[int]] = {k: [] for k in range(PORT, len(self.boxes))}
        for k, sources in enumerate(self.before):
            for source in sources:
                self.after[source].append(k)
        self.rows = self._rows()

    def _rows(self) -> dict[int, int]:
        rows = {PORT: -1}
        for k, sources in enumerate(self.before):
            rows[k] = max([rows[s] + 1 for s in sources], default=0)
        for k in range(len(self.boxes) - 1, -1, -1):  # what reads nothing stands just above its reader
            if not self.before[k] and self.after[k]:
                rows[k] = max(0, min(rows[a] for a in self.after[k]) - 1)
        if any(rows[k] >= rows[a] for k in range(len(self.boxes)) for a in self.after[k]):
            for k in range(len(self.boxes)):
                rows[k] += 1
            for k in range(len(self.boxes)):
                if not self.before[k]:
                    rows[k] -= 1
        return rows

    def paths(self) -> list[_Path]:
        """The longest path first, then the longest in what is left, and so on; last the lines that skip boxes."""
        left = set(range(len(self.boxes)))
        used: set[tuple[int, int]] = set()
        found: list[_Path] = []
        while left:
            length: dict[int, int] = {}
            follows: dict[int, int | None] = {}
            for k in sorted(left, reverse=True):
                options = [a for a in self.after[k] if a in left]
                best = max(options, key=lambda a: (length[a], -a), default=None)
                follows[k] = best
                length[k] = 1 + (length[best] if best is not None else 0)
            start = max(left, key=lambda k: (length[k], -k))
            chain = [start]
            while (following := follows[chain[-1]]) is not None:
                chain.append(following)
            sources = [s for s in self.before[start] if s not in left]
            targets = [a for a in self.after[chain[-1]] if a not in left]
            source = max(sources, key=lambda s: self.rows[s], default=None)
            target = min(targets, key=lambda a: self.rows[a], default=None)
            used |= {*itertools.pairwise(chain)}
            if source is not None:
                used.add((source, start))
            if target is not None:
                used.add((chain[-1], target))
            found.append(_Path(chain, source, target))
            left -= set(chain)
        edges = [(s, k) for k, sources in enumerate(self.before) for s in sources if (s, k) not in used]
        edges.sort(key=lambda e: (self.rows[e[1]] - self.rows[e[0]], e))
        return found + [_Path([], s, k) for s, k in edges]


def lay_out(graph: Graph, ids: Sequence[str], reads: Mapping[str, tuple[str, ...]], *, width: float) -> Scene:
    """The scene of a group; x = 0 is where values come in and go out, y = 0 its upper edge.

    Args:
        reads: Inputs of every node, as `flattened_concats` gives them.
        width: Width of all boxes that hold layers.
    """
    block = _Block(graph, ids, reads, width)
    rows, paths = block.rows, block.paths()
    lanes = _lanes(block, paths)
    tops, y = [], GAP if block.ported else 0.0
    for row in range(max(rows.values()) + 1):
        height = max([box_height(b) for k, b in enumerate(block.boxes) if rows[k] == row], default=10.0)
        tops.append((y, height))
        y += height + GAP
    shapes: dict[int, Shape] = {}
    for path, x in zip(paths, lanes, strict=True):
        for k in path.boxes:
            box, (top, height) = block.boxes[k], tops[rows[k]]
            size = width if box.kind == "box" else box_width(box)
            shapes[k] = Shape(box.kind, box.family, box.label, box.note, x, top + height / 2, size, box_height(box))
    edges = [edge for path, x in zip(paths, lanes, strict=True) for edge in _edges(path, x, shapes, tops, rows)]
    scene = Scene(height=y - GAP, edges=tuple(edges), shapes=tuple(shapes[k] for k in sorted(shapes)))
    return replace(scene, left=-min(reach(scene, -1)), right=max(reach(scene, 1)))


def reach(scene: Scene, side: int) -> list[float]:
    """How far everything goes to the left (-1) or to the right (1)."""
    return [s.x + side * s.width / 2 for s in scene.shapes] + [x + side * 4 for e in scene.edges for x, _ in e.places]


def _lanes(block: _Block, paths: list[_Path]) -> list[float]:
    """Middle of each path's lane: the first in the middle, boxes left and right in turn, lines outside of them."""
    found = [0.0]
    taken: list[tuple[float, float, int, int]] = []  # left, right, first and last row

    def take(x: float, size: float, path: _Path) -> None:
        rows = [block.rows[k] for k in path.boxes]
        first = block.rows[path.source] + 1 if path.source is not None else min(rows)
        last = block.rows[path.target] - 1 if path.target is not None else max(rows)
        taken.append((x - size / 2, x + size / 2, min([first, *rows]), max([last, *rows])))

    def wide(path: _Path) -> float:
        sizes = [block.width if block.boxes[k].kind == "box" else box_width(block.boxes[k]) for k in path.boxes]
        return max(sizes, default=0.0)

    take(0.0, wide(paths[0]), paths[0])
    side = 1.0
    for path in paths[1:]:
        size = wide(path) + BESIDE if path.boxes else LANE
        rows = [block.rows[k] for k in path.boxes]
        first = block.rows[path.source] + 1 if path.source is not None else min(rows)
        last = block.rows[path.target] - 1 if path.target is not None else max(rows)
        over = [t for t in taken if t[2] <= max([last, *rows]) and t[3] >= min([first, *rows])]
        if not path.boxes and last < first:
            found.append(found[0])
            continue
        right = max([t[1] for t in over], default=0.0) + size / 2
        left = min([t[0] for t in over], default=0.0) - size / 2
        x = right if (right < -left or (right == -left and side > 0)) else left
        if not path.boxes:
            x = right if right <= -left + LANE else left
        side = -side if path.boxes else side
        found.append(x)
        take(x, size, path)
    return found


def _edges(
    path: _Path, x: float, shapes: Mapping[int, Shape], tops: Sequence[tuple[float, float]], rows: Mapping[int, int]
) -> list[Edge]:
    """Lines along a path: from its source down its lane to its target."""
    stops = [path.source, *path.boxes, path.target]
    found = []
    for k, (a, b) in enumerate(itertools.pairwise(stops)):
        if a is None or b is None:
            continue
        start: Place = (0.0, 0.0) if a == PORT else (shapes[a].x, shapes[a].bottom)
        target = shapes[b]
        lane = x if path.boxes or rows[b] - rows[a] > 1 else start[0]
        leaving, entering = k == 0, k == len(stops) - 2
        found.append(Edge(_route(start, target, lane, leaving=leaving, entering=entering, first=a == PORT)))
    return found


def _route(
    start: Place, target: Shape, lane: float, *, leaving: bool, entering: bool, first: bool
) -> tuple[Place, ...]:
    """Corners of a line from a place to a box: across right under the place, down the lane, and in."""
    places = [start]
    across = start[1] + (GAP * 0.45 if not first else GAP * 0.4)
    if abs(lane - start[0]) > 1:
        places += [(start[0], across), (lane, across)]
    if abs(lane - target.x) < 1:
        return (*places, (target.x, target.top))
    if target.kind in ("circle", "pill"):
        edge = target.x + (target.width / 2 if lane > target.x else -target.width / 2)
        if abs(lane - edge) > 3 and (lane - edge) * (lane - target.x) > 0:
            return (*places, (lane, target.y), (edge, target.y))
    above = target.top - GAP * 0.55
    return (*places, (lane, above), (target.x, above), (target.x, target.top))
