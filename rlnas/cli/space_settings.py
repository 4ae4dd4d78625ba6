"""From the settings of a space to the arguments of what makes it."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from rlnas.cli.config import SearchSettings, SpaceSettings
from rlnas.envs.make import makes_networks
from rlnas.errors import ConfigError

COMMON: Final = (
    *("max_macs", "max_params", "max_predicted_ms", "max_memory_bytes"),
    *("min_macs", "min_params", "min_predicted_ms", "min_memory_bytes"),
    "enforce",
)
EDITS: Final = ("stages", "width", "variants", "max_steps", "max_nodes")
"""Settings of a space of edits only."""
OF_A_NETWORK: Final = ("start", "start_weights", "promote_every")


def space_arguments(settings: SearchSettings) -> dict[str, Any]:
    """Arguments of `rlnas.envs.make.make_space`, or of `rlnas.envs.make_networks`, that the settings hold.

    Raises:
        ConfigError: If a setting is given that does nothing in that space.
    """
    space = settings.space
    found = {"space": space.name} | {name: getattr(space, name) for name in COMMON}
    if not makes_networks(space.name):
        if space.options:
            raise ConfigError(f"space.options does nothing in a space of edits such as {space.name!r}: remove it")
        return found | {name: getattr(space, name) for name in EDITS}
    for field in dataclasses.fields(SpaceSettings):
        if field.name in (*EDITS, *OF_A_NETWORK) and getattr(space, field.name) != field.default:
            raise ConfigError(
                f"space.{field.name} does nothing in the space of decisions {space.name!r}: its sizes, form, max_steps "
                "and start are in space.options"
            )
    options = dict(space.options or {})
    for name in options:
        if name in found or name in ("predict", "usual"):
            raise ConfigError(f"space.options: {name} does not belong there; set space.{name}")
    return found | options
