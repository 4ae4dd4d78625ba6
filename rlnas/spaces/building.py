"""A space of decisions that make networks, with the reference network, the limits and the form of its episodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from rlnas.errors import ConfigError, LimitError, unknown_name
from rlnas.graph import Graph
from rlnas.layout import Layout
from rlnas.spaces.limits import Limits
from rlnas.spaces.maker import NetworkSpace
from rlnas.spaces.morph import ENFORCE
from rlnas.spaces.within import Within

FORMS: Final = ("build", "edit")
"""Kinds of episodes: take one decision after the other, or change some of those of the reference network."""


@dataclass(frozen=True)
class BuildSpace:
    """What episodes decide.

    Attributes:
        networks: The decisions and the networks that they make.
        limits: What networks must keep.
        form: ``"build"`` or ``"edit"``.
        max_steps: Steps of an episode.
        enforce: What is done about limits; see `MorphSpace`.
        within: Which choices are legal.

    Raises:
        ConfigError: If a name is not known, or ``max_steps`` out of range.
        LimitError: If no network within the limits is known, or not within ``max_steps`` changes of the reference.
    """

    networks: NetworkSpace
    limits: Limits = field(default_factory=Limits)
    form: str = "build"
    max_steps: int = 0
    enforce: str = "mask"
    within: Within = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(unknown_name("form", self.form, FORMS))
        if self.enforce not in ENFORCE:
            raise ConfigError(unknown_name("way to enforce limits:", self.enforce, ENFORCE))
        if self.enforce != "mask" and not self.limits.bounds:
            raise ConfigError(f"enforce={self.enforce!r} does nothing without a limit")
        if self.form == "build" and self.max_steps not in (0, len(self.networks.decisions)):
            raise ConfigError("max_steps is for form='edit'; form='build' takes every decision once")
        if self.max_steps < 0:
            raise ConfigError(f"max_steps={self.max_steps}; an episode needs at least 1 change")
        object.__setattr__(self, "max_steps", self.max_steps or len(self.networks.decisions))
        object.__setattr__(self, "within", Within(self.networks, self.limits, enforced=self.enforce == "mask"))
        if self.form == "edit" and (far := self.within.steps_to(self.networks.reference)) > self.max_steps:
            raise LimitError(
                f"no network within {self.max_steps} changes of the reference network is known to keep {self.limits}; "
                f"{far} are enough"
            )

    @cached_property
    def start(self) -> Graph:
        """The reference network."""
        return self.networks.graph(self.networks.reference)

    @property
    def layout(self) -> Layout:
        """Sizes of observations and actions."""
        return self.networks.decisions.layout
