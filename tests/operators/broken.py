"""Operators with one fault each, and the check that must find it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch

from rlnas.graph import Graph, Node, Site
from rlnas.graph.edit import Names, insert_after
from rlnas.network import Network
from rlnas.operators import CostDelta, Edit, Operator, Tensors
from rlnas.operators.deepen import Deepen
from rlnas.operators.fill import FRESH, IDENTITY, ZERO
from rlnas.operators.kernel import GrowKernel
from rlnas.operators.prune import PruneChannels
from rlnas.operators.remove import RemoveLayer
from rlnas.operators.residual import InsertResidual
from rlnas.operators.widen import Widen


class _Widen(Widen):
    """Lets a subclass spoil what `Widen` makes."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        raise NotImplementedError

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        values = super().tensors(network, site, edit, **arguments).values
        made = {name: tensor.clone() for name, tensor in values.items()}
        self.spoil(made, network, site)
        return Tensors(made)


class ForgetsToDivide(_Widen):
    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        group = network.graph.channels.of(site.anchor)
        assert group is not None
        made[f"{group.readers[0]}.weight"] *= 2


class ForgetsStatistics(_Widen):
    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        for name in made:
            if name.endswith("running_mean") and made[name].shape != network.tensors[name].shape:
                made[name].zero_()


class ForgetsAScale(_Widen):
    """New channels with another BatchNorm scale."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        made["bn1.weight"][8:] = 1.0


class Imprecise(_Widen):
    """Right in float32, not in float64."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        made["linear1.weight"] *= 1 + 1e-9


class LosesDigits(_Widen):
    """Right in float64; in float32 half of the digits go."""

    def spoil(self, made: dict[str, torch.Tensor], network: Network, site: Site) -> None:
        if network.dtype == torch.float32:
            made["linear1.weight"] = made["linear1.weight"].bfloat16().float()


class AllAlike(Widen):
    """Replicas that no training tells apart."""

    def __init__(self) -> None:
        super().__init__(noise=0.0)


