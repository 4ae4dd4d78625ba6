"""How calls of PyTorch functions are written down as nodes: layers, norms, pooling, moves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.trace import Handler, Traced, Tracer, Value

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


def _weighted(
    tracer: Tracer, out: Tensor, op: str, x: Value, weight: Tensor, bias: Tensor | None, **attrs: Any
) -> None:
    """A layer with a weight and perhaps a bias; tensors met before are shared."""
    if tracer.is_traced([weight, bias]):
        raise GraphError("its weights depend on the input")
    owner = tracer.owners.get(id(weight))
    if owner is not None:
        attrs["shares"] = owner
    if op != "embedding":
        attrs["bias"] = bias is not None
    made = tracer.emit(op, [x], out, like=x, name=tracer.weight_name(weight), **attrs)
    if owner is None:
        tracer.owners[id(weight)] = made
        tracer.tensors[f"{made}.weight"] = weight
        if bias is not None:
            tracer.tensors[f"{made}.bias"] = bias


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
        _in_front(x, n + 1)
        if isinstance(padding, str):
            total = [d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, spread, strict=True)]
            if any(t % 2 for t in total):
                amounts = [a for t in reversed(total) for a in (t // 2, t - t // 2)]
                id = tracer.add("pad", (x.node,), amounts=tuple(amounts))
                x, total = Value(id, tracer.shapes[id], x.sample, x.rank), [0] * n
            padding = [t // 2 for t in total]
        _weighted(
            tracer,
            out,
            f"conv{n}d",
            x,
            weight,
            bias,
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


@handles("conv_transpose2d")
def _conv_transpose2d(
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
    _in_front(x, 3)
    _weighted(
        tracer,
        out,
        "conv_transpose2d",
        x,
        weight,
        bias,
        out_channels=weight.shape[1] * groups,
        kernel_size=tuple(weight.shape[2:]),
        stride=tuple_of(stride, 2),
        padding=tuple_of(padding, 2),
        output_padding=tuple_of(output_padding, 2),
        dilation=tuple_of(dilation, 2),
        groups=groups,
    )


@handles("linear")
def _linear(tracer: Tracer, out: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
    x = tracer.value(input)
    if x.sample.batch == x.rank - 1:
        raise GraphError("it works along the batch, so that samples would be mixed")
    _weighted(tracer, out, "linear", x, weight, bias, out_channels=weight.shape[0])


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
    if tracer.is_traced(weight):
        raise GraphError("its weights depend on the input")
    node = tracer.add(
        "embedding",
        (x.node,),
        name=tracer.weight_name(weight),
        num_embeddings=weight.shape[0],
        out_channels=weight.shape[1],
        **({"shares": tracer.owners[id(weight)]} if id(weight) in tracer.owners else {}),
    )
    tracer.result(node, out, x, batch=x.sample.batch)
    if id(weight) not in tracer.owners:
        tracer.owners[id(weight)] = node
        tracer.tensors[f"{node}.weight"] = weight


def _in_front(x: Value, rank: int) -> None:
    """A layer that needs the batch in front of a map of some rank; an axis merged with it may come between."""
    if x.sample.batch != 0 or x.sample.merged > 1 or len(x.shape) != rank:
        raise GraphError(f"it needs a batch of values of rank {rank}, got one sample of shape {x.shape}")


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
        raise GraphError("batch norm without running statistics is not known")
    x = tracer.value(input)
    rank = input.dim() - 1
    _in_front(x, rank)
    if (weight is None) != (bias is None):
        raise GraphError("batch norm with a scale or a shift alone is not known")
    name = tracer.weight_name(running_mean)
    attrs: dict[str, Any] = {"affine": weight is not None, "eps": eps, "momentum": momentum or 0.1}
    owner = tracer.owners.get(id(running_mean))
    if owner is not None:
        attrs["shares"] = owner
    made = tracer.emit(f"batch_norm{max(1, rank - 1)}d", [x], out, like=x, name=name, **attrs)
    if owner is not None:
        return
    tracer.owners[id(running_mean)] = made
    tensors = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _keep(tracer, made, tensors | {"num_batches_tracked": torch.zeros((), dtype=torch.int64)})


def _keep(tracer: Tracer, node: str, tensors: dict[str, Tensor | None]) -> None:
    if tracer.is_traced(list(tensors.values())):
        raise GraphError("its weights depend on the input")
    tracer.tensors |= {f"{node}.{name}": tensor for name, tensor in tensors.items() if tensor is not None}


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
        raise GraphError("it works along the batch, so that samples would be mixed")
    if weight is None and bias is not None:
        raise GraphError("layer norm with a shift and no scale is not known")
    attrs = {"dims": dims, "eps": eps, "affine": weight is not None, "bias": bias is not None or weight is None}
    name = "" if weight is None else tracer.weight_name(weight)
    made = tracer.emit("layer_norm", [x], out, like=x, name=name, **attrs)
    _keep(tracer, made, {"weight": weight, "bias": bias})


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
    name = "" if weight is None else tracer.weight_name(weight)
    made = tracer.emit("rms_norm", [x], out, like=x, name=name, eps=eps, affine=weight is not None)
    _keep(tracer, made, {"weight": weight})


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
    _in_front(x, input.dim() - 1)
    name = "" if weight is None else tracer.weight_name(weight)
    affine = weight is not None
    made = tracer.emit("group_norm", [x], out, like=x, name=name, groups=num_groups, eps=eps, affine=affine)
    _keep(tracer, made, {"weight": weight, "bias": bias})


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
    if not use_input_stats:
        raise GraphError("instance norm with running statistics is not known")
    x = tracer.value(input)
    name = "" if weight is None else tracer.weight_name(weight)
    op = f"instance_norm{input.dim() - 2}d"
    made = tracer.emit(op, [x], out, like=x, name=name, eps=eps, affine=weight is not None)
    _keep(tracer, made, {"weight": weight, "bias": bias})


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
    name = tracer.weight_name(weight)
    made = tracer.emit("prelu", [x], out, like=x, name=name, per_channel=weight.numel() > 1)
    _keep(tracer, made, {"weight": weight})


# ---------------------------------------------------------------------------------------------------------- pooling


def _pool(kind: str, n: int) -> Writer:
    def write(
        tracer: Tracer,
        out: Any,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        **more: Any,
    ) -> None:
        x = tracer.value(input)
        _in_front(x, n + 1)
        kernel = tuple_of(kernel_size, n)
        attrs: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": kernel if stride in (None, [], ()) else tuple_of(stride, n),
            "padding": tuple_of(padding, n),
        }
        tracer.emit(f"{kind}_pool{n}d", [x], out if isinstance(out, Tensor) else out[0], like=x, **attrs, **more)

    if kind == "max":

        def write_max(
            tracer: Tracer,
            out: Any,
            input: Tensor,
            kernel_size: Any,
            stride: Any = None,
            padding: Any = 0,
            dilation: Any = 1,
            ceil_mode: bool = False,
            return_indices: bool = False,
        ) -> None:
            spread = tuple_of(dilation, n)
            write(tracer, out, input, kernel_size, stride, padding, dilation=spread, ceil_mode=ceil_mode)

        return write_max

    def write_avg(
        tracer: Tracer,
        out: Any,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: Any = None,
    ) -> None:
        if divisor_override is not None:
            raise GraphError("average pooling with another divisor is not known")
        write(
            tracer, out, input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad
        )

    return write_avg


for _n in (1, 2, 3):
    handles(f"max_pool{_n}d", f"max_pool{_n}d_with_indices")(_pool("max", _n))
    handles(f"avg_pool{_n}d")(_pool("avg", _n))


def _adaptive(kind: str, n: int) -> Writer:
    def write(tracer: Tracer, out: Any, input: Tensor, output_size: Any, return_indices: bool = False) -> None:
        x = tracer.value(input)
        _in_front(x, n + 1)
        made = out if isinstance(out, Tensor) else out[0]
        size = tuple(made.shape[2:])
        tracer.emit(f"adaptive_{kind}_pool{n}d", [x], made, like=x, output_size=size)

    return write


for _n in (1, 2, 3):
    for _kind in ("avg", "max"):
        handles(f"adaptive_{_kind}_pool{_n}d", f"adaptive_{_kind}_pool{_n}d_with_indices")(_adaptive(_kind, _n))


@handles("interpolate", "upsample")
def _interpolate(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: Any = None,
    antialias: bool = False,
) -> None:
    x = tracer.value(input)
    _in_front(x, input.dim() - 1)
    tracer.emit(
        "interpolate",
        [x],
        out,
        like=x,
        size=tuple(out.shape[2:]),
        mode=mode,
        align_corners=bool(align_corners),
        antialias=antialias,
    )


@handles("pixel_shuffle")
def _pixel_shuffle(tracer: Tracer, out: Tensor, input: Tensor, upscale_factor: int) -> None:
    x = tracer.value(input)
    _in_front(x, 3)
    tracer.emit("pixel_shuffle", [x], out, like=x, factor=upscale_factor)


@handles("pixel_unshuffle")
def _pixel_unshuffle(tracer: Tracer, out: Tensor, input: Tensor, downscale_factor: int) -> None:
    x = tracer.value(input)
    _in_front(x, 3)
    tracer.emit("pixel_unshuffle", [x], out, like=x, factor=downscale_factor)


# ---------------------------------------------------------------------------------------- reductions and the like


def _reduction(kind: str) -> Writer:
    def write(tracer: Tracer, out: Any, input: Tensor, dim: Any = None, keepdim: bool = False) -> None:
        if not isinstance(out, Tensor):
            out = out[0]
        elif isinstance(dim, Tensor):
            raise GraphError("of two tensors it is called maximum or minimum")
        x = tracer.value(input)
        if dim is None:
            return  # of the whole batch; an error if something is made of it
        dims = sorted({d % x.rank for d in tuple_of(dim, 1)})
        axes = tuple([x.axis(d) for d in dims])
        made = tracer.add("reduce", (x.node,), kind=kind, axes=axes, keepdim=keepdim)
        batch = x.sample.batch - (0 if keepdim else sum(d < x.sample.batch for d in dims))
        tracer.result(made, out, x, batch=batch)

    return write


for _kind in ("mean", "sum", "amax", "amin", "max", "min", "prod"):
    handles(_kind)(_reduction(_kind.removeprefix("a")))


def _variance(kind: str) -> Handler:
    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        words = dict(kwargs)
        rest = list(args[1:])
        dim = words.get("dim", rest.pop(0) if rest and not isinstance(rest[0], bool) else None)
        unbiased = words.get("unbiased", rest.pop(0) if rest else True)
        correction = words.get("correction", 1 if unbiased else 0)
        keepdim = words.get("keepdim", rest.pop(0) if rest else False)
        x = tracer.value(args[0] if args else words["input"])
        if dim is None or correction not in (0, 1):
            raise GraphError("it reduces the whole batch, or by an unusual count; name the axes")
        dims = sorted({d % x.rank for d in tuple_of(dim, 1)})
        axes = tuple([x.axis(d) for d in dims])
        made = tracer.add("reduce", (x.node,), kind=kind, axes=axes, keepdim=keepdim, unbiased=correction == 1)
        batch = x.sample.batch - (0 if keepdim else sum(d < x.sample.batch for d in dims))
        tracer.result(made, out, x, batch=batch)

    return handler


HANDLERS["var"], HANDLERS["std"] = _variance("var"), _variance("std")


def _softmax(op: str) -> Writer:
    def write(tracer: Tracer, out: Tensor, input: Tensor, dim: int | None = None) -> None:
        x = tracer.value(input)
        if dim is None:
            raise GraphError("the axis is not given")
        found = tracer.known(input)
        tracer.reads[tracer.emit(op, [x], out, like=x, axis=x.axis(dim))] = [found]

    return write


handles("softmax")(_softmax("softmax"))
handles("log_softmax")(_softmax("log_softmax"))


@handles("cat", "concat", "concatenate")
def _cat(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> None:
    like = next(tracer.value(t) for t in tensors if tracer.is_traced(t))
    axis = like.axis(dim)
    operands: list[Value | str] = []
    for tensor in tensors:
        if not tracer.is_traced(tensor):
            operands.append(tracer.constant(tensor, like))
        elif tensor.numel():
            operands.append(_alike(tracer.value(tensor), like))
    if len(operands) == 1:
        tracer.result(like.node, out, like)
    else:
        tracer.emit("concat", operands, out, like=like, axis=axis)


def _alike(value: Value, like: Value) -> Value:
    """An operand whose batch must stand where another's does, counted from the end."""
    if value.rank - value.sample.batch != like.rank - like.sample.batch or value.sample.merged != like.sample.merged:
        raise GraphError("its inputs have their batch at different axes")
    return value


