"""Every error that a person can cause, one class a cause, under one root."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RlnasError(Exception):
    """Root of all errors raised on purpose; the command line prints it as one line and exits with status 2."""


class GraphError(RlnasError):
    """A graph that cannot exist: unknown op, wrong shapes, a cycle, a missing input."""


class OperatorError(RlnasError):
    """An operator asked to act where it does not apply, or with an amount it does not take."""


class SpaceError(RlnasError):
    """A search space that cannot be used, such as a network with more nodes than slots."""


class LimitError(RlnasError):
    """A limit that no network in the space can meet."""


class TaskError(RlnasError):
    """A data set that is missing, damaged or not of the expected form."""


class ConfigError(RlnasError):
    """A configuration key, name or value that is not known."""


class EvaluationError(RlnasError):
    """An evaluation that cannot be carried out at all (a failing candidate is a result, not an error)."""


class StoreError(RlnasError):
    """An evaluation store or checkpoint that cannot be read or written."""


class MeterError(RlnasError):
    """A latency measurement that cannot be made or trusted."""


class RunError(RlnasError):
    """A run directory that exists already, is missing, or cannot be written or resumed."""


class ExportError(RlnasError):
    """A network that cannot be written in the form or at the place asked for."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for a name that is not in a registry: the nearest known name, if any, and the whole list."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}"
