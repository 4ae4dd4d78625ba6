"""Makes graphs node by node, with the shapes at hand: what the makers of networks share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from rlnas.errors import SpaceError
from rlnas.graph import Graph, Node, Shape, complete
from rlnas.graph.facts import facts_of


@lru_cache(maxsize=50_000)
def _node(id: str, op: str, inputs: tuple[str, ...], attributes: tuple[tuple[str, Any, type], ...]) -> Node:
    """A node, which the networks of a space share: it remembers what was worked out for it.

    Args:
        attributes: Names, values and types, for 1 and 1.0 are equal.
    """
    return complete(Node.make(id, op, inputs, **{name: value for name, value, _ in attributes}))


class Builder:
    """Nodes of one network, in the order in which they are added.

    Args:
        input_shape: (channels, height, width) of one sample.

    Attributes:
        image: Id of the input.

    Raises:
        SpaceError: If the input is no image.
    """

    def __init__(self, input_shape: Shape) -> None:
        if len(input_shape) != 3:
            raise SpaceError(f"these networks read images of shape (channels, height, width), not {tuple(input_shape)}")
        self._nodes: dict[str, Node] = {}
        self._shapes: dict[str, Shape] = {}
        self.image = self.add("image", "input", shape=tuple(input_shape), dtype="float32")

    def add(self, id: str, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; gives its id."""
        node = _node(id, op, inputs, tuple([(name, value, type(value)) for name, value in attributes.items()]))
        self._nodes[id] = node
        self._shapes[id] = facts_of(node, tuple(self._shapes[i] for i in inputs)).shape
        return id

    def shape(self, id: str) -> Shape:
        """Shape of a value for one sample."""
        return self._shapes[id]

    def channels(self, id: str) -> int:
        """Channels of a value."""
        return self._shapes[id][0]

    # -------------------------------------------------------------------------------------------------------- layers

    def conv(
        self,
        id: str,
        x: str,
        channels: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> str:
        """A convolution without bias that keeps the size of the map, up to its stride; kernels are odd."""
        sizes = (kernel, kernel) if isinstance(kernel, int) else kernel
        return self.add(
            id,
            "conv2d",
            x,
            out_channels=channels,
            kernel_size=sizes,
            padding=tuple([dilation * (k // 2) for k in sizes]),
            stride=(stride, stride),
            dilation=(dilation, dilation),
            groups=groups,
            bias=False,
        )

    def norm(self, id: str, x: str) -> str:
        """BatchNorm."""
        return self.add(id, "batch_norm2d", x)

    def conv_norm(self, name: str, x: str, channels: int, kernel: int | tuple[int, int], **options: Any) -> str:
        """Convolution and BatchNorm."""
        return self.norm(f"{name}_bn", self.conv(f"{name}_conv", x, channels, kernel, **options))

    def conv_norm_relu(self, name: str, x: str, channels: int, kernel: int | tuple[int, int], **options: Any) -> str:
        """Convolution, BatchNorm, ReLU."""
        return self.add(f"{name}_relu", "relu", self.conv_norm(name, x, channels, kernel, **options))

    def pool(self, id: str, kind: str, x: str, kernel: int, *, stride: int = 1) -> str:
        """Pooling, ``"avg"`` or ``"max"``, that keeps the size of the map, up to its stride."""
        counted = {"count_include_pad": False} if kind == "avg" else {}
        sizes = {"kernel_size": (kernel, kernel), "stride": (stride, stride), "padding": (kernel // 2, kernel // 2)}
        return self.add(id, f"{kind}_pool2d", x, **sizes, **counted)

    def join(self, id: str, values: Sequence[str], *, op: str = "concat") -> str:
        """Several values side by side, or their sum; a single one as it is."""
        return values[0] if len(values) == 1 else self.add(id, op, *values)

    def classifier(self, x: str, n_classes: int) -> Graph:
        """Average over the map, then a linear classifier: the whole graph, without what nothing reads."""
        x = self.add("pool", "adaptive_avg_pool2d", x)
        x = self.add("flatten", "flatten", x)
        return self.graph(self.add("classifier", "linear", x, out_channels=n_classes))

    def graph(self, output: str) -> Graph:
        """The graph that ends with a value, without what nothing reads."""
        needed, waiting = {output, self.image}, [output]
        while waiting:
            for id in self._nodes[waiting.pop()].inputs:
                if id not in needed:
                    needed.add(id)
                    waiting.append(id)
        return Graph(tuple(node for id, node in self._nodes.items() if id in needed), output)
