"""One small network around each op of the table."""

from __future__ import annotations

from typing import Any

import torch

from rlnas.graph import OPS, Graph, Node, complete
from rlnas.network import Network

MAP, LINE, VOLUME, TOKENS = (4, 6, 6), (4, 9), (4, 5, 5, 5), (5, 8)
WINDOW = {"kernel_size": (2, 2), "stride": (2, 2)}

EXAMPLES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    **{name: (MAP, {}) for name, op in OPS.items() if op.family in ("activation", "merge")},
    **{name: (MAP, {"value": 3.0}) for name in OPS if name.endswith("_scalar")},
    "conv1d": (LINE, {"out_channels": 6, "kernel_size": (3,), "groups": 2}),
    "conv2d": (MAP, {"out_channels": 6, "kernel_size": (3, 1), "padding": (1, 2), "padding_mode": "reflect"}),
    "conv3d": (VOLUME, {"out_channels": 6, "kernel_size": (3, 3, 3), "stride": (2, 2, 2)}),
    "conv_transpose2d": (MAP, {"out_channels": 6, "kernel_size": (3, 3), "stride": (2, 2), "output_padding": (1, 1)}),
    "linear": (TOKENS, {"out_channels": 3}),
    "embedding": ((7,), {"num_embeddings": 11, "out_channels": 6}),
    "parameter": (MAP, {"shape": (4, 1, 1), "axis": -3}),
    "batch_norm1d": (LINE, {}),
    "batch_norm2d": (MAP, {"affine": False}),
    "batch_norm3d": (VOLUME, {}),
    "layer_norm": (TOKENS, {"bias": False}),
    "rms_norm": (TOKENS, {}),
    "group_norm": (MAP, {"groups": 2}),
    "instance_norm1d": (LINE, {}),
    "instance_norm2d": (MAP, {"affine": True}),
    "local_response_norm": (MAP, {"size": 3, "k": 2.0}),
    "normalize": (MAP, {"axis": 0, "order": 1.0}),
    "clamp": (MAP, {"min_val": 0.0, "max_val": 6.0}),
    "max_pool1d": (LINE, {"kernel_size": (2,), "stride": (2,)}),
    "avg_pool1d": (LINE, {"kernel_size": (2,), "stride": (2,)}),
    "max_pool2d": (MAP, WINDOW | {"dilation": (2, 2)}),
    "avg_pool2d": (MAP, WINDOW | {"padding": (1, 1), "count_include_pad": False}),
    "max_pool3d": (VOLUME, {"kernel_size": (2, 2, 2), "stride": (2, 2, 2)}),
    "avg_pool3d": (VOLUME, {"kernel_size": (2, 2, 2), "stride": (1, 1, 1)}),
    "adaptive_avg_pool1d": (LINE, {"output_size": (2,)}),
    "adaptive_max_pool1d": (LINE, {}),
    "adaptive_avg_pool2d": (MAP, {"output_size": (2, 1)}),
    "adaptive_max_pool2d": (MAP, {}),
    "adaptive_avg_pool3d": (VOLUME, {}),
    "adaptive_max_pool3d": (VOLUME, {}),
    "reduce": (MAP, {"kind": "mean", "axes": (1, 2), "keepdim": True}),
    "softmax": (MAP, {"axis": 0}),
    "log_softmax": (MAP, {"axis": 2}),
    "matmul": (MAP, {}),
    "interpolate": (MAP, {"size": (12, 12), "mode": "bilinear"}),
    "pixel_shuffle": (MAP, {"factor": 2}),
    "pixel_unshuffle": (MAP, {"factor": 2}),
    "attention": (TOKENS, {"heads": 4, "kv_heads": 4, "scale": 0.5, "causal": True, "kind": "scores"}),
    "concat": (MAP, {"axis": 1}),
    "slice": (MAP, {"axis": 0, "start": 1, "stop": 3}),
    "reshape": (MAP, {"shape": (2, 2, 36)}),
    "permute": (MAP, {"dims": (1, 2, 0)}),
    "layout": (MAP, {"dims": (0, 2, 3, 1)}),
    "flatten": (MAP, {"start": 1}),
    "opaque": (MAP, {"text": "torch.fft.fft2({0}).real", "shape": MAP}),
    "dropout": (MAP, {"p": 0.1}),
    "dropout1d": (LINE, {"p": 0.1}),
    "dropout2d": (MAP, {"p": 0.1}),
    "dropout3d": (VOLUME, {"p": 0.1}),
    "alpha_dropout": (MAP, {"p": 0.1}),
    "index_select": (MAP, {"axis": 1, "indices": (0, 0, 3)}),
    "roll": (MAP, {"axis": 2, "shift": 2}),
    "each": (MAP, {"shape": MAP}),
    "expand": ((4, 1, 6), {"shape": MAP}),
    "sdpa": ((2, 5, 4), {"scale": 0.5, "causal": True}),
    "unfold": (MAP, {"kernel_size": (3, 2), "padding": (1, 0), "stride": (2, 2)}),
    "fold": ((8, 9), {"output_size": (6, 6), "kernel_size": (2, 2), "stride": (2, 2)}),
    "glu": (MAP, {"axis": 0}),
    "one_hot": ((7,), {"num_embeddings": 11}),
    "grid_sample": ((4, 6, 2), {"margins": "border"}),
    "affine_grid": ((2, 3), {"size": (4, 5)}),
    "write": (MAP, {"axis": 0, "start": 0, "stop": 4}),
    "cumsum": (MAP, {"axis": 1}),
    "instance_norm3d": (VOLUME, {"tracked": True}),
    "conv_transpose1d": (LINE, {"out_channels": 6, "kernel_size": (3,), "stride": (2,), "groups": 2}),
    "conv_transpose3d": (VOLUME, {"out_channels": 6, "kernel_size": (2, 2, 2), "bias": False}),
    "pad": (MAP, {"amounts": (1, 0, 2, 1), "padding_mode": "reflect"}),
    "masked_fill": (MAP, {}),
    "where": (MAP, {}),
    "einsum": (MAP, {"text": "bchw,bcvw->bchv"}),
    **{
        name: (MAP, {})
        for name in ("cast", *[n for n, op in OPS.items() if op.family == "other" and not op.attributes])
    },
    "input": (MAP, {}),
}


