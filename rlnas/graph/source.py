"""Python source of a graph: a module that imports only torch. What is printed is what `Network.module` runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rlnas.graph.facts import shared
from rlnas.graph.graph import Graph
from rlnas.graph.node import Node, Shape
from rlnas.graph.ops import OPS
from rlnas.graph.order import reading_order
from rlnas.graph.outline import WEIGHTY, Group, flattened_concats, outline
from rlnas.graph.table.attention import FULL_HELPER, HELPER
from rlnas.graph.wrap import WIDTH, statement

INDENT = 8
LONGEST_WITHOUT_COMMENTS = 12
"""Nodes of a network that is printed without headings."""


def to_source(graph: Graph, *, class_name: str = "Network", docstring: str | None = None) -> str:
    """Text of a PyTorch module whose ``state_dict`` has the names of the network's tensors.

    Args:
        class_name: Name of the class.
        docstring: Put under the class line, if given.
    """
    return with_imports(class_source(graph, class_name=class_name, docstring=docstring))


def with_imports(text: str) -> str:
    """Classes with what they need above them."""
    if re.search(r"[ (]attention\(", text):
        full = re.search(r"\b(kind|kv_heads)=", text)
        text = f"{FULL_HELPER if full else HELPER}\n\n{text}"
    functional = "import torch.nn.functional as F\n" if "F." in text else ""
    return f"import torch\n{functional}from torch import nn\n\n\n{text}"


def class_source(
    graph: Graph, *, class_name: str, docstring: str | None = None, modules: Mapping[str, str] | None = None
) -> str:
    """Text of the class alone.

    Args:
        modules: Text that makes the module of a node, for nodes whose op has none of its own.
    """
    groups = outline(graph)
    lines = [f"class {class_name}(nn.Module):"]
    if docstring:
        lines += [f'    """{docstring}"""', ""]
    lines += ["    def __init__(self) -> None:", "        super().__init__()"]
    made = [
        (group, [text for id in group.nodes for text in _constructor(graph, id, modules or {})]) for group in groups
    ]
    lines += _paragraphs(graph, made)
    lines += ["", "    def forward(self, x: torch.Tensor) -> torch.Tensor:"]
    lines += _paragraphs(graph, list(_Forward(graph, groups).paragraphs()))
    return "\n".join(lines) + "\n"


def constructors(graph: Graph) -> dict[str, str]:
    """Text that makes the module, or the parameter, of each node that has one, in the order of the class."""
    made = {id: _made_by(graph, id) for group in outline(graph) for id in group.nodes}
    return {id: text for id, text in made.items() if text is not None}


def _constructor(graph: Graph, id: str, modules: Mapping[str, str]) -> list[str]:
    """Lines that make the module of a node, if it has one."""
    text = modules.get(id) or _made_by(graph, id)
    return [] if text is None else statement(f"self.{id} = ", text, indent=INDENT)


def _made_by(graph: Graph, id: str) -> str | None:
    node = graph.node(id)
    source = OPS[node.op].source
    return None if source is None or shared(node) is not None else source(node, graph.input_shapes(id))


# -------------------------------------------------------------------------------------------------------- paragraphs


def _paragraphs(graph: Graph, parts: list[tuple[Group, list[str]]]) -> list[str]:
    """Lines of groups, an empty one between blocks and a heading where a stage begins."""
    filled = [(group, lines) for group, lines in parts if lines]
    plain = len(graph) <= LONGEST_WITHOUT_COMMENTS or len(filled) < 2
    found: list[str] = []
    before: Group | None = None
    for group, lines in filled:
        title = "" if plain else _title(group, before, filled)
        if found and not plain:
            found.append("")
        if title:
            found.append(f"{' ' * INDENT}# {title}")
        found += lines
        before = group
    return found


def _title(group: Group, before: Group | None, parts: list[tuple[Group, list[str]]]) -> str:
    if group.stage is None:
        return f"{group.kind} {group.name.removeprefix(group.kind)}".strip()
    if before is not None and before.stage == group.stage:
        return ""
    several = len({other.stage for other, _ in parts if other.stage is not None}) > 1
    return f"stage {group.stage}: {_size(group.shape)}" if several else f"blocks: {_size(group.shape)}"


def _size(shape: Shape) -> str:
    kind = {3: "channels x height x width", 2: "tokens x features", 1: "features"}.get(len(shape), "values")
    return f"{' x '.join(map(str, shape))} ({kind})"


# ------------------------------------------------------------------------------------------------------------ forward


class _Forward:
    """Statements of ``forward``: as few variables as it takes, and layers with their norms and activations in one."""

    def __init__(self, graph: Graph, groups: tuple[Group, ...]) -> None:
        self.graph, self.groups = graph, groups
        self.reads = flattened_concats(graph, reading_order(graph))
        self.consumers: dict[str, list[str]] = {node.id: [] for node in graph.nodes}
        for id, inputs in self.reads.items():
            for i in inputs:
                self.consumers[i].append(id)
        self.left = {id: len(consumers) + (id == graph.output) for id, consumers in self.consumers.items()}
        self.variables: dict[str, str] = {graph.input.id: "x"}
        self.alone: set[str] = set()
        self.texts: dict[str, str] = {}
        self.free: list[str] = []
        self.last: list[str] = []
        self.used = 1

    def paragraphs(self) -> Iterator[tuple[Group, list[str]]]:
        """Statements of each group."""
        for group in self.groups:
            ids = [id for id in group.nodes if self.graph.node(id).op != "parameter"]
            lines: list[str] = []
            for k, id in enumerate(ids):
                node = self.graph.node(id)
                if node.op == "input":
                    continue
                self.texts[id] = self._expression(node)
                following = ids[k + 1] if k + 1 < len(ids) else None
                if following is None or not self._goes_on(id, following):
                    lines += self._assign(id, returned=id == self.graph.output and following is None)
            yield group, lines
        if self.graph.output in self.variables:  # nothing is computed at the end, such as by an identity
            yield self.groups[-1], [f"{' ' * INDENT}return {self.variables[self.graph.output]}"]

    def _expression(self, node: Node) -> str:
        """The node's expression; values that are read for the last time free their variables after the statement."""
        inputs = self.reads[node.id]
        names = self._names(node, inputs)
        for i in inputs:
            self.left[i] -= 1
        self.last += [self.variables[i] for i in dict.fromkeys(inputs) if not self.left[i] and i in self.variables]
        owner, call = shared(node), OPS[node.op].call
        if call:
            return call(node, names)
        if owner is None or self.graph.node(owner).op == node.op:
            return f"self.{owner or node.id}({names[0]})"
        return f"F.linear({names[0]}, self.{owner}.weight)"

    def _names(self, node: Node, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """Text of what a node reads; a tensor without a batch axis is given one where the op needs it.

        What is made of such tensors alone is a batch of one, which is expanded where it meets others.
        """
        names = []
        values = [i for i in inputs if self.graph.node(i).op != "parameter"]
        batched = next((self.variables[i] for i in values if i in self.variables and i not in self.alone), None)
        whole = OPS[node.op].broadcasts
        if all(i in self.alone for i in values):
            self.alone.add(node.id)
        for i in inputs:
            expanded = f".expand({batched}.shape[0], {', '.join(['-1'] * len(self.graph.shapes[i]))})"
            if i in self.texts and i not in self.variables:
                names.append(_bracketed(self.texts[i], node))
            elif i in self.variables:
                names.append(self.variables[i] + (expanded if batched and not whole and i in self.alone else ""))
            elif batched and not whole:
                names.append(f"self.{i}{expanded}")
            else:
                names.append(
                    f"self.{i}" if len(values) and not all(v in self.alone for v in values) else f"self.{i}[None]"
                )
        return tuple(names)

    def _goes_on(self, id: str, following: str) -> bool:
        """True if the next node is written around this one, in the same statement."""
        node, after, graph = self.graph.node(id), self.graph.node(following), self.graph
        values = [i for i in self.reads[following] if graph.node(i).op != "parameter"]
        if self.consumers[id] != [following] or values != [id] or id == graph.output:
            return False
        if after.op in ("opaque", "identity") or node.op in ("opaque", "identity", "attention"):
            return False
        if len(values) < len(self.reads[following]) and not OPS[after.op].broadcasts:
            return False
        inside = self._inside(id)
        weighty = [i for i in inside if OPS[graph.node(i).op].family in WEIGHTY]
        family = OPS[after.op].family
        if weighty and (family in WEIGHTY or (family == "norm" and OPS[graph.node(inside[0]).op].family == "norm")):
            return False
        if OPS[graph.node(inside[0]).op].family == "merge" and family not in ("norm", "activation"):
            return False
        return len(self.texts[id]) + len(following) + 30 <= WIDTH - INDENT

    def _inside(self, id: str) -> list[str]:
        """The nodes of the statement that ends with a node so far, first to last."""
        found = [id]
        while (reads := [i for i in self.reads[found[0]] if i in self.texts and i not in self.variables]) != []:
            found.insert(0, reads[0])
        return found

    def _assign(self, id: str, *, returned: bool) -> list[str]:
        text = self.texts[id]
        if returned:
            return statement("return ", text, indent=INDENT)
        self.free = sorted({*self.free, *self.last}, key=_rank)
        reused = sorted((name for name in self.last if len(name) == 1 and name in "xyz"), key=_rank) or self.free
        wished = self._wish(id)
        name = wished or (reused[0] if reused else self._fresh())
        if name in self.free:
            self.free.remove(name)
        self.last = []
        self.variables[id] = name
        return [] if text == name else statement(f"{name} = ", text, indent=INDENT)

    def _wish(self, id: str) -> str | None:
        """``q``, ``k`` and ``v`` for what attention reads."""
        consumers = self.consumers[id]
        if len(consumers) != 1 or self.graph.node(consumers[0]).op != "attention":
            return None
        name = "qkv"[self.reads[consumers[0]].index(id)]
        taken = {self.variables[i] for i, n in self.left.items() if n and i in self.variables}
        return None if name in taken else name

    def _fresh(self) -> str:
        self.used += 1
        return "xyz"[self.used - 1] if self.used <= 3 else f"v{self.used - 1}"


def _rank(name: str) -> tuple[int, str]:
    return ("xyz".index(name) if name in "xyz" else 3 if name in "qkv" else int(name[1:]), name)


def _bracketed(text: str, node: Node) -> str:
    """An expression as it must stand inside that of another node."""
    if not _joined(text):
        return text
    call = OPS[node.op].call
    if call is None:
        return text
    before, _, after = call(node, ("\0",) * len(node.inputs)).partition("\0")
    alone = (before.endswith("(") or before.endswith("[")) and after[:1] in (")", ",")
    return text if alone else f"({text})"


def _joined(text: str) -> bool:
    """True if operators stand outside of any brackets."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and (letter == " " or text.startswith("**", i)):
            return True
    return False


__all__ = ["class_source", "reading_order", "to_source", "with_imports"]