@handles("stack")
def _stack(tracer: Tracer, out: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> None:
    if not all(tracer.is_traced(t) for t in tensors):
        raise GraphError("it stacks values with constants")
    values = [tracer.value(t) for t in tensors]
    like, at = values[0], dim % out.dim()
    batch = like.sample.batch + (at <= like.sample.batch)
    if like.sample.merged > 1:
        raise GraphError("an axis is merged with the batch")
    axis = at - (at > batch)
    ids = []
    for value in values:
        _alike(value, like)
        shape = (*value.shape[:axis], 1, *value.shape[axis:])
        ids.append(tracer.add("reshape", (value.node,), shape=shape))
    tracer.result(tracer.add("concat", ids, axis=axis), out, like, batch=batch)


@handles("pad")
def _pad(tracer: Tracer, out: Tensor, input: Tensor, pad: Any, mode: str = "constant", value: Any = None) -> None:
    x, amounts = tracer.value(input), tuple_of(pad, 1)
    if x.sample.batch >= x.rank - len(amounts) // 2:
        raise GraphError("it pads the batch")
    kind = "zeros" if mode == "constant" else mode
    tracer.emit("pad", [x], out, like=x, amounts=amounts, padding_mode=kind, value=float(value or 0.0))


@handles("dropout", "feature_dropout", "alpha_dropout", "dropout1d", "dropout2d", "dropout3d")
def _dropout(
    tracer: Tracer, out: Tensor, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> None:
    x = tracer.value(input)
    if not 0 < p < 1:
        tracer.result(x.node, out, x)
        return
    found = tracer.known(input)
    tracer.reads[tracer.emit("dropout", [x], out, like=x, p=p)] = [found]


@handles("masked_fill")
def _masked_fill(tracer: Tracer, out: Tensor, input: Tensor, mask: Tensor, value: Any) -> None:
    if tracer.is_traced([mask, value]):
        raise GraphError("the mask depends on the input")
    x = tracer.value(input)
    number = float(value)
    text = repr(number) if number == number and abs(number) != float("inf") else f"float({str(number)!r})"
    found = tracer.known(input)
    tracer.reads[tracer.emit("masked_fill", [x, tracer.constant(mask, x)], out, like=x, text=text)] = [found]


@handles("where")
def _where(tracer: Tracer, out: Tensor, condition: Tensor, input: Any, other: Any) -> None:
    given = [condition, input, other]
    like = next(tracer.value(t) for t in given if tracer.is_traced(t))
    full = [torch.as_tensor(t, dtype=out.dtype) if not isinstance(t, Tensor) else t for t in given]
    operands: list[Value | str] = [
        tracer.value(t) if tracer.is_traced(t) else tracer.constant(t, like, rank=out.dim()) for t in full
    ]
    tracer.emit("where", operands, out, like=like)


def cast(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
    """A conversion that converts nothing."""
    known = tracer.known(args[0])
    if out.dtype != args[0].dtype:
        raise GraphError(f"it turns {args[0].dtype} into {out.dtype}; values keep one type throughout")
    if out is not args[0]:
        tracer.know(out, Traced(known.node, known.positions, out, known.origin))


for _name in ("float", "double", "half", "bfloat16", "to", "type_as", "type", "cpu", "long", "int"):
    HANDLERS[_name] = cast