class DeepensWithNorm(Deepen):
    """An identity in eval mode only."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        layer = next(iter(plan["fill"]))
        norm = Node.make(Names(after).new("bn"), "batch_norm2d", layer)
        return insert_after(after, layer, [norm], output=norm.id), {**plan, "norm": norm.id}

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        norm, ones = edit.plan["norm"], torch.ones(edit.graph.shapes[edit.plan["norm"]][0], dtype=network.dtype)
        made |= {f"{norm}.{name}": ones.clone() for name in ("weight", "running_var")}
        made |= {f"{norm}.{name}": 0 * ones for name in ("bias", "running_mean")}
        made[f"{norm}.weight"] = (ones + 1e-5).sqrt()
        made[f"{norm}.num_batches_tracked"] = torch.tensor(0)
        return Tensors(made)


class DeepensAlikeAfterAnything(Deepen):
    def kind(self, node: Node, groups: int) -> Literal["identity", "mirror", "residual"]:
        return "identity"


def filled_with(edit: Edit, how: Any) -> str:
    """The first new node whose tensors are filled that way."""
    fill: dict[str, Any] = edit.plan["fill"]
    return next(id for id, filling in fill.items() if filling == how)


class ForgetsZero(InsertResidual):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        last = f"{filled_with(edit, ZERO)}.weight"
        made[last] = made[last] + 0.1
        return Tensors(made)


class ZeroTwice(InsertResidual):
    """Both convolutions zero: neither ever has a gradient."""

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        first = f"{filled_with(edit, FRESH)}.weight"
        made[first] = torch.zeros_like(made[first])
        return Tensors(made)


class NotFinite(InsertResidual):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        first = f"{filled_with(edit, FRESH)}.weight"
        made[first] = torch.full_like(made[first], torch.inf)
        return Tensors(made)


class GlobalRandomness(InsertResidual):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        torch.rand(3)
        return super().tensors(network, site, edit, **arguments)


class OwnRandomness(InsertResidual):
    count = 0

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        OwnRandomness.count += 1
        g = torch.Generator().manual_seed(OwnRandomness.count)
        return super().tensors(network, site, edit, **(arguments | {"generator": g}))


class FixedRandomness(InsertResidual):
    """Draws, and throws away what it drew."""

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        torch.rand(3, generator=arguments["generator"])
        return super().tensors(network, site, edit, **(arguments | {"generator": torch.Generator().manual_seed(0)}))


class WritesIntoItsInput(GrowKernel):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = super().tensors(network, site, edit, **arguments)
        network.tensors[f"{site.anchor}.weight"].mul_(1.5)
        return made


class WrongParameters(GrowKernel):
    def edit(self, graph: Graph, site: Site) -> Edit:
        edit = super().edit(graph, site)
        return replace(edit, cost_delta=CostDelta(edit.cost_delta.n_params + 1, edit.cost_delta.macs))


class WrongMacs(GrowKernel):
    def edit(self, graph: Graph, site: Site) -> Edit:
        edit = super().edit(graph, site)
        return replace(edit, cost_delta=CostDelta(edit.cost_delta.n_params, 2 * edit.cost_delta.macs))


class SaysItGrows(PruneChannels):
    shrinks = False


class DependsOnOrder(Deepen):
    """Names its layer by the place of the anchor in the tuple of nodes."""

    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        place = [node.id for node in graph.nodes].index(site.anchor)
        layer = Node.make(f"deep{place}", "conv2d", site.anchor, out_channels=8, kernel_size=(1, 1))
        relu = Node.make(f"after{place}", "relu", layer.id)
        return insert_after(graph, site.anchor, [layer, relu], output=relu.id), {"fill": {layer.id: IDENTITY}}


class ChangesTheOutput(Deepen):
    def rewrite(self, graph: Graph, site: Site) -> tuple[Graph, Mapping[str, Any]]:
        after, plan = super().rewrite(graph, site)
        last = Node.make("one_more", "linear", after.output, out_channels=11)
        return insert_after(after, after.output, [last], output=last.id), plan

    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = dict(super().tensors(network, site, edit, **arguments).values)
        shapes = {"weight": (11, 10), "bias": (11,)}
        return Tensors(made | {f"one_more.{n}": torch.ones(s, dtype=network.dtype) for n, s in shapes.items()})


class ClaimsCompensation(RemoveLayer):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        return replace(super().tensors(network, site, edit, **arguments), compensated=True)


class CompensatesWrongly(PruneChannels):
    def tensors(self, network: Network, site: Site, edit: Edit, **arguments: Any) -> Tensors:
        made = super().tensors(network, site, edit, **arguments)
        bias = made.values["linear1.bias"] + 50 * made.compensated
        return replace(made, values={**made.values, "linear1.bias": bias})


class MoreThanItOffers(Widen):
    """Applies where `sites` does not say so."""

    def sites(self, graph: Graph, amounts: tuple[float, ...] | None = None) -> tuple[Site, ...]:
        return super().sites(graph, amounts)[1:]


class LessThanItOffers(Deepen):
    """Offers what it cannot do."""

    def sites(self, graph: Graph, amounts: tuple[float, ...] | None = None) -> tuple[Site, ...]:
        return (*super().sites(graph, amounts), Site(self.name, graph.input.id, None, 1))


BROKEN: dict[Operator, str] = {
    ForgetsToDivide(): "check_function",
    ForgetsStatistics(): "check_function",
    ForgetsAScale(): "check_function",
    Imprecise(): "check_function",
    LosesDigits(): "check_function_in_float32",
    AllAlike(): "check_everything_learns",
    DeepensWithNorm(): "check_function",
    DeepensAlikeAfterAnything(): "check_function",
    ForgetsZero(): "check_function",
    ZeroTwice(): "check_everything_learns",
    NotFinite(): "check_finite_gradients",
    GlobalRandomness(): "check_input_untouched",
    OwnRandomness(): "check_reproducible",
    FixedRandomness(): "check_reproducible",
    WritesIntoItsInput(): "check_input_untouched",
    WrongParameters(): "check_costs",
    WrongMacs(): "check_costs",
    SaysItGrows(): "check_costs",
    DependsOnOrder(): "check_graph",
    ChangesTheOutput(): "check_graph",
    ClaimsCompensation(): "check_history",
    CompensatesWrongly(): "check_compensation",
    MoreThanItOffers(): "check_legality",
    LessThanItOffers(): "check_legality",
}
