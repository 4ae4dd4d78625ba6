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
TRACK = 5.0
"""Between one line that runs across and the next."""
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
        self.widths = [width if box.kind == "box" else box_width(box) for box in self.boxes]
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
    paths = block.paths()
    lanes = _lanes(block, paths)
    lines = [line for path, x in zip(paths, lanes, strict=True) for line in _lines(block, path, x)]
    middles = {k: x for path, x in zip(paths, lanes, strict=True) for k in path.boxes} | {PORT: 0.0}
    routes = [_Route(block, line, middles) for line in lines]
    rows = _Rows(block, routes)
    shapes: dict[int, Shape] = {}
    for k, box in enumerate(block.boxes):
        top, height = rows.tops[block.rows[k]]
        shapes[k] = Shape(
            box.kind, box.family, box.label, box.note, middles[k], top + height / 2, block.widths[k], box_height(box)
        )
    edges = tuple(Edge(route.places(rows, shapes)) for route in routes)
    scene = Scene(height=rows.height, edges=edges, shapes=tuple(shapes[k] for k in sorted(shapes)))
    return replace(scene, left=-min(reach(scene, -1)), right=max(reach(scene, 1)))


def reach(scene: Scene, side: int) -> list[float]:
    """How far everything goes to the left (-1) or to the right (1)."""
    return [s.x + side * s.width / 2 for s in scene.shapes] + [x + side * 4 for e in scene.edges for x, _ in e.places]


def _lanes(block: _Block, paths: list[_Path]) -> list[float]:
    """Middle of each path's lane: the first in the middle, boxes left and right in turn, lines outside of them."""
    found = [0.0]
    taken: list[tuple[float, float, int, int]] = []  # left, right, first and last row

    def span(path: _Path) -> tuple[int, int]:
        """First and last row that a path runs through, with that of a target which it enters from the side."""
        rows = [block.rows[k] for k in path.boxes]
        first = block.rows[path.source] + 1 if path.source is not None else min(rows)
        beside = path.target is not None and block.boxes[path.target].kind != "box"
        last = block.rows[path.target] - 1 + beside if path.target is not None else max(rows)
        return min([first, *rows]), max([last, *rows])

    def take(x: float, size: float, path: _Path) -> None:
        taken.append((x - size / 2, x + size / 2, *span(path)))

    def wide(path: _Path) -> float:
        return max((block.widths[k] for k in path.boxes), default=0.0)

    take(0.0, wide(paths[0]), paths[0])
    side = 1.0
    for path in paths[1:]:
        size = wide(path) + BESIDE if path.boxes else LANE
        first, last = span(path)
        if not path.boxes and first > last - (path.target is not None and block.boxes[path.target].kind != "box"):
            found.append(found[0])
            continue
        over = [t for t in taken if t[2] <= last and t[3] >= first]
        right = max([t[1] for t in over], default=0.0) + size / 2
        left = min([t[0] for t in over], default=0.0) - size / 2
        x = right if (right < -left or (right == -left and side > 0)) else left
        if not path.boxes:
            x = right if right <= -left + LANE else left
        side = -side if path.boxes else side
        found.append(x)
        take(x, size, path)
    return found


# ------------------------------------------------------------------------------------------------------------- lines


@dataclass(frozen=True)
class _Line:
    """From a box, or from where the value comes in, down a lane to another box."""

    source: int
    target: int
    lane: float | None
    """None if it runs down from its source."""


def _lines(block: _Block, path: _Path, x: float) -> list[_Line]:
    found = []
    for a, b in itertools.pairwise([path.source, *path.boxes, path.target]):
        if a is not None and b is not None:
            direct = not path.boxes and block.rows[b] - block.rows[a] == 1
            found.append(_Line(a, b, None if direct else x))
    return found


class _Route:
    """The way of a line: across under its source if need be, down its lane, and into its target from above or beside.

    Attributes:
        source: Box that it comes from.
        target: Box that it leads to.
        across: True if it runs across in the gap under its source's row.
        above: True if it runs across in the gap above its target's row.
    """

    def __init__(self, block: _Block, line: _Line, middles: Mapping[int, float]) -> None:
        self.source, self.target = line.source, line.target
        self.start, self.end = middles[line.source], middles[line.target]
        self.lane = self.start if line.lane is None else line.lane
        self.across = abs(self.lane - self.start) > 1
        straight = abs(self.lane - self.end) < 1
        self.beside = not straight and self._free_beside(block, middles)
        self.above = not straight and not self.beside

    def _free_beside(self, block: _Block, middles: Mapping[int, float]) -> bool:
        """True if the target can be entered from the side: it is small, and nothing stands between."""
        box, row = block.boxes[self.target], block.rows[self.target]
        side = 1 if self.lane > self.end else -1
        edge = self.end + side * block.widths[self.target] / 2
        if box.kind == "box" or (self.lane - edge) * side <= 3:
            return False
        if block.rows[self.source] >= row:
            return False
        low, high = sorted((self.lane, edge))
        others = [k for k in middles if k not in (PORT, self.target) and block.rows[k] == row]
        return all(middles[k] + block.widths[k] / 2 <= low or middles[k] - block.widths[k] / 2 >= high for k in others)

    def places(self, rows: _Rows, shapes: Mapping[int, Shape]) -> tuple[Place, ...]:
        """Its corners."""
        target = shapes[self.target]
        places = [(self.start, 0.0 if self.source == PORT else shapes[self.source].bottom)]
        if self.across:
            y = rows.under(self.source)
            places += [(self.start, y), (self.lane, y)]
        if self.beside:
            edge = target.x + (target.width / 2 if self.lane > target.x else -target.width / 2)
            return (*places, (self.lane, target.y), (edge, target.y))
        if self.above:
            y = rows.over(self.target)
            places += [(self.lane, y), (target.x, y)]
        return (*places, (target.x, target.top))


class _Rows:
    """Heights of rows, and of the gaps between them, in which every line that runs across has a track.

    Attributes:
        tops: Upper edge and height of each row.
        height: All of it.
    """

    def __init__(self, block: _Block, routes: Sequence[_Route]) -> None:
        self._tracks: list[dict[tuple[str, int], int]] = [{} for _ in range(max(block.rows.values()) + 1)]
        self._rows = block.rows
        self._gaps: list[float] = []
        for route in routes:
            if route.across:
                self._track(block.rows[route.source] + 1, "under", route.source)
        for route in routes:
            if route.above:
                self._track(block.rows[route.target], "over", route.target)
        self.tops: list[tuple[float, float]] = []
        y = 0.0
        for row, tracks in enumerate(self._tracks):
            self._gaps.append(y)
            y += (GAP if row or block.ported else 0.0) + TRACK * max(0, len(tracks) - 1)
            height = max([box_height(b) for k, b in enumerate(block.boxes) if block.rows[k] == row], default=10.0)
            self.tops.append((y, height))
            y += height
        self.height = y

    def _track(self, gap: int, kind: str, box: int) -> None:
        tracks = self._tracks[gap]
        tracks.setdefault((kind, box), len(tracks))

    def under(self, box: int) -> float:
        """Height at which lines from a box run across."""
        gap = self._rows[box] + 1
        return self._gaps[gap] + GAP * 0.45 + TRACK * self._tracks[gap]["under", box]

    def over(self, box: int) -> float:
        """Height at which lines to a box run across."""
        gap = self._rows[box]
        return self._gaps[gap] + GAP * 0.45 + TRACK * self._tracks[gap]["over", box]
