"""A space of decisions of one's own: a perceptron with one or two hidden layers.

``own_space:Perceptrons`` names it, wherever this folder can be imported from: see own_code.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlnas import Graph
from rlnas.graph import Node, complete
from rlnas.spaces import Choice, Decision


class Perceptrons:
    """Decides the width of each hidden layer, where 0 leaves the second one out, and their activation."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int, widths: tuple[int, ...] = (8, 16, 32)) -> None:
        self.input_shape, self.n_classes = input_shape, n_classes
        self.reference: Mapping[str, Choice] = {"first": widths[0], "second": 0, "activation": "relu"}
        self.decisions = (
            Decision("first", tuple(widths)),
            Decision("second", (0, *widths)),
            Decision("activation", ("relu", "tanh", "gelu")),
        )

    def graph(self, choices: Mapping[str, Choice]) -> Graph:
        nodes = [Node.make("image", "input", shape=self.input_shape), Node.make("flat", "flatten", "image")]
        for layer in ("first", "second"):
            if choices[layer]:
                nodes.append(Node.make(layer, "linear", nodes[-1].id, out_channels=choices[layer]))
                nodes.append(Node.make(f"{layer}_act", str(choices["activation"]), layer))
        nodes.append(Node.make("classes", "linear", nodes[-1].id, out_channels=self.n_classes))
        return Graph(tuple(map(complete, nodes)), "classes")
