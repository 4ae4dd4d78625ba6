"""Names and texts of the functions that a running module calls."""

from __future__ import annotations

import re
from collections.abc import Sequence
from keyword import iskeyword
from typing import Any

import torch
from torch import Tensor

VIEWS = frozenset(
    {"view", "reshape", "permute", "transpose", "t", "T", "mT", "H", "mH", "flatten", "unflatten", "squeeze"}
    | {"unsqueeze", "chunk", "split", "split_with_sizes", "tensor_split", "select", "narrow", "getitem", "unbind"}
    | {"expand", "expand_as", "contiguous", "clone", "detach", "movedim", "moveaxis", "swapaxes", "swapdims", "ravel"}
    | {"roll", "flip", "fliplr", "flipud", "repeat", "repeat_interleave", "tile", "index_select", "view_as"}
    | {"reshape_as", "atleast_1d", "atleast_2d", "atleast_3d", "data", "positive", "alias", "identity", "hsplit"}
    | {"vsplit", "dsplit", "diagonal", "rot90", "adjoint", "broadcast_to", "take_along_dim", "gather"}
    | {"channel_shuffle", "native_channel_shuffle", "real", "as_tensor"}
)
"""Functions that only show entries of their first argument, elsewhere or several times."""

COMPARISONS = frozenset({"gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal"})
"""Functions whose values are truths."""

DECISIONS = frozenset({"any", "all", "argmax", "argmin", "argsort", "sort", "topk", "median", "isinf", "isfinite"})
"""Functions that modules call to look at values; refused only when something is made of what they give."""

SHAPED = frozenset(
    {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}
    | {"new_tensor"}
)
"""Functions that read no value of their first argument."""

LIKE = frozenset({"type_as", "to", "expand_as", "view_as", "reshape_as"})
"""Functions that read no value of what comes after their first argument."""

SPREADS = frozenset({"expand", "repeat", "expand_as", "repeat_interleave", "tile", "broadcast_to"})
"""Functions that repeat what they read, perhaps for each sample."""

RANDOM = frozenset(
    {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson", "rand_like", "randn_like"}
    | {"randint_like", "uniform", "exponential", "gumbel_softmax", "rrelu"}
)
"""Functions that draw random numbers."""

REFUSED = frozenset({"item", "tolist", "numpy", "nonzero", "is_nonzero", "equal", "allclose"})
NUMBERS = frozenset({"__bool__", "__int__", "__float__", "__index__", "__complex__", "__array__", "__contains__"})
"""Functions that turn values into numbers of Python."""

KNOWN = (
    "convolutions, linear layers, embeddings, norms, pooling, activations, arithmetic, comparisons, reductions, "
    "softmax, matmul, einsum, attention, moves of axes, slices, cat, stack, pad, where, interpolate, fold and unfold"
)
"""What the importer knows, in a few words."""


def plain_name(func: Any) -> str:
    """Name of a function without underscores around it; that of the property for its getter."""
    name: str = getattr(func, "__name__", str(func))
    if name == "__get__":
        owner = getattr(func, "__self__", None)
        return getattr(owner, "__name__", "get")
    return name.strip("_") if name.startswith("_") else name.rstrip("_")


def call_text(func: Any, words: Sequence[str]) -> str | None:
    """Source text of a call; None for a function that torch does not offer by a name."""
    name: str = getattr(func, "__name__", "")
    if name == "__get__":
        return f"{words[0]}.{plain_name(func)}"
    if name == "__getitem__":
        return f"{words[0]}[{words[1].removeprefix('(').removesuffix(',)')}]"
    places = {
        "torch": torch,
        "F": torch.nn.functional,
        "torch.fft": torch.fft,
        "torch.linalg": torch.linalg,
        "torch.special": torch.special,
    }
    for prefix, holder in places.items():
        short = name.removeprefix(prefix.removeprefix("torch.") + "_")
        if getattr(holder, short, None) is func:
            return f"{prefix}.{short}({', '.join(words)})"
    if getattr(Tensor, name, None) is func:
        return f"{words[0]}.{name}({', '.join(words[1:])})"
    return None


def identifier(path: str) -> str:
    """A dotted path as a Python identifier."""
    made = re.sub(r"\W", "_", path).strip("_")
    return f"layer_{made}" if made[:1].isdigit() or iskeyword(made) or not made else made
