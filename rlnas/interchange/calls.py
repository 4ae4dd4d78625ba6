"""How calls of PyTorch functions are written down as nodes: layers, norms, pooling, moves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.boxes import Text
from rlnas.interchange.trace import Handler, Tracer
from rlnas.interchange.values import ALONG, Value

HANDLERS: dict[str, Handler] = {}
"""What writes down each function, by its plain name."""

Writer = Callable[..., Any]


def handles(*names: str) -> Callable[[Writer], Writer]:
    """Register what writes down some functions; it takes (tracer, result, **arguments by their names)."""

    def register(writer: Writer) -> Writer:
        parameters = list(inspect.signature(writer).parameters.values())[2:]
        order = [p.name for p in parameters]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

        def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
            if len(args) > len(order):
                raise GraphError(f"takes more arguments than expected ({len(args)})")
            given = defaults | dict(zip(order, args, strict=False)) | {k: v for k, v in kwargs.items() if k in order}
            unknown = [k for k, v in kwargs.items() if k not in order and k not in HARMLESS and v not in (None, False)]
            if unknown or len(given) < len(order):
                raise GraphError(f"its argument {', '.join(unknown) or 'list'} is not understood")
            writer(tracer, out, *[given[k] for k in order])

        for name in names:
            HANDLERS[name] = handler
        return writer

    return register


HARMLESS = frozenset({"inplace", "_stacklevel", "out", "dtype", "memory_format", "use_input_stats", "training"})


def tuple_of(value: Any, n: int) -> tuple[int, ...]:
    """A number or a sequence as n numbers."""
    values = tuple(value) if isinstance(value, list | tuple | torch.Size) else (value,)
    return tuple([int(v) for v in (values * n if len(values) == 1 else values)])


# ---------------------------------------------------------------------------------------------------------- layers


def _convolution(n: int) -> Writer:
    def write(
        tracer: Tracer,
        out: Tensor,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> None:
        x, kernel, spread = tracer.value(input), tuple(weight.shape[2:]), tuple_of(dilation, n)
        if x.sample.merged == 1:
            in_front(x, n + 1)
        if not tracer.is_trained(weight) or x.sample.merged > 1:
            words = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
            return tracer.black_box(getattr(torch, f"conv{n}d"), (input, weight, bias), words, out)
        if isinstance(padding, str):
            total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, spread, strict=True)]
            if any(t % 2 for t in total):
                amounts = [a for t in reversed(total) for a in (t // 2, t - t // 2)]
                id = tracer.add("pad", (x.node,), amounts=tuple(amounts))
                x, total = Value(id, tracer.shapes[id], x.sample, x.rank), [0] * n
            padding = [t // 2 for t in total]
        tracer.layer(
            f"conv{n}d",
            x,
            out,
            {"weight": weight, "bias": bias},
            bias=bias is not None,
            out_channels=weight.shape[0],
            kernel_size=kernel,
            stride=tuple_of(stride, n),
            padding=tuple_of(padding, n),
            dilation=spread,
            groups=groups,
        )

    return write


for _n in (1, 2, 3):
    handles(f"conv{_n}d")(_convolution(_n))


def _transposed(n: int) -> Writer:
    def write(
        tracer: Tracer,
        out: Tensor,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> None:
        x = tracer.value(input)
        if x.sample.merged == 1:
            in_front(x, n + 1)
        if not tracer.is_trained(weight) or x.sample.merged > 1:
            words = (stride, padding, output_padding, groups, dilation)
            return tracer.black_box(getattr(torch, f"conv_transpose{n}d"), (input, weight, bias, *words), {}, out)
        tracer.layer(
            f"conv_transpose{n}d",
            x,
            out,
            {"weight": weight, "bias": bias},
            bias=bias is not None,
            out_channels=weight.shape[1] * groups,
            kernel_size=tuple(weight.shape[2:]),
            stride=tuple_of(stride, n),
            padding=tuple_of(padding, n),
            output_padding=tuple_of(output_padding, n),
            dilation=tuple_of(dilation, n),
            groups=groups,
        )

    return write


for _n in (1, 2, 3):
    handles(f"conv_transpose{_n}d")(_transposed(_n))


@handles("linear")
def linear(tracer: Tracer, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    """Write down a linear layer."""
    if tracer.is_traced([weight, bias]):
        raise GraphError("its weights depend on the input; use torch.matmul")
    x = tracer.value(input)
    if x.sample.batch == x.rank - 1:
        raise GraphError(ALONG)
    if not tracer.is_trained(weight):
        return tracer.black_box(torch.nn.functional.linear, (input, weight, bias), {}, out)
    tensors = {"weight": weight, "bias": bias}
    tracer.layer("linear", x, out, tensors, out_channels=weight.shape[0], bias=bias is not None)


@handles("embedding")
def _embedding(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    weight: Tensor,
    padding_idx: Any = None,
    max_norm: Any = None,
    norm_type: Any = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> None:
    if max_norm is not None:
        raise GraphError("embeddings that are rescaled while they are read (max_norm) are not known")
    x = tracer.value(input)
    if not tracer.is_trained(weight):
        return tracer.black_box(torch.nn.functional.embedding, (input, weight), {}, out)
    sizes: dict[str, Any] = {"num_embeddings": weight.shape[0], "out_channels": weight.shape[1]}
    tracer.layer("embedding", x, out, {"weight": weight}, batch=x.sample.batch, **sizes)


@handles("getitem")
def _looked_up(tracer: Tracer, out: Tensor, input: Tensor, index: Any) -> None:
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or input.dim() != 2:
        raise GraphError("places to look up depend on the input; only rows of a table are known")
    _embedding(tracer, out, index, input)


def in_front(x: Value, rank: int) -> None:
    """A layer that needs the batch in front of a map of some rank; an axis merged with it may come between."""
    if x.sample.batch != 0 or x.sample.merged > 1 or len(x.shape) != rank:
        raise GraphError(
            f"it needs the batch in front of values of rank {rank}, got one sample of shape {x.shape}; do samples lie "
            "side by side in one axis?"
        )


# ------------------------------------------------------------------------------------------------- normalizations


@handles("batch_norm")
def _batch_norm(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> None:
    if training or running_mean is None or running_var is None:
        raise GraphError(
            "batch norm that takes the statistics of the batch, in evaluation too, mixes samples; keep running "
            "statistics (track_running_stats=True)"
        )
    x = tracer.value(input)
    rank, merged = input.dim() - 1, x.sample.merged > 1
    if not merged:
        in_front(x, rank)
    if (weight is None) != (bias is None):
        raise GraphError("batch norm with a scale or a shift alone is not known")
    tensors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    tensors["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    words: dict[str, Any] = {
        "affine": weight is not None,
        "eps": eps,
        "momentum": 0.1 if momentum is None else momentum,
    }
    if (weight is not None and not tracer.is_trained(weight)) or (merged and tracer.literal):
        given = (input, running_mean, running_var, weight, bias, Text("self.training"), momentum, eps)
        tracer.black_box(torch.nn.functional.batch_norm, given, {}, out)
        return
    if not merged:
        tracer.layer(f"batch_norm{max(1, rank - 1)}d", x, out, tensors, **words)
        return
    dims = (1, 0, *range(2, len(x.shape)))  # channels first, what is merged with the batch is one more place
    turned = tracer.standing(tracer.add("permute", (x.node,), dims=dims))
    back = tracer.layer(f"batch_norm{rank}d", turned, None, tensors, **words)
    tracer.result(tracer.add("permute", (back,), dims=dims), out, x)


@handles("layer_norm")
def _layer_norm(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> None:
    x, dims = tracer.value(input), len(tuple_of(normalized_shape, 1))
    if x.sample.batch >= x.rank - dims:
        raise GraphError(ALONG)
    if weight is None and bias is not None:
        raise GraphError("layer norm with a shift and no scale is not known")
    if weight is not None and not tracer.is_trained(weight):
        text = torch.nn.functional.layer_norm
        return tracer.black_box(text, (input, tuple_of(normalized_shape, 1), weight, bias, eps), {}, out)
    attrs: dict[str, Any] = {
        "dims": dims,
        "eps": eps,
        "affine": weight is not None,
        "bias": bias is not None or weight is None,
    }
    tracer.layer("layer_norm", x, out, {"weight": weight, "bias": bias}, **attrs)


@handles("rms_norm")
def _rms_norm(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> None:
    x = tracer.value(input)
    if len(tuple_of(normalized_shape, 1)) != 1 or x.sample.batch == x.rank - 1:
        raise GraphError("RMS norm over more than the last axis is not known")
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    tracer.layer("rms_norm", x, out, {"weight": weight}, eps=eps, affine=weight is not None)


@handles("group_norm")
def _group_norm(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> None:
    x = tracer.value(input)
    if x.sample.merged > 1:
        text = torch.nn.functional.group_norm
        tracer.black_box(text, (input, num_groups, weight, bias, eps), {}, out)
        return
    in_front(x, input.dim() - 1)
    if (weight is None) != (bias is None):
        raise GraphError("group norm with a scale or a shift alone is not known")
    tensors = {"weight": weight, "bias": bias}
    tracer.layer("group_norm", x, out, tensors, groups=num_groups, eps=eps, affine=weight is not None)


@handles("instance_norm")
def _instance_norm(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> None:
    x = tracer.value(input)
    in_front(x, input.dim() - 1)
    tracked = running_mean is not None
    if (weight is None) != (bias is None) or use_input_stats == tracked:
        raise GraphError("instance norm with a scale or a shift alone, or with statistics that it does not use")
    tensors = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    if tracked:
        tensors["num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    words: dict[str, Any] = {"eps": eps, "momentum": momentum, "affine": weight is not None, "tracked": tracked}
    tracer.layer(f"instance_norm{input.dim() - 2}d", x, out, tensors, **words)


@handles("local_response_norm")
def _local_response_norm(
    tracer: Tracer, out: Tensor, input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> None:
    x = tracer.value(input)
    tracer.emit("local_response_norm", [x], out, like=x, size=size, alpha=alpha, beta=beta, k=k)


@handles("normalize")
def _normalize(tracer: Tracer, out: Tensor, input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> None:
    x = tracer.value(input)
    tracer.emit("normalize", [x], out, like=x, axis=x.axis(dim), order=p, eps=eps)


@handles("prelu")
def _prelu(tracer: Tracer, out: Tensor, input: Tensor, weight: Tensor) -> None:
    x = tracer.value(input)
    if weight.numel() > 1:
        in_front(x, input.dim() - 1)
    tracer.layer("prelu", x, out, {"weight": weight}, per_channel=weight.numel() > 1)
