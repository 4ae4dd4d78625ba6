"""What an operator is: where it applies, what it does to a graph, and what it does to the tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from rlnas.errors import OperatorError, unknown_name
from rlnas.graph import Graph, Site
from rlnas.network import Applied, Network, tensor_specs

Reach = Literal["value", "component", "layer"]
"""The value that a node makes; all that is tied to it; or also the kinds of ops tied to what the node reads."""

OptimizerState = Mapping[str, Mapping[str, Tensor]]

MOMENTS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2}
"""Powers of the gradient that optimizers keep averages of."""

SHARED = "its tensors are shared with another node, so that no edit of one of them keeps both"


@dataclass(frozen=True)
class CostDelta:
    """Change of a graph's cost.

    Attributes:
        n_params: Change in trained values.
        macs: Change in multiply-accumulates for one sample.
    """

    n_params: int
    macs: int

    @classmethod
    def between(cls, before: Graph, after: Graph) -> CostDelta:
        """Cost of ``after`` less that of ``before``."""
        return cls(after.n_params - before.n_params, after.macs - before.macs)


@dataclass(frozen=True)
class Edit:
    """An operator's effect without tensors.

    Attributes:
        graph: The graph after the edit.
        cost_delta: What it costs.
        plan: What the operator's `tensors` needs to know beside the two graphs.
    """

    graph: Graph
    cost_delta: CostDelta
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tensors:
    """Result of an operator's tensor step.

    Attributes:
        values: All tensors of the new graph.
        compensated: True if they were compensated.
        carry: From values that an optimizer keeps for each tensor of the old network, and the power of the gradient
            that they average, to those for the new one. None if what belongs to a tensor of the same name and shape is
            kept, and the rest starts from zero.
    """

    values: Mapping[str, Tensor]
    compensated: bool = False
    carry: Callable[[Mapping[str, Tensor], int], Mapping[str, Tensor]] | None = None


class Operator(ABC):
    """An edit of a network, from a checked site to a new network.

    `obstacle` is the only source of legality: `sites`, `edit`, `apply` and the environments' masks all ask it.

    Attributes:
        name: Key in `rlnas.OPERATORS`.
        exact: True if the function is kept: relative error at most 1e-12 in float64, in eval and in training mode.
        shrinks: True if it can lower a cost; what must get under a limit tries only such operators.
        amounts: Amounts that `sites` offers unless it is given others.
        anchors: Ops of the nodes that it can act on, so that `sites` need not ask at all others; None for any op.
        takes_target: True if a site names a second node; then `sites` is the operator's own.
        needs_calibration: True if `apply` is nothing without calibration inputs.
    """

    name: str
    exact: bool
    shrinks: bool = False
    amounts: tuple[float, ...]
    anchors: frozenset[str] | None = None
    takes_target: bool = False
    needs_calibration: bool = False

    @abstractmethod
    def obstacle(self, graph: Graph, site: Site) -> str | None:
        """Why the operator does not apply there, as a half sentence; None if it does."""

    def reach(self, op: str) -> Reach | None:
        """How much around a node of that op decides what can be done there and what that costs; None if all may.

        Where less does, it is worked out once for all places alike; `rlnas.spaces.surroundings` says what alike means.
        """
        return None

    @abstractmethod
    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        """The new graph, and a plan for `tensors`, for a site without obstacle."""

    @abstractmethod
    def tensors(
        self, network: Network, site: Site, edit: Edit, *, generator: torch.Generator, calibration: Tensor | None
    ) -> Tensors:
        """All tensors of the new graph."""

    def sites(self, graph: Graph, amounts: tuple[float, ...] | None = None) -> tuple[Site, ...]:
        """Every site where the operator applies, in canonical order of their anchors."""
        offered = self.amounts if amounts is None else amounts
        candidates = [Site(self.name, id, None, a) for id in self.candidates(graph) for a in offered]
        return tuple([site for site in candidates if self.obstacle(graph, site) is None])

    def candidates(self, graph: Graph) -> list[str]:
        """Nodes that can be anchors by their op, in canonical order."""
        shared, ops = graph.shared, self.anchors
        return [id for id in graph.order if id not in shared and (ops is None or graph.node(id).op in ops)]

    def edit(self, graph: Graph, site: Site) -> Edit:
        """The edit of a graph, free of tensors.

        Raises:
            OperatorError: If the operator does not apply at the site.
        """
        if site.operator != self.name:
            raise OperatorError(f"{site} is a site of {site.operator!r}, not of {self.name!r}")
        if site.anchor not in graph:
            raise OperatorError(f"{site}: the graph has no node {site.anchor!r}")
        if site.target is not None and not self.takes_target:
            raise OperatorError(f"{site}: {self.name} takes no second node")
        if self.takes_target and (site.target is None or site.target not in graph):
            named = f"the graph has no node {site.target!r}" if site.target else "no second node is named"
            raise OperatorError(f"{site}: {self.name} leads to a second node, and {named}")
        reason = SHARED if site.anchor in graph.shared else self.obstacle(graph, site)
        if reason is not None:
            raise OperatorError(f"{site} does not apply: {reason}")
        after, plan = self.rewrite(graph, site)
        return Edit(after, CostDelta.between(graph, after), plan)

    def apply(
        self, network: Network, site: Site, *, generator: torch.Generator, calibration: Tensor | None = None
    ) -> Network:
        """The edited network; the given one stays as it is.

        Args:
            generator: Only source of randomness.
            calibration: Training inputs, shape (samples, *input shape), by which approximate operators choose what
                goes, compensate, and measure their drift. Without it they choose by magnitude and do not compensate,
                which the new entry in ``history`` says.

        Raises:
            OperatorError: If the operator does not apply at the site, or the calibration inputs do not fit or are
                missing where the operator is nothing without them.
        """
        return self._apply(network, site, generator, calibration)[0]

    def apply_with_optimizer(
        self,
        network: Network,
        site: Site,
        state: OptimizerState,
        *,
        generator: torch.Generator,
        calibration: Tensor | None = None,
    ) -> tuple[Network, OptimizerState]:
        """As `apply`, and what an optimizer has gathered goes along.

        A moment of a channel that was replicated is what the replicas' own gradients would have given: shared out in
        the layers that make it, the same in those that read it. What is new starts from zero.

        Args:
            state: For each kind of moment the values by tensor name: ``momentum_buffer`` of SGD, ``exp_avg`` and
                ``exp_avg_sq`` of Adam.

        Returns:
            The edited network, and the state for its tensors.

        Raises:
            OperatorError: As `apply`; or if a kind of moment is not known.
        """
        for kind in state:
            if kind not in MOMENTS:
                raise OperatorError(unknown_name("optimizer moment", kind, MOMENTS))
        after, made = self._apply(network, site, generator, calibration)
        carried: dict[str, dict[str, Tensor]] = {}
        with torch.no_grad():
            for kind, moments in state.items():
                given = made.carry(moments, MOMENTS[kind]) if made.carry else moments
                trained = [name for name, param in tensor_specs(after.graph).items() if param.trained]
                carried[kind] = {name: _moment(given.get(name), after.tensors[name]) for name in trained}
        return after, carried

    def _apply(
        self, network: Network, site: Site, generator: torch.Generator, calibration: Tensor | None
    ) -> tuple[Network, Tensors]:
        edit = self.edit(network.graph, site)
        if calibration is not None:
            calibration = _checked(calibration, network)
        elif self.needs_calibration:
            raise OperatorError(f"{site} needs calibration inputs, a batch of training inputs: pass calibration=...")
        with torch.no_grad():
            made = self.tensors(network, site, edit, generator=generator, calibration=calibration)
        applied = Applied(site, self.exact, made.compensated)
        after = Network(edit.graph, made.values, (*network.history, applied), network.epochs)
        if calibration is None or self.exact:
            return after, made
        applied = replace(applied, drift=drift(network, after, calibration))
        return replace(after, history=(*network.history, applied)), made


def _checked(calibration: Tensor, network: Network) -> Tensor:
    """Calibration inputs in the network's floating-point type; ids of tokens stay what they are."""
    if len(calibration) == 0 or tuple(calibration.shape[1:]) != network.graph.input_shape:
        raise OperatorError(
            f"calibration inputs have shape {tuple(calibration.shape)}, not (samples, *{network.graph.input_shape})"
        )
    return calibration.to(network.dtype) if calibration.is_floating_point() else calibration


def _moment(given: Tensor | None, tensor: Tensor) -> Tensor:
    return given if given is not None and given.shape == tensor.shape else torch.zeros_like(tensor)


def whole(amount: float) -> bool:
    """True for a whole number, whatever its type; NaN and infinity are none."""
    return float(amount).is_integer()


def drift(before: Network, after: Network, inputs: Tensor) -> float:
    """Relative root-mean-square change of the outputs in eval mode."""
    with torch.no_grad():
        old, new = (n.module().eval()(inputs) for n in (before, after))
        return float((new - old).square().mean().sqrt() / old.square().mean().sqrt().clamp_min(1e-30))


def kept_tensors(network: Network, graph: Graph) -> dict[str, Tensor]:
    """The tensors of those nodes that another graph has too."""
    return {name: t for name, t in network.tensors.items() if name.split(".", 1)[0] in graph}
