"""What is around a node: as much of a graph as decides what some operators can do there, and what that costs.

Around a *value* are the node that makes it with the shapes of its inputs, the axis of its channels, the nearest node
behind it that is neither a norm nor an activation, and the style of the graph: its activations and norms by frequency.

Values that are tied to each other by nodes that pass channels on (norms, activations, pools, adds, grouped layers) form
a *component*; its border are the layers that make new channels of all old ones, with the shapes of what they read.
Around a *layer* are the component of what it makes, and those of what it reads by their ops alone, without sizes.

What an operator of that reach can do at one node, it can do at every other, in whatever graph, that has the same around
it, at the same cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any, Final, NamedTuple

from rlnas.graph import OPS, Graph
from rlnas.graph.facts import Facts

MEMO: Final = 20_000
"""Components, and kinds of nodes, that are told apart at a time."""
OUTSIDE, FROM_INPUT = -1, -2
"""Where a border layer's input is: in another component; or it is the network's input."""

Key = tuple[Hashable, ...]


class Around(NamedTuple):
    """Keys of what is around a node; they are equal only where that is the same."""

    value: Key
    component: Key
    layer: Key


class _Kind(NamedTuple):
    """What is known of all nodes of one op with the same attributes and shapes of inputs.

    Attributes:
        facts: Theirs; nodes of one kind share them, so that which facts they are tells the kind.
        number: It has no other kind.
        passes: True if they pass channels on.
        plain: Number of their op with its attributes.
        style: What they add to the style.
    """

    facts: Facts
    number: int
    passes: bool
    plain: int
    style: Hashable


class Surroundings:
    """Knows what is around nodes."""

    def __init__(self) -> None:
        self._kinds: dict[int, _Kind] = {}
        self._numbered: dict[Hashable, int] = {}
        self._numbers = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return Surroundings, ()  # keys are of one process only

    def of(self, graph: Graph) -> dict[str, Around]:
        """What is around each node, in canonical order."""
        order, facts, axes = graph.order, graph.facts, graph.channel_axes
        nodes = [graph.node(name) for name in order]
        place = {name: i for i, name in enumerate(order)}
        reads = [[place[i] for i in node.inputs] for node in nodes]
        kinds = [
            self._kinds.get(id(facts[node.id])) or self._kind(facts[node.id], node.op, node.attrs) for node in nodes
        ]
        root = list(range(len(nodes)))
        behind, states, used = list[int](), list[int](), Counter[Any]()
        for i, kind in enumerate(kinds):
            read = reads[i]
            here = nodes[i].op == "input" or any([states[j] & 2 for j in read])  # reached by a sample
            states.append(4 * kind.number + 2 * here + (order[i] == graph.output))
            if kind.style is not None:
                used[kind.style] += 1
            behind.append(behind[read[0]] if kind.style is not None and read else kind.plain)
            if kind.passes:
                for j in read:
                    a, b = _top(root, i), _top(root, j)
                    if a != b:
                        root[max(a, b)] = min(a, b)
        tops = [_top(root, i) for i in range(len(nodes))]
        members: dict[int, dict[int, int]] = {}
        for i, read in enumerate(reads):
            top = tops[i]
            inside = members.setdefault(top, {})
            inside[i] = len(inside)
            for j in read:
                if tops[j] != top:
                    members[tops[j]].setdefault(i, len(members[tops[j]]))
        numbers, begin = dict[int, int](), place[graph.input.id]
        outlines: dict[int, int] = {}
        for top, inside in members.items():
            where = [
                [inside[j] if tops[j] == top else FROM_INPUT if j == begin else OUTSIDE for j in reads[i]]
                for i in inside
            ]
            numbers[top] = self._number(tuple([(states[i], *at) for i, at in zip(inside, where, strict=True)]))
            outlines[top] = self._number(tuple([(nodes[i].op, *at) for i, at in zip(inside, where, strict=True)]))
        style, found = self._style(used), dict[str, Around]()
        for i, name in enumerate(order):
            top = tops[i]
            component = (numbers[top], members[top][i])
            others = [(outlines[tops[j]], members[tops[j]][j]) for j in reads[i] if tops[j] != top]
            found[name] = Around((style, states[i], axes[name], behind[i]), component, (component, *others))
        return found

    def _kind(self, facts: Facts, op: str, attrs: tuple[tuple[str, Any], ...]) -> _Kind:
        if len(self._kinds) >= MEMO:
            self._kinds.clear()
        row, flow = OPS[op], facts.flow
        passes = op != "parameter" and not (flow.kind == "layer" and flow.blocks == 1)
        plain = (op, tuple([a for a in attrs if a[0] != "shares"]))
        self._numbers += 1
        style = plain if row.family in ("activation", "norm") else None
        made = self._kinds[id(facts)] = _Kind(facts, self._numbers, passes, self._number(plain), style)
        return made

    def _number(self, key: Hashable) -> int:
        """A number that no other key has."""
        number = self._numbered.get(key)
        if number is None:
            if len(self._numbered) >= MEMO:
                self._numbered.clear()
            self._numbers += 1
            number = self._numbered[key] = self._numbers
        return number

    def _style(self, used: Counter[Any]) -> int:
        """Number of a style: which activations and norms there are, and in which order of frequency."""
        counts: Counter[Any] = Counter()
        for entry, n in used.items():
            counts[entry[0]] += n
        ranked = [entry for _, entry in sorted([(-n, repr(entry)) for entry, n in used.items()])]
        levels = sorted(set(counts.values()), reverse=True)
        return self._number(("style", *ranked, *[(op, levels.index(counts[op])) for op in sorted(counts)]))


def _top(root: list[int], i: int) -> int:
    while root[i] != i:
        root[i] = root[root[i]]
        i = root[i]
    return i
