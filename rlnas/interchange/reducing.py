"""How calls of PyTorch functions are written down as nodes: pooling, resizing, reductions, softmax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rlnas.errors import GraphError
from rlnas.interchange.calls import HANDLERS, Writer, handles, in_front, tuple_of
from rlnas.interchange.trace import Handler, Tracer
from rlnas.interchange.values import Value


def folded(tracer: Tracer, x: Value, n: int) -> Value:
    """A map for an op that works on each channel by itself; what is merged with the batch becomes channels."""
    if x.sample.merged == 1 or x.sample.batch:
        in_front(x, n + 1)
        return x
    return tracer.standing(tracer.add("reshape", (x.node,), shape=(x.shape[0] * x.shape[1], *x.shape[2:])))


def unfolded(tracer: Tracer, node: str, out: Any, input: Tensor) -> None:
    """Say what a node is that reads what `folded` gave."""
    made, x = out if isinstance(out, Tensor) else out[0], tracer.value(input)
    if x.sample.merged > 1:
        node = tracer.add("reshape", (node,), shape=(*x.shape[:2], *tracer.shapes[node][1:]))
    tracer.result(node, made, x, batch=x.sample.batch)


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
        x = folded(tracer, tracer.value(input), n)
        kernel = tuple_of(kernel_size, n)
        attrs: dict[str, Any] = {
            "kernel_size": kernel,
            "stride": kernel if stride in (None, [], ()) else tuple_of(stride, n),
            "padding": tuple_of(padding, n),
        }
        unfolded(tracer, tracer.add(f"{kind}_pool{n}d", (x.node,), **attrs, **more), out, input)

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
        x = folded(tracer, tracer.value(input), n)
        size = tuple((out if isinstance(out, Tensor) else out[0]).shape[2:])
        unfolded(tracer, tracer.add(f"adaptive_{kind}_pool{n}d", (x.node,), output_size=size), out, input)

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
    x = folded(tracer, tracer.value(input), input.dim() - 2)
    factors = set(scale_factor) if isinstance(scale_factor, list | tuple) else {scale_factor}
    kept = size is None and not recompute_scale_factor and len(factors) == 1
    made = tracer.add(
        "interpolate",
        (x.node,),
        size=tuple(out.shape[2:]),
        scale=factors.pop() if kept else 0.0,
        mode=mode,
        align_corners=bool(align_corners),
        antialias=antialias,
    )
    unfolded(tracer, made, out, input)


@handles("pixel_shuffle")
def _pixel_shuffle(tracer: Tracer, out: Tensor, input: Tensor, upscale_factor: int) -> None:
    x = tracer.value(input)
    in_front(x, 3)
    tracer.emit("pixel_shuffle", [x], out, like=x, factor=upscale_factor)


@handles("pixel_unshuffle")
def _pixel_unshuffle(tracer: Tracer, out: Tensor, input: Tensor, downscale_factor: int) -> None:
    x = tracer.value(input)
    in_front(x, 3)
    tracer.emit("pixel_unshuffle", [x], out, like=x, factor=downscale_factor)


# ---------------------------------------------------------------------------------------- reductions and the like


def reduce(tracer: Tracer, out: Tensor, input: Tensor, dim: Any, *, kind: str, keepdim: bool, **more: Any) -> None:
    """Write down a reduction along some axes."""
    x = tracer.value(input)
    dims = sorted({d % x.rank for d in (range(x.rank) if dim in (None, (), []) else tuple_of(dim, 1))})
    axes = tuple([x.axis(d) for d in dims])
    made = tracer.add("reduce", (x.node,), kind=kind, axes=axes, keepdim=keepdim, **more)
    tracer.result(made, out, x, batch=x.sample.batch - (0 if keepdim else sum(d < x.sample.batch for d in dims)))


def _reduction(kind: str) -> Writer:
    def write(tracer: Tracer, out: Any, input: Tensor, dim: Any = None, keepdim: bool = False) -> None:
        if dim is None:
            return  # of the whole batch; an error if something is made of it
        reduce(tracer, out if isinstance(out, Tensor) else out[0], input, dim, kind=kind, keepdim=keepdim)

    return write


for _kind in ("mean", "sum", "amax", "amin", "prod", "logsumexp"):
    handles(_kind)(_reduction({"amax": "max", "amin": "min"}.get(_kind, _kind)))


def _extreme(kind: str, other: str) -> Handler:
    one = _reduction(kind)

    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        words = dict(zip(("input", "dim", "keepdim"), args, strict=False)) | kwargs
        second = words.get("dim", words.get("other"))
        if isinstance(second, Tensor):
            HANDLERS[other](tracer, other, (words["input"], second), {}, out)
        else:
            one(tracer, out, words["input"], second, words.get("keepdim", False))

    return handler


HANDLERS["max"], HANDLERS["min"] = _extreme("max", "maximum"), _extreme("min", "minimum")


def _spread(kind: str, *, mean: bool = False) -> Handler:
    def handler(tracer: Tracer, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> None:
        words = dict(kwargs)
        rest = list(args[1:])
        dim = words.get("dim", rest.pop(0) if rest and not isinstance(rest[0], bool) else None)
        unbiased = words.get("unbiased", rest.pop(0) if rest else True)
        correction = words.get("correction", 1 if unbiased else 0)
        keepdim = words.get("keepdim", rest.pop(0) if rest else False)
        input = args[0] if args else words["input"]
        if correction not in (0, 1):
            raise GraphError(f"it divides by an unusual count (correction={correction})")
        first = out[0] if mean else out
        reduce(tracer, first, input, dim, kind=kind, keepdim=keepdim, unbiased=correction == 1)
        if mean:
            reduce(tracer, out[1], input, dim, kind="mean", keepdim=keepdim)

    return handler


HANDLERS["var"], HANDLERS["std"] = _spread("var"), _spread("std")
HANDLERS["var_mean"], HANDLERS["std_mean"] = _spread("var", mean=True), _spread("std", mean=True)


@handles("norm", "linalg_vector_norm", "linalg_norm", "frobenius_norm")
def _norm(tracer: Tracer, out: Tensor, input: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False) -> None:
    if dim is None or p not in (2, 2.0, "fro", None):
        raise GraphError(f"norms other than the Euclidean one along given axes are not known (p={p}, dim={dim})")
    reduce(tracer, out, input, dim, kind="norm", keepdim=keepdim)


@handles("cumsum")
def _cumsum(tracer: Tracer, out: Tensor, input: Tensor, dim: int) -> None:
    x = tracer.value(input)
    tracer.emit("cumsum", [x], out, like=x, axis=x.axis(dim))


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


@handles("glu")
def _glu(tracer: Tracer, out: Tensor, input: Tensor, dim: int = -1) -> None:
    x = tracer.value(input)
    tracer.emit("glu", [x], out, like=x, axis=x.axis(dim))


@handles("unfold", "im2col")
def _unfold(
    tracer: Tracer, out: Tensor, input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> None:
    x = tracer.value(input)
    in_front(x, 3)
    words = {"kernel_size": kernel_size, "dilation": dilation, "padding": padding, "stride": stride}
    sizes: dict[str, Any] = {name: tuple_of(value, 2) for name, value in words.items()}
    tracer.result(tracer.add("unfold", (x.node,), **sizes), out, x, batch=0)


@handles("fold", "col2im")
def _fold(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
) -> None:
    x = tracer.value(input)
    in_front(x, 2)
    words = {"output_size": output_size, "kernel_size": kernel_size, "dilation": dilation}
    words |= {"padding": padding, "stride": stride}
    sizes: dict[str, Any] = {name: tuple_of(value, 2) for name, value in words.items()}
    tracer.result(tracer.add("fold", (x.node,), **sizes), out, x, batch=0)


@handles("grid_sample")
def _grid_sample(
    tracer: Tracer,
    out: Tensor,
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> None:
    like = tracer.value(input if tracer.is_traced(input) else grid)
    values = [tracer.value(t) if tracer.is_traced(t) else tracer.constant(t, like) for t in (input, grid)]
    words: dict[str, Any] = {"sampling": mode, "margins": padding_mode, "align_corners": bool(align_corners)}
    made = tracer.add("grid_sample", [v if isinstance(v, str) else v.node for v in values], **words)
    tracer.result(made, out, like, batch=0)


@handles("affine_grid")
def _affine_grid(tracer: Tracer, out: Tensor, theta: Tensor, size: Any, align_corners: bool | None = None) -> None:
    x = tracer.value(theta)
    in_front(x, 2)
    made = tracer.add("affine_grid", (x.node,), size=tuple(size[2:]), align_corners=bool(align_corners))
    tracer.result(made, out, x, batch=0)
