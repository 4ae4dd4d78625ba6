"""Tensors of a running module that do not depend on its input: their names, and what they were made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlnas.interchange.spelling import VIEWS, call_text, plain_name

LOOKUPS = VIEWS | {"embedding"}
"""Functions whose results only show entries of a tensor."""

BY_PLACE = {
    **dict.fromkeys(("exp", "softplus", "sigmoid", "tanh", "relu", "abs", "square", "sqrt", "rsqrt", "log"), ""),
    **dict.fromkeys(("reciprocal", "neg", "clamp", "clamp_min", "clamp_max"), ""),
    **dict.fromkeys(("add", "radd"), "{0} + {1}"),
    **dict.fromkeys(("mul", "rmul"), "{0} * {1}"),
    **dict.fromkeys(("div", "truediv"), "{0} / {1}"),
    **dict.fromkeys(("rdiv", "rtruediv"), "{1} / {0}"),
    "sub": "{0} - {1}",
    "rsub": "{1} - {0}",
    "pow": "{0} ** {1}",
}
"""Functions that compute each value from that in its own place and from numbers; their texts, if they are operators."""


class Recipe(NamedTuple):
    """How a tensor was made.

    Attributes:
        func: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        place: Which of several results it is; None if there was one.
        source: What it shows entries of; None if it was computed.
        tensor: The tensor itself, kept alive so that no other takes its address.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    place: int | None
    source: Tensor | None
    tensor: Tensor

    def again(self, places: Tensor) -> Tensor:
        """The same view of another tensor."""
        args = [places if a is self.source else a for a in self.args]
        kwargs = {k: places if v is self.source else v for k, v in self.kwargs.items()}
        found = self.func(*args, **kwargs)
        made: Tensor = found if self.place is None else found[self.place]
        return made


class Constants:
    """What is known of tensors that do not depend on the input.

    Attributes:
        names: Dotted names of parameters and buffers, and of what was made of them, by the addresses of tensors.
        recipes: How tensors were made that depend on a parameter or buffer.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names = {id(t): name for name, t in [*module.named_parameters(), *module.named_buffers()]}
        self.recipes: dict[int, Recipe] = {}
        self._trained: dict[int, Tensor] = {id(p): p for p in module.parameters()}
        self._own = dict(self._trained)
        self._same: dict[Any, tuple[Tensor, ...]] = {}
        self._first: dict[int, Tensor] = {}

    def is_trained(self, tensor: Tensor | None) -> bool:
        """True for a parameter, and what was computed from one."""
        return id(tensor) in self._trained

    def is_parameter(self, tensor: Tensor) -> bool:
        """True for a parameter itself."""
        return id(tensor) in self._own

    def first(self, tensor: Tensor) -> Tensor:
        """The first tensor that was made in the same way, from the same tensors."""
        return self._first.get(id(tensor), tensor)

    def derive(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        """Remember what was made of constants."""
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        for held in args:
            if isinstance(held, list | tuple):
                tensors += [a for a in held if isinstance(a, Tensor)]
        named = [t for t in tensors if id(t) in self.names]
        results = out if isinstance(out, list | tuple) else (out,)
        made = [t for t in results if isinstance(t, Tensor)]
        if not named or not made or any([t is a for t in made for a in tensors]):
            return
        name = plain_name(func)
        trained = any([id(t) in self._trained for t in tensors])
        source = None
        if name in LOOKUPS:
            source = kwargs.get("weight", args[1] if len(args) > 1 else None) if name == "embedding" else args[0]
        for k, tensor in enumerate(results):
            if not isinstance(tensor, Tensor):
                continue
            place = k if isinstance(out, list | tuple) else None
            self.recipes[id(tensor)] = Recipe(func, tuple(args), kwargs, place, source, tensor)
            self.names.setdefault(id(tensor), self.names[id(named[0])])
            if trained and tensor.is_floating_point():
                self._trained[id(tensor)] = tensor
        before = self._same.setdefault((func, self._key(args), self._key(kwargs)), tuple(made))
        self._first.update({id(t): b for t, b in zip(made, before, strict=True)})

    def _key(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return id(self.first(value))
        if isinstance(value, list | tuple):
            return tuple([self._key(v) for v in value])
        if isinstance(value, dict):
            return tuple([(k, self._key(v)) for k, v in sorted(value.items())])
        return type(value), repr(value)

    def sources(self, tensor: Tensor) -> set[int]:
        """Addresses of the parameters that a tensor was made of."""
        if id(tensor) in self._own:
            return {id(tensor)}
        recipe = self.recipes.get(id(tensor))
        found: set[int] = set()
        for value in (*recipe.args, *recipe.kwargs.values()) if recipe else ():
            for held in value if isinstance(value, list | tuple) else (value,):
                if isinstance(held, Tensor):
                    found |= self.sources(held)
        return found

    def formula(self, tensor: Tensor) -> str | None:
        """Text of how a tensor is computed, place by place, from a parameter; None if that is not how it is made."""
        if id(tensor) in self._own:
            return "{0}"
        recipe = self.recipes.get(id(tensor))
        if recipe is None or recipe.kwargs or recipe.place is not None or plain_name(recipe.func) not in BY_PLACE:
            return None
        words = [self.formula(a) if isinstance(a, Tensor) else repr(a) for a in recipe.args]
        known = [f"({word})" if " " in word else word for word in words if word is not None]
        if len(known) < len(words):
            return None
        pattern = BY_PLACE[plain_name(recipe.func)]
        return pattern.format(*known) if pattern else call_text(recipe.func, known)

    def chain(self, tensor: Tensor) -> tuple[Tensor, list[Recipe]]:
        """What a tensor shows entries of, and the views that lead from there to it."""
        chain: list[Recipe] = []
        current = self.first(tensor)
        while (recipe := self.recipes.get(id(current))) is not None and isinstance(recipe.source, Tensor):
            if id(recipe.source) not in self._trained:
                break
            chain.append(recipe)
            current = self.first(recipe.source)
        return current, chain[::-1]

    def root(self, tensor: Tensor) -> tuple[Tensor, Tensor | None]:
        """What a tensor shows entries of, and their places in it; None for the places if it is that itself."""
        current, chain = self.chain(tensor)
        if not chain:
            return current, None
        places = torch.arange(current.numel()).view(current.shape)
        for recipe in chain:
            places = recipe.again(places)
        return current, places
