"""Weights of convolutions, transposed convolutions and linear layers in one form."""

from __future__ import annotations

import torch
from torch import Tensor

from rlnas.graph import Graph, Node
from rlnas.operators.simplify.base import Tensors

CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
ROUNDING = 8
"""Values that differ by so many units in the last place of the largest one beside them count as equal."""
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, "linear")


def is_layer(graph: Graph, id: str) -> bool:
    """True for a convolution or linear layer with tensors of its own."""
    return graph.node(id).op in LAYERS and id not in graph.shared


def read_axis(graph: Graph, id: str) -> int:
    """The axis of its input that a layer reads."""
    return len(graph.input_shapes(id)[0]) - 1 if graph.node(id).op == "linear" else 0


def pads_zeros(node: Node) -> bool:
    """True for a layer whose window may reach over the border of a map, where it reads zeros."""
    if node.op in TRANSPOSED:
        return True
    return node.op in CONVOLUTIONS and any(node["padding"]) and node["padding_mode"] == "zeros"


def by_blocks(node: Node, tensors: Tensors) -> Tensor:
    """A layer's weight in float64, shape (groups, outputs of a group, inputs of a group, taps)."""
    weight = tensors[f"{node.id}.weight"].double()
    blocks = weight.reshape(groups_of(node), -1, weight.shape[1], weight[0, 0].numel())
    return blocks.transpose(1, 2) if node.op in TRANSPOSED else blocks


def from_blocks(node: Node, blocks: Tensor, like: Tensor) -> Tensor:
    """Inverse of `by_blocks`, with the shape and the dtype of another weight."""
    made = blocks.transpose(1, 2) if node.op in TRANSPOSED else blocks
    return made.reshape(like.shape).to(like.dtype)


def bias_of(node: Node, tensors: Tensors) -> Tensor:
    """A layer's bias in float64, zeros where it has none."""
    if node["bias"]:
        return tensors[f"{node.id}.bias"].double()
    return torch.zeros(node["out_channels"], dtype=torch.float64)


def groups_of(node: Node) -> int:
    """Blocks of a layer that read nothing of each other's."""
    return 1 if node.op == "linear" else int(node["groups"])


def idle_inputs(node: Node, tensors: Tensors) -> Tensor:
    """Which places of its input a layer reads with weights of zero."""
    return (by_blocks(node, tensors) == 0).all(3).all(1).flatten()


def slack_of(dtype: torch.dtype) -> float:
    """Largest difference that counts as none, relative to the largest value beside it."""
    return ROUNDING * torch.finfo(dtype).eps
