"""The architecture as data: a frozen, hashable, validated directed acyclic graph of operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from rlnas.errors import GraphError, unknown_name
from rlnas.graph.canonical import canonical
from rlnas.graph.channels import Channels, find_channels
from rlnas.graph.node import Node, Shape
from rlnas.graph.op import REQUIRED, Params
from rlnas.graph.ops import OPS

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
        GraphError: If ids repeat, an op or attribute is unknown, an input is missing, there is a cycle, or shapes do
            not fit.
    """

    nodes: tuple[Node, ...]
    output: str

    def __post_init__(self) -> None:
        if len(self._by_id) != len(self.nodes):
            seen: set[str] = set()
            twice = next(n.id for n in self.nodes if n.id in seen or seen.add(n.id))  # type: ignore[func-returns-value]
            raise GraphError(f"node id {twice!r} is used twice")
        if self.output not in self._by_id:
            raise GraphError(f"the output {self.output!r} is not a node of the graph")
        for node in self.nodes:
            _check(node, self._by_id)
        if sum(node.op == "input" for node in self.nodes) != 1:
            raise GraphError("a graph needs exactly one input node")
        self.shapes  # noqa: B018  (validates)

    def __reduce__(self) -> tuple[Any, ...]:
        return Graph, (self.nodes, self.output)  # without what was computed: a hash is of one process only

    # ------------------------------------------------------------------------------------------------- structure

    @cached_property
    def _by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    def node(self, id: str) -> Node:
        """The node of that id.

        Raises:
            GraphError: If there is none.
        """
        try:
            return self._by_id[id]
        except KeyError:
            raise GraphError(unknown_name("node", id, self._by_id)) from None

    def __contains__(self, id: object) -> bool:
        return id in self._by_id

    def __len__(self) -> int:
        return len(self.nodes)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((frozenset(self.nodes), self.output))

    @cached_property
    def consumers(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of the nodes that read each node, once for each time they read it."""
        found: dict[str, list[str]] = {node.id: [] for node in self.nodes}
        for node in self.nodes:
            for id in node.inputs:
                found[id].append(node.id)
        return {id: tuple(ids) for id, ids in found.items()}

    @cached_property
    def _topological(self) -> tuple[str, ...]:
        waiting = {node.id: len(node.inputs) for node in self.nodes}
        ready = [id for id, count in waiting.items() if count == 0]
        order: list[str] = []
        while ready:
            id = ready.pop()
            order.append(id)
            for consumer in self.consumers[id]:
                waiting[consumer] -= 1
                if waiting[consumer] == 0:
                    ready.append(consumer)
        if len(order) < len(self.nodes):
            stuck = sorted(id for id, count in waiting.items() if count > 0)
            raise GraphError(f"the graph has a cycle through {', '.join(stuck)}")
        return tuple(order)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Longest distance of each node from the input, in edges."""
        depths: dict[str, int] = {}
        for id in self._topological:
            depths[id] = max((depths[i] + 1 for i in self.node(id).inputs), default=0)
        return depths

    @cached_property
    def _canonical(self) -> tuple[tuple[str, ...], str]:
        return canonical(self, self._topological, dict(self.depths))

    @property
    def order(self) -> tuple[str, ...]:
        """Node ids in canonical topological order: the same for isomorphic graphs."""
        return self._canonical[0]

    @property
    def key(self) -> str:
        """Canonical hash: equal for isomorphic graphs, stable across processes and versions of Python."""
        return self._canonical[1]

    @property
    def input(self) -> Node:
        """The input node."""
        return next(node for node in self.nodes if node.op == "input")

    # -------------------------------------------------------------------------------------------- shapes and cost

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of each node's output for one sample."""
        shapes: dict[str, Shape] = {}
        for id in self._topological:
            node = self.node(id)
            shapes[id] = _shape(node.op, node, tuple(shapes[i] for i in node.inputs))
        return shapes

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
        node = self.node(id)
        return OPS[node.op].params(node, self.input_shapes(id))

    @cached_property
    def node_costs(self) -> Mapping[str, tuple[int, int]]:
        """(parameters, multiply-accumulates for one sample) of each node."""
        return {node.id: _cost(node.op, node, self.input_shapes(node.id)) for node in self.nodes}

    @cached_property
    def n_params(self) -> int:
        """Trained values, buffers not counted."""
        return sum(params for params, _ in self.node_costs.values())

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and linear layers for one sample (FLOPs are twice that)."""
        return sum(macs for _, macs in self.node_costs.values())

    @cached_property
    def peak_memory_bytes(self) -> int:
        """Largest sum of activations alive at once for one sample in float32, run in canonical order."""
        owner: dict[str, str] = {}
        last: dict[str, int] = {}
        for step, id in enumerate(self.order):
            node = self.node(id)
            owner[id] = owner[node.inputs[0]] if OPS[node.op].view else id
            for i in (id, *node.inputs):
                last[owner[i]] = step
        last[owner[self.output]] = len(self.order)
        alive = peak = 0
        for step, id in enumerate(self.order):
            if owner[id] == id:
                alive += _size(self.shapes[id])
            peak = max(peak, alive)
            alive -= sum(_size(self.shapes[i]) for i, end in last.items() if end == step)
        return peak * BYTES_PER_VALUE

    @cached_property
    def channels(self) -> Channels:
        """How channels run through the graph, and which must change together."""
        return find_channels(self, self._topological)

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
            return cls(tuple(Node.from_json(node) for node in data["nodes"]), str(data["output"]))
        except (KeyError, TypeError) as error:
            raise GraphError(f"not a graph: {error}") from None


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


@lru_cache(maxsize=65536)
def _shape(op: str, node: Node, shapes: tuple[Shape, ...]) -> Shape:
    return OPS[op].shape(node, shapes)


@lru_cache(maxsize=65536)
def _cost(op: str, node: Node, shapes: tuple[Shape, ...]) -> tuple[int, int]:
    row = OPS[op]
    params = sum(_size(param.shape) for param in row.params(node, shapes).values() if param.trained)
    return params, row.macs(node, shapes, row.shape(node, shapes))


def _check(node: Node, nodes: Mapping[str, Node]) -> None:
    if node.op not in OPS:
        raise GraphError(f"node {node.id}: {unknown_name('op', node.op, OPS)}")
    row = OPS[node.op]
    if len(node.inputs) != row.arity and not (row.arity is None and len(node.inputs) >= 2):
        wanted = "2 or more" if row.arity is None else str(row.arity)
        raise GraphError(f"{node.op} {node.id} takes {wanted} inputs, got {len(node.inputs)}")
    for id in node.inputs:
        if id not in nodes:
            raise GraphError(f"{node.op} {node.id} reads {id!r}, which is not a node of the graph")
    given = dict(node.attrs)
    for name in given:
        if name not in row.attributes:
            raise GraphError(f"{node.op} {node.id}: {unknown_name('attribute', name, row.attributes)}")
    for name, default in row.attributes.items():
        if name not in given:
            raise GraphError(f"{node.op} {node.id} lacks the attribute {name!r}")
        if default is not REQUIRED and type(default) is not type(given[name]):
            raise GraphError(f"{node.op} {node.id}: {name}={given[name]!r} should be like {default!r}")


def complete(node: Node) -> Node:
    """Fill in the default attributes of a node.

    Raises:
        GraphError: If the op is unknown.
    """
    if node.op not in OPS:
        raise GraphError(f"node {node.id}: {unknown_name('op', node.op, OPS)}")
    defaults = {name: value for name, value in OPS[node.op].attributes.items() if value is not REQUIRED}
    return node.replace(**(defaults | dict(node.attrs)))
