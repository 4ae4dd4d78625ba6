"""The fixed network that meters time beside every other one."""

from __future__ import annotations

from functools import cache
from typing import Final

import torch

from rlnas.graph import Graph, Node, complete
from rlnas.network import Network

NAME: Final = "resnet8"
"""Changes whenever the network does: it is part of what a meter says of itself."""


@cache
def reference_network() -> Network:
    """A residual network of 8 layers for images of 32 x 32: part dispatch, part arithmetic, part memory.

    References:
        He et al., Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385, section 4.2.
    """
    nodes = [Node.make("image", "input", shape=(3, 32, 32), dtype="float32")]

    def add(id: str, op: str, *inputs: str, **attrs: object) -> str:
        nodes.append(complete(Node.make(id, op, inputs or (nodes[-1].id,), **attrs)))
        return id

    def conv(id: str, before: str, channels: int, size: int, stride: int) -> str:
        window = {"kernel_size": (size, size), "stride": (stride, stride), "padding": (size // 2, size // 2)}
        add(f"conv{id}", "conv2d", before, out_channels=channels, bias=False, **window)
        return add(f"norm{id}", "batch_norm2d")

    conv("0", "image", 16, 3, 1)
    last = add("relu0", "relu")
    for stage, channels in enumerate((16, 32, 64), start=1):
        stride = 1 if stage == 1 else 2
        conv(f"{stage}a", last, channels, 3, stride)
        inside = conv(f"{stage}b", add(f"relu{stage}a", "relu"), channels, 3, 1)
        around = last if stage == 1 else conv(f"{stage}c", last, channels, 1, stride)
        add(f"add{stage}", "add", inside, around)
        last = add(f"relu{stage}b", "relu")
    add("pool", "adaptive_avg_pool2d")
    add("flat", "flatten")
    output = add("head", "linear", out_channels=10)
    return Network.initialize(Graph(tuple(nodes), output), generator=torch.Generator().manual_seed(0))