def example(name: str) -> Graph:
    """The input, and one node of that op that reads it as often as it must."""
    shape, attrs = EXAMPLES[name]
    image = Node.make("image", "input", shape=shape, dtype="int64" if name in ("embedding", "one_hot") else "float32")
    if name == "input":
        return Graph((image,), "image")
    arity = max(2, OPS[name].at_least) if OPS[name].arity is None else OPS[name].arity or 0
    if name in ("masked_fill", "where"):
        return _chosen(image, name)
    if name == "each":
        constant = complete(Node.make("constant", "parameter", shape=MAP, axis=-3))
        return Graph((image, constant, Node.make("a", name, ("constant", "image"), **attrs)), "a")
    if name.startswith("logical_"):
        positive = complete(Node.make("positive", "gt_scalar", ("image",), value=0.0))
        return Graph((image, positive, Node.make("a", name, ("positive",) * (OPS[name].arity or 0))), "a")
    node = complete(Node.make("a", name, ("image",) * (1 if name == "opaque" else arity), **attrs))
    if name == "parameter":
        return Graph((image, node, Node.make("sum", "add", ("image", "a"))), "sum")
    return Graph((image, node), "a")


def _chosen(image: Node, name: str) -> Graph:
    mask = complete(Node.make("mask", "parameter", shape=MAP, trained=False, dtype="bool"))
    read = ("image", "mask") if name == "masked_fill" else ("mask", "image", "image")
    attrs = {"text": "0.0"} if name == "masked_fill" else {}
    return Graph((image, mask, Node.make("a", name, read, **attrs)), "a")


def inputs(graph: Graph, n: int, seed: int = 0) -> torch.Tensor:
    """Random inputs that suit a graph."""
    generator = torch.Generator().manual_seed(seed)
    if graph.input["dtype"] == "int64":
        return torch.randint(0, 7, (n, *graph.input_shape), generator=generator)
    return torch.randn(n, *graph.input_shape, generator=generator)


def network(name: str) -> Network:
    """The example with random weights."""
    return Network.initialize(example(name), generator=torch.Generator().manual_seed(0))
