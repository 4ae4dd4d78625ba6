"""Reinforcement-learning controllers that design neural networks by operators that keep their function.

Importing the package registers its environments with Gymnasium and loads nothing heavy; the names below load what they
need when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from rlnas.graph import Graph
    from rlnas.interchange import from_module
    from rlnas.network import Network, load
    from rlnas.operators import OPERATORS, Operator, Site
    from rlnas.operators.simplify import simplify

__version__ = "0.1.0"

__all__ = ["OPERATORS", "Graph", "Network", "Operator", "Site", "__version__", "from_module", "load", "simplify"]

_HOMES = {
    "OPERATORS": "rlnas.operators",
    "Operator": "rlnas.operators",
    "Site": "rlnas.graph",
    "Graph": "rlnas.graph",
    "Network": "rlnas.network",
    "load": "rlnas.network",
    "from_module": "rlnas.interchange",
    "simplify": "rlnas.operators.simplify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rlnas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


_MORPH: dict[str, Any] = {"entry_point": "rlnas.envs:MorphEnv", "vector_entry_point": "rlnas.envs:morph_vector"}
_BUILD: dict[str, Any] = {"entry_point": "rlnas.envs:BuildEnv", "vector_entry_point": "rlnas.envs:build_vector"}
_CELLS: dict[str, Any] = {
    "entry_point": "rlnas.envs:NASBench201Env",
    "vector_entry_point": "rlnas.envs:nas_bench_201_vector",
}

gymnasium.register("rlnas/Morph-v0", **_MORPH)
gymnasium.register("rlnas/MorphLatency-v0", **_MORPH, kwargs={"cost": "latency_ms"}, nondeterministic=True)
gymnasium.register(  # only what keeps the function: growing a network that is good already
    "rlnas/MorphGrow-v0",
    **_MORPH,
    kwargs={"variants": ("widen 1.5", "widen 2", "deepen 1", "deepen 3", "grow_kernel 2", "insert_residual 3")},
)
gymnasium.register("rlnas/MorphCompress-v0", **_MORPH, kwargs={"max_macs": "50%"})  # ends at half the MACs or less
gymnasium.register("rlnas/Build-v0", **_BUILD)
gymnasium.register("rlnas/NASBench201-v0", **_CELLS)
gymnasium.register("rlnas/NASBench201Edit-v0", **_CELLS, kwargs={"form": "edit"})
