"""What a simplification is: what it finds in a network, what that saves, and how it is taken out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import OperatorError
from rlnas.graph import Graph, Node, Site
from rlnas.network import Applied, Network, tensor_name

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Finding:
    """Something that a network can do without.

    Attributes:
        simplification: Name of the pass that found it.
        nodes: Where; the node that names the place first.
        n_params: Trained values saved if this finding alone is applied; negative where more biases come than go.
        macs: Multiply-accumulates saved.
        text: The same in words.
        amount: Channels or nodes that go.
        plan: What the pass needs to know besides to take it out.
    """

    simplification: str
    nodes: tuple[str, ...]
    n_params: int
    macs: int
    text: str
    amount: int = 1
    plan: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.simplification}: {self.text} (saves {self.n_params} parameters, {self.macs} MACs)"

    @property
    def site(self) -> Site:
        """The entry in a network's history."""
        return Site(self.simplification, self.nodes[0], self.nodes[1] if len(self.nodes) > 1 else None, self.amount)


class Simplification(ABC):
    """A search for one kind of superfluous part.

    What is found depends on the weights, so these are no operators. All keep the function in eval mode.

    Attributes:
        name: Key in `rlnas.operators.simplify.PASSES`.
        training: True to find only what keeps the function in training mode too.
    """

    name: str

    def __init__(self, *, training: bool = False) -> None:
        self.training = training

    @abstractmethod
    def find(self, network: Network) -> tuple[Finding, ...]:
        """All findings, in canonical order; one after the other they can all be taken out."""

    @abstractmethod
    def rewrite(self, graph: Graph, tensors: Tensors, findings: Sequence[Finding]) -> tuple[Graph, Tensors]:
        """Take out findings of one search, in its order, from the graph and the tensors in which they were found."""

    def apply(self, network: Network, finding: Finding) -> Network:
        """The network without one finding; the given one stays as it is.

        Raises:
            OperatorError: If the finding is not one of this network.
        """
        if finding not in self.find(network):
            raise OperatorError(f"{finding.text}: not found in this network by {self.name}; ask find(network) again")
        return self.take_out(network, (finding,))

    def take_out(self, network: Network, findings: Sequence[Finding]) -> Network:
        """The network without findings that `find` gave for it."""
        with torch.no_grad():
            graph, tensors = self.rewrite(network.graph, network.tensors, findings)
        history = (*network.history, *[Applied(finding.site, True) for finding in findings])
        return Network(graph, tensors, history)


def saved(before: Graph, after: Graph) -> tuple[int, int]:
    """Parameters and multiply-accumulates that one graph has more than another."""
    return before.n_params - after.n_params, before.macs - after.macs


def reread(graph: Graph, old: str, new: str, *nodes: Node) -> Graph | None:
    """Let everything that reads ``old`` read ``new``, and put other nodes in the places of those with their ids.

    What nothing reads any more goes; None if the input or a tensor that others share would go.
    """
    by_id, output = {node.id: node for node in nodes}, new if graph.output == old else graph.output
    read, kept = {output}, []
    for node in reversed(list(graph.sorted_nodes)):
        if node.id in read:
            node = by_id.get(node.id, node)
            if old in node.inputs:
                node = node.replace(inputs=tuple([new if i == old else i for i in node.inputs]))
            read.update(node.inputs)
            kept.append(node)
        elif node.op == "input" or node.id in graph.shared:
            return None
    return Graph(tuple(reversed(kept)), output)


def replaced(graph: Graph, *nodes: Node) -> Graph | None:
    """A graph with other nodes in the places of those with their ids; what nothing reads any more goes."""
    return reread(graph, "", "", *nodes)


def kept(graph: Graph, tensors: Tensors) -> dict[str, Tensor]:
    """The tensors of a graph's nodes."""
    return {name: tensors[name] for id in graph.shapes for key in graph.params(id) if (name := tensor_name(id, key))}


def alone(graph: Graph, id: str) -> str | None:
    """The only reader of a node that is not the output and shares no tensors."""
    consumers = graph.consumers[id]
    if len(consumers) != 1 or id == graph.output or id in graph.shared or consumers[0] in graph.shared:
        return None
    return consumers[0]
