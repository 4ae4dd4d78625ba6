"""The architecture as data: a frozen, hashable, validated directed acyclic graph of operations."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rlnas.errors import GraphError, unknown_name
from rlnas.graph.canonical import canonical
from rlnas.graph.channels import Channels, find_channels
from rlnas.graph.facts import Facts, complete, facts_of, shared
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import Params
from rlnas.graph.ops import OPS
from rlnas.graph.order import reading_order
from rlnas.graph.places import find_channel_axes

__all__ = ["FORMAT", "Graph", "complete"]

FORMAT = "rlnas.graph/1"
BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Graph:
    """A network's architecture without its weights.

    Shapes are those of one sample: (channels, height, width) or (features,).

    Attributes:
        nodes: The operations, in any order; exactly one is an ``input``.
        output: Id of the node whose value is the network's output.

    Raises:
        GraphError: If ids repeat, an op or attribute is unknown, an input is missing, there is a cycle, shapes do not
            fit, or a node's value is not used.
    """

    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        if self.output not in self._walked.nodes:
            raise GraphError(f"the output {self.output!r} is not a node of the graph")
        if sum(node.op == "input" for node in self.nodes) != 1:
            raise GraphError("a graph needs exactly one input node")
        self._check_shares()
        read = {id for node in self.nodes for id in node.inputs}
        if len(read) + (self.output not in read) < len(self.nodes):
            idle = next(node for node in self.nodes if node.id not in read and node.id != self.output)
            raise GraphError(f"nothing reads {idle.op} {idle.id}, and it is not the output; leave it out")

    def _check_shares(self) -> None:
        for node in self.nodes:
            target = node.shares
            if target is None:
                continue
            owner = self.node(target)
            if shared(owner) is not None:
                raise GraphError(f"{node.op} {node.id} shares the tensors of {target}, which has none of its own")
            wanted = {n: p.shape for n, p in OPS[node.op].params(node, self.input_shapes(node.id)).items()}
            given = {n: p.shape for n, p in self.params(target).items()}
            if wanted != given:
                raise GraphError(
                    f"{node.op} {node.id} cannot share the tensors of {owner.op} {target}: they do not fit"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.nodes, self.output)  # without what was computed: a hash is of one process only

    # ------------------------------------------------------------------------------------------------- structure

    def node(self, id: str) -> Node:
        """The node of that id.

        Raises:
            GraphError: If there is none.
        """
        try:
            return self._walked.nodes[id]
        except KeyError:
            raise GraphError(unknown_name("node", id, self._walked.nodes)) from None

    def __contains__(self, id: object) -> bool:
        return id in self._walked.nodes

    def __len__(self) -> int:
        return len(self.nodes)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.nodes, self.output))

    @cached_property
    def _walked(self) -> _Walk:
        walk = _walk(self.nodes) or _walk(_sorted(self.nodes))
        assert walk is not None
        return walk

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of the nodes that read each node, once for each time they read it."""
        found: dict[str, list[str]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            for id in node.inputs:
                found[id].append(node.id)
        return {id: tuple(ids) for id, ids in found.items()}

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Longest distance of each node from the input, in edges."""
        depths: dict[str, int] = {}
        for id, node in self._walked.nodes.items():
            depths[id] = max([depths[i] + 1 for i in _before(node)], default=0)
        return depths

    @cached_property
    def _canonical(self) -> tuple[tuple[str, ...], str]:
        return canonical(self)

    @property
    def order(self) -> tuple[str, ...]:
        """Node ids in canonical topological order: the same for isomorphic graphs."""
        return self._canonical[0]

    @property
    def key(self) -> str:
        """Canonical hash: equal for isomorphic graphs, stable across processes and versions of Python."""
        return self._canonical[1]

    @property
    def sorted_nodes(self) -> Collection[Node]:
        """The nodes in a topological order: that in which they were given, if it is one."""
        return self._walked.nodes.values()

    @cached_property
    def shared(self) -> frozenset[str]:
        """Ids of the nodes that share tensors, those that own them included."""
        pairs = [(node.id, target) for node in self.nodes if (target := shared(node)) is not None]
        return frozenset([id for pair in pairs for id in pair])

    @property
    def input(self) -> Node:
        """The input node."""
        return next(node for node in self.nodes if node.op == "input")

    # -------------------------------------------------------------------------------------------- shapes and cost

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of each node's output for one sample."""
        return self._walked.shapes

    @property
    def facts(self) -> Mapping[str, Facts]:
        """What the op table says of each node."""
        return self._walked.facts

    def input_shapes(self, id: str) -> tuple[Shape, ...]:
        """Shapes of a node's inputs."""
        return tuple(self.shapes[i] for i in self.node(id).inputs)

    @property
    def input_shape(self) -> Shape:
        """Shape of one input sample."""
        return self.shapes[self.input.id]

    @property
    def output_shape(self) -> Shape:
        """Shape of one output."""
        return self.shapes[self.output]

    def params(self, id: str) -> Params:
        """The tensors of a node by their names within it."""
        return self.facts[id].params

    @property
    def node_costs(self) -> Mapping[str, tuple[int, int]]:
        """(parameters, multiply-accumulates for one sample) of each node."""
        return {id: (facts.n_params, facts.macs) for id, facts in self.facts.items()}

    @cached_property
    def n_params(self) -> int:
        """Trained values, buffers not counted."""
        return sum([facts.n_params for facts in self.facts.values()])

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one sample (FLOPs are twice that)."""
        return sum([facts.macs for facts in self.facts.values()])

    @cached_property
    def peak_memory_bytes(self) -> int:
        """Largest sum of activations alive at once for one sample in float32.

        Nodes are computed in the order in which `to_source` writes them, and each value is freed after its last use.
        """
        order, nodes = reading_order(self), self._walked.nodes
        sizes = {id: math.prod(shape) for id, shape in self._walked.shapes.items()}
        owner: dict[str, str] = {}
        last: dict[str, int] = {}
        for step, id in enumerate(order):
            node = nodes[id]
            mine = owner[id] = owner[node.inputs[0]] if OPS[node.op].view else id
            last[mine] = step
            for i in node.inputs:
                last[owner[i]] = step
        last[owner[self.output]] = len(order)
        freed = [0] * (len(order) + 1)
        for id, step in last.items():
            freed[step] += sizes[id]
        alive = peak = 0
        for step, id in enumerate(order):
            if owner[id] == id:
                alive += sizes[id]
                peak = max(peak, alive)
            alive -= freed[step]
        return peak * BYTES_PER_VALUE

    @cached_property
    def channels(self) -> Channels:
        """How channels run through the graph, and which must change together."""
        return find_channels(self)

    @cached_property
    def channel_axes(self) -> Mapping[str, int | None]:
        """Axis of the channels of each node's value: 0 in maps, the last one in tokens; None where nothing tells."""
        return find_channel_axes(self)

    def channel_groups(self) -> Channels:
        """Sets of channel dimensions that must change together; growing and pruning use the same ones."""
        return self.channels

    # ------------------------------------------------------------------------------------------------------- JSON

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; nodes in canonical order."""
        return {"format": FORMAT, "nodes": [self.node(id).to_json() for id in self.order], "output": self.output}

    @classmethod
    def from_json(cls, data: Any) -> Graph:
        """Inverse of `to_json`.

        Raises:
            GraphError: If the data are not of this format or describe no valid graph.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise GraphError(f"not a graph in the format {FORMAT}")
        try:
            return cls(tuple(complete(Node.from_json(node)) for node in data["nodes"]), str(data["output"]))
        except (KeyError, TypeError) as error:
            raise GraphError(f"not a graph: {error}") from None


class _Walk(NamedTuple):
    """What one pass along the nodes gives, each mapping in topological order."""

    nodes: Mapping[str, Node]
    shapes: Mapping[str, Shape]
    facts: Mapping[str, Facts]


def _walk(nodes: Iterable[Node]) -> _Walk | None:
    """Walk along nodes that each come after what they read; None if one of them does not."""
    by_id: dict[str, Node] = {}
    shapes: dict[str, Shape] = {}
    found: dict[str, Facts] = {}
    for node in nodes:
        id = node.id
        if id in by_id:
            raise GraphError(f"node id {id!r} is used twice")
        try:
            inputs = tuple([shapes[i] for i in node.inputs])
            if node.shares is not None and node.op != "input" and node.shares not in shapes:
                return None
        except KeyError:
            return None
        found[id] = facts = node.facts.get(inputs) or facts_of(node, inputs)
        shapes[id] = facts.shape
        by_id[id] = node
    return _Walk(by_id, shapes, found)


def _before(node: Node) -> tuple[str, ...]:
    """Ids of the nodes that must come before a node."""
    owner = shared(node)
    return node.inputs if owner is None else (*node.inputs, owner)


def _sorted(nodes: tuple[Node, ...]) -> list[Node]:
    """The nodes in a topological order."""
    known = {node.id for node in nodes}
    for node in nodes:
        for id in _before(node):
            if id not in known:
                raise GraphError(f"{node.op} {node.id} reads {id!r}, which is not a node of the graph")
    order: list[Node] = []
    done: set[str] = set()
    waiting = list(nodes)
    while waiting:
        ready = [node for node in waiting if done.issuperset(_before(node))]
        if not ready:
            raise GraphError(f"the graph has a cycle through {', '.join(sorted({node.id for node in waiting}))}")
        order += ready
        done |= {node.id for node in ready}
        waiting = [node for node in waiting if node.id not in done]
    return order
