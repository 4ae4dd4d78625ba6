"""All makers of networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

from rlnas.errors import SpaceError, unknown_name
from rlnas.graph import Shape
from rlnas.importing import imported, is_import_path
from rlnas.spaces.cells import NasBench201
from rlnas.spaces.chain import Chain
from rlnas.spaces.maker import Maker
from rlnas.spaces.mnasnet import Mnasnet
from rlnas.spaces.nasnet import Nasnet

MAKERS: Final[dict[str, Callable[..., Maker]]] = {
    "chain": Chain,
    "nasnet": Nasnet,
    "mnasnet": Mnasnet,
    "nas_bench_201": NasBench201,
}
"""Called with (input shape, number of classes) and the sizes of the space."""


def make_maker(
    given: str | Callable[..., Maker], *, input_shape: Shape, n_classes: int, arguments: Mapping[str, Any]
) -> Maker:
    """A maker from its name, or from a class or function of your own with the same arguments, or its import path.

    Raises:
        ConfigError: If an import path leads nowhere.
        SpaceError: If the name or an argument is not known, an argument is missing or of the wrong kind.
    """
    if isinstance(given, str) and not is_import_path(given) and given not in MAKERS:
        raise SpaceError(unknown_name("space", given, MAKERS))
    make = given if callable(given) else imported(given) if is_import_path(given) else MAKERS[given]
    if not callable(make):
        raise SpaceError(f"{given} is of type {type(make).__name__}; name a class or function that makes networks")
    name = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
    known = list(inspect.signature(make).parameters)[2:]
    for argument in arguments:
        if argument not in known:
            raise SpaceError(unknown_name(f"argument of the space {name}:", argument, known))
    return make(tuple(input_shape), n_classes, **arguments)
