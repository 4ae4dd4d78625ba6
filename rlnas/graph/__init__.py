"""The architecture as data: op table, graph, shapes, channel groups, cost, canonical hash, JSON. No torch here."""

from rlnas.graph.channels import ChannelGroup, Channels
from rlnas.graph.facts import Facts, complete
from rlnas.graph.graph import Graph
from rlnas.graph.node import Node, Shape, Value
from rlnas.graph.op import Op, Param
from rlnas.graph.ops import OPS
from rlnas.graph.site import Site
from rlnas.graph.source import constructors, to_source

__all__ = [
    "OPS",
    "ChannelGroup",
    "Channels",
    "Facts",
    "Graph",
    "Node",
    "Op",
    "Param",
    "Shape",
    "Site",
    "Value",
    "complete",
    "constructors",
    "to_source",
]
