"""Parameters of which a network reads parts, or reads more than once, are kept whole."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.graph import OPS, Node
from rlnas.graph.facts import complete, facts_of
from rlnas.interchange.spelling import identifier
from rlnas.interchange.trace import Tracer
from rlnas.interchange.values import Tied
from rlnas.interchange.views import Step, steps_to

Use = tuple[str, Tensor]
"""A `parameter` node, and the places that it shows of what it was taken from."""


@dataclass
class Whole:
    """A graph's nodes with whole parameters.

    Attributes:
        nodes: All nodes.
        tensors: Tensors of new nodes.
        new: Ids of nodes that took the place of others.
    """

    nodes: list[Node]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)


def whole_parameters(tracer: Tracer, nodes: Sequence[Node]) -> Whole:
    """Nodes that read whole parameters, where `parameter` nodes hold parts or copies of them.

    Raises:
        Tied: If a layer's own tensors are read by other things as well.
    """
    found = Whole(list(nodes))
    constants = tracer.constants
    roots: dict[int, Tensor] = {}
    layers: dict[int, list[Tensor | None]] = {}
    uses: dict[int, list[Use]] = {}
    for node in nodes:
        for tensor in tracer.layers.get(node.id, ()):
            if tracer.is_trained(tensor):
                root, places = constants.root(tensor)
                roots[id(root)] = root
                layers.setdefault(id(root), []).append(places)
        if node.id in tracer.uses:
            tensor, sample = tracer.uses[node.id]
            root, places = constants.root(tensor)
            roots[id(root)] = root
            with suppress(GraphError):  # of something computed for a batch there is no sample
                use = node.id, sample(_all(root) if places is None else places)
                uses.setdefault(id(root), []).append(use)
    tied = []
    for i, read in layers.items():
        if len(read) + len(uses.get(i, ())) > 1 and constants.is_parameter(roots[i]):
            places_read = [_all(roots[i]) if p is None else p for p in read]
            if _overlap(places_read + [p for _, p in uses.get(i, ())]):
                tied.append(roots[i])
    if tied and not tracer.plain:
        raise Tied(tied)
    formulas = _formulas(tracer, roots, uses, layers)
    for parameter, computed in formulas:
        _Keeper(tracer, found, parameter).compute([(root, text, uses.pop(id(root))) for root, text in computed])
    for i, held in uses.items():
        shown = [p for _, p in held]
        if i not in layers and (sum(p.numel() for p in shown) < roots[i].numel() or _overlap(shown)):
            _Keeper(tracer, found, roots[i]).keep(held)
    return found


def n_lost(tracer: Tracer, nodes: Sequence[Node]) -> int:
    """How many parameters went into constants, so that they are no parameters any more."""
    constants, lost = tracer.constants, set[int]()
    for node in nodes:
        for tensor in tracer.layers.get(node.id, ()):
            sources = constants.sources(tensor)
            lost |= sources if len(sources) > 1 else set()
        if node.id in tracer.uses:
            root, _ = constants.root(tracer.uses[node.id][0])
            if not constants.is_parameter(root) and constants.formula(root) is None:
                lost |= constants.sources(root)
    return len(lost)


def _formulas(
    tracer: Tracer, roots: Mapping[int, Tensor], uses: Mapping[int, list[Use]], layers: Collection[int]
) -> list[tuple[Tensor, list[tuple[Tensor, str]]]]:
    """Parameters that are read in several forms, each with the forms and the texts of how they are computed."""
    forms: dict[int, list[Tensor]] = {}
    for i in uses:
        sources = tracer.constants.sources(roots[i])
        if len(sources) == 1:
            forms.setdefault(sources.pop(), []).append(roots[i])
    found = []
    for read in forms.values():
        texts = [(root, tracer.constants.formula(root)) for root in read]
        parameter = next((root for root in read if tracer.constants.is_parameter(root)), None)
        known = [(root, text) for root, text in texts if text is not None]
        if len(read) > 1 and parameter is not None and id(parameter) not in layers and len(known) == len(read):
            found.append((parameter, known))
    return found


def _all(root: Tensor) -> Tensor:
    return torch.arange(root.numel()).view(root.shape)


def _overlap(places: Sequence[Tensor]) -> bool:
    if sum(p.numel() for p in places) < 2:
        return False
    flat = torch.cat([p.flatten() for p in places])
    return len(set(flat.tolist())) < len(flat)


class _Keeper:
    """Puts one parameter into a graph as a whole."""

    def __init__(self, tracer: Tracer, graph: Whole, root: Tensor) -> None:
        self.tracer, self.graph, self.root = tracer, graph, root

    def keep(self, uses: Sequence[Use]) -> None:
        """Let nodes read the whole parameter instead of what they hold."""
        if any(self._readers(id, "opaque") for id, _ in uses):
            return  # black boxes read it as the module does
        rows = [_rows(places, self.root) for _, places in uses]
        shape = self.root.shape[next((i for i, n in enumerate(self.root.shape) if n > 1), 0) :]
        steps = [steps_to(places, tuple(shape)) for _, places in uses]
        short = all(s is not None and all(op != "index_select" for op, _ in s) for s in steps)
        looked_up = all(row is not None for row in rows) and len({row[0] for row in rows if row}) == 1
        if short and not (looked_up and len(self.root.shape) == 2 and self._is_table(uses)):
            self._by_steps(uses, tuple(shape), [s for s in steps if s is not None])
        elif looked_up:
            self._by_rows(uses, [row for row in rows if row is not None])

    def compute(self, forms: Sequence[tuple[Tensor, str, list[Use]]]) -> None:
        """Let nodes read what is computed from the parameter instead of what they hold."""
        held = [use for _, _, uses in forms for use in uses]
        ways = [[steps_to(places, tuple(root.shape) or (1,)) for _, places in uses] for root, _, uses in forms]
        if any(self._readers(id, "opaque") for id, _ in held) or any(way is None for found in ways for way in found):
            return
        name, shape = self._name(), tuple(self.root.shape) or (1,)
        nodes = [self._node(name, "parameter", (), shape=shape, trained=True)]
        self.graph.tensors[name] = self.root.reshape(shape)
        starts = []
        for _, text, _ in forms:
            starts.append(name if text == "{0}" else self.tracer.unused("opaque"))
            if text != "{0}":
                nodes.append(self._node(starts[-1], "opaque", (name,), text=text, shape=shape))
        self._insert(min((id for id, _ in held), key=self._place), nodes)
        for start, (_, _, uses), found in zip(starts, forms, ways, strict=True):
            for (id, _), way in zip(uses, found, strict=True):
                self._lead(id, start, way or [])

    def _place(self, id: str) -> int:
        return next(i for i, node in enumerate(self.graph.nodes) if node.id == id)

    def _is_table(self, uses: Sequence[Use]) -> bool:
        held = [self.tracer.uses[name][0] for name, _ in uses]
        recipes = [self.tracer.constants.recipes.get(id(tensor)) for tensor in held]
        return all(r is not None and getattr(r.func, "__name__", "") == "embedding" for r in recipes)

    def _by_steps(self, uses: Sequence[Use], shape: tuple[int, ...], steps: Sequence[list[Step]]) -> None:
        name = self._name()
        trained = self._node(name, "parameter", (), shape=shape, trained=True)
        self.graph.tensors[name] = self.root.reshape(shape)
        self._insert(uses[0][0], [trained])
        for (id, _), way in zip(uses, steps, strict=True):
            self._lead(id, name, way)

    def _by_rows(self, uses: Sequence[Use], rows: Sequence[tuple[int, Tensor, list[Step]]]) -> None:
        axis = rows[0][0]
        weight = self.root.movedim(axis, 0).reshape(self.root.shape[axis], -1)
        name, owner = self._name(), ""
        for (id, _), (_, indices, way) in zip(uses, rows, strict=True):
            places = self.tracer.unused(f"{name}_places")
            constant = self._node(places, "parameter", (), shape=tuple(indices.shape), trained=False, dtype="int64")
            self.graph.tensors[places] = indices
            sizes = {"num_embeddings": weight.shape[0], "out_channels": weight.shape[1]}
            made = name if not owner else self.tracer.unused("embedding")
            table = self._node(made, "embedding", (places,), **sizes, **({"shares": owner} if owner else {}))
            if not owner:
                self.graph.tensors[f"{name}.weight"] = weight
            owner = owner or name
            self._insert(id, [constant, table])
            self._lead(id, made, way)

    def _name(self) -> str:
        path = self.tracer.constants.names.get(id(self.root), "parameter")
        return self.tracer.unused(identifier(path.removesuffix(".weight")), own=True)

    def _node(self, id: str, op: str, inputs: tuple[str, ...], **attrs: object) -> Node:
        node = complete(Node.make(id, op, inputs, **attrs))
        shapes = self.tracer.shapes
        shapes[id] = facts_of(node, tuple([shapes[i] for i in inputs])).shape
        return node

    def _insert(self, before: str, nodes: list[Node]) -> None:
        at = self._place(before)
        self.graph.nodes[at:at] = nodes

    def _lead(self, id: str, start: str, way: list[Step]) -> None:
        """Nodes that lead from the whole to what a node held, which gives way to them."""
        current, made = start, []
        for op, attrs in way:
            made.append(self._node(self.tracer.unused(op), op, (current,), **attrs))
            current = made[-1].id
        ends = {len(self.tracer.shapes[id]): current}
        for rank in {self._rank(node) for node in self._readers(id)} - {0}:
            if rank > len(self.tracer.shapes[id]):
                shape = (*[1] * (rank - len(self.tracer.shapes[id])), *self.tracer.shapes[id])
                made.append(self._node(self.tracer.unused("reshape"), "reshape", (current,), shape=shape))
                ends[rank] = made[-1].id
        self._insert(id, made)
        nodes = []
        for node in self.graph.nodes:
            if id in node.inputs:
                end = ends.get(self._rank(node), current)
                node = Node(node.id, node.op, tuple([end if i == id else i for i in node.inputs]), node.attrs)
            if node.id != id:
                nodes.append(node)
        self.graph.nodes = nodes
        self.graph.new[id] = current

    def _readers(self, id: str, op: str = "") -> list[Node]:
        return [node for node in self.graph.nodes if id in node.inputs and op in ("", node.op)]

    def _rank(self, node: Node) -> int:
        """Axes that an operand without a batch must have to meet others that have one; 0 if that is no matter."""
        return len(self.tracer.shapes[node.id]) if OPS[node.op].broadcasts and node.op != "opaque" else 0


def _rows(places: Tensor, root: Tensor) -> tuple[int, Tensor, list[Step]] | None:
    """An axis of a tensor, entries of it that are looked up one after another, and the steps from there to a view."""
    for axis, size in enumerate(root.shape):
        rest = root.numel() // size
        if size < 2 or rest == root.numel():
            continue
        order = torch.arange(root.numel()).view(root.shape).movedim(axis, 0).reshape(-1)
        where = torch.empty_like(order)
        where[order] = torch.arange(len(order))  # places if that axis were in front
        flat = where[places.flatten()]
        row, column = flat // rest, flat % rest
        indices = row[column == 0]
        if len(indices) * rest != len(flat):
            continue
        met = torch.empty_like(flat)
        for c in range(rest):
            met[column == c] = torch.arange(len(indices)) if int((column == c).sum()) == len(indices) else -1
        if bool((met < 0).any()) or not torch.equal(indices[met], row):
            continue
        way = steps_to((met * rest + column).view(places.shape), (len(indices), rest))
        if way is not None and all(op != "index_select" for op, _ in way):
            return axis, indices, way
    return None
