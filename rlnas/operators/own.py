"""A person's own operator, named by its import path."""

from __future__ import annotations

import copy
from functools import cache

from rlnas.errors import ConfigError
from rlnas.importing import imported, told
from rlnas.operators.base import Operator

NEEDED = ("exact", "amounts")
"""What a class of operators has to say of itself; its name it gets from its path."""


@cache
def own_operator(path: str) -> Operator:
    """The operator at an import path: a class without arguments, or an operator.

    Its name is the path, whatever it calls itself, so that whoever reads a site finds it: a worker process, a run that
    is resumed, a replay.

    Raises:
        ConfigError: If there is none.
    """
    found = imported(path)
    if isinstance(found, type) and issubclass(found, Operator):
        try:
            found = found()
        except Exception as error:
            raise ConfigError(f"cannot make the operator {path}: {told(error)}") from None
    if not isinstance(found, Operator):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise ConfigError(f"{path} is no operator but {kind}; name a subclass of rlnas.Operator, or an instance")
    lacking = [name for name in NEEDED if not hasattr(found, name)]
    if lacking:
        raise ConfigError(f"the operator {path} does not say what its {' and '.join(lacking)} are")
    operator = copy.copy(found)
    object.__setattr__(operator, "name", path)  # even of a frozen dataclass
    return operator
