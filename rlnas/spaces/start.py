"""Start networks: small convolutional networks from which an episode grows or prunes."""

from __future__ import annotations

from rlnas.errors import SpaceError
from rlnas.graph import Graph, Node, Shape
from rlnas.graph.graph import complete


def conv_stages(input_shape: Shape, n_classes: int, *, stages: int = 3, width: int = 8) -> Graph:
    """Stages of one 3x3 convolution, BatchNorm and ReLU each, max-pooling between them, and a linear classifier.

    Args:
        input_shape: (channels, height, width) of one sample.
        n_classes: Outputs of the classifier.
        stages: Number of stages; the map is halved between two of them.
        width: Channels of every stage.

    Raises:
        SpaceError: If the input is no image or too small for that many stages.
    """
    if stages < 1 or width < 1:
        raise SpaceError(f"a start network needs at least 1 stage and 1 channel, got stages={stages}, width={width}")
    if len(input_shape) != 3 or min(input_shape[1:]) >> (stages - 1) < 1:
        raise SpaceError(
            f"an input of shape {input_shape} does not fit {stages} stages, each but the first of half the size: "
            "set space.stages lower"
        )
    nodes = [Node.make("image", "input", shape=input_shape, dtype="float32")]
    for stage in range(1, stages + 1):
        if stage > 1:
            nodes.append(Node.make(f"pool{stage - 1}", "max_pool2d", nodes[-1].id, kernel_size=(2, 2), stride=(2, 2)))
        conv = Node.make(
            f"conv{stage}",
            "conv2d",
            nodes[-1].id,
            out_channels=width,
            kernel_size=(3, 3),
            padding=(1, 1),
            bias=False,
        )
        nodes += [
            conv,
            Node.make(f"bn{stage}", "batch_norm2d", conv.id),
            Node.make(f"relu{stage}", "relu", f"bn{stage}"),
        ]
    nodes.append(Node.make(f"pool{stages}", "adaptive_avg_pool2d", nodes[-1].id))
    nodes.append(Node.make("flatten1", "flatten", nodes[-1].id))
    nodes.append(Node.make("linear1", "linear", nodes[-1].id, out_channels=n_classes))
    return Graph(tuple(complete(node) for node in nodes), nodes[-1].id)
