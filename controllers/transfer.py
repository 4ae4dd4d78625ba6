"""A policy that begins with the weights of another search's."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from rlnas.controllers import checkpoint
from rlnas.controllers.base import Controller
from rlnas.controllers.policies import AttentionEncoder, SlotPolicy
from rlnas.errors import ConfigError, StoreError, unknown_name

PARTS: Final = ("policy", "encoder")
"""What can be taken: all weights of the policy, or those of its encoder."""

CRITIC: Final = "value_head."


def take_weights(controller: Controller, source: str | Path, *, part: str = "policy") -> None:
    """Give a controller's policy the weights of a checkpoint; optimizer, counts and baselines stay as they are.

    The number of slots and of episodes may differ, and the critic is taken where both have one. All else must agree,
    so that nothing is left out unsaid.

    Args:
        source: A run directory, whose controller's last checkpoint is used, or a checkpoint folder.
        part: ``policy``, or ``encoder`` for what reads the observation only; what the actions are may then differ.

    Raises:
        ConfigError: If the controller has no policy, or ``part`` is not known.
        StoreError: If there is no checkpoint, it is damaged, or its policy does not fit; saying what differs.
    """
    if part not in PARTS:
        raise ConfigError(unknown_name("part of a policy", part, PARTS))
    policy = getattr(controller, "policy", None)
    if not isinstance(policy, SlotPolicy):
        raise ConfigError(f"the controller {controller.name!r} has no policy that could take weights from {source}")
    folder = find_checkpoint(source)
    document, tensors = checkpoint.read(folder)
    theirs = {name.removeprefix("policy."): t for name, t in tensors.items() if name.startswith("policy.")}
    if not theirs:
        raise StoreError(f"the checkpoint {folder} is one of {document['controller']!r}, which has no policy")
    own = policy.state_dict()
    if part == "encoder":
        own, theirs = _only(own, "encoder."), _only(theirs, "encoder.")
    elif not (_only(own, CRITIC) and _only(theirs, CRITIC)):
        own, theirs = _without(own, CRITIC), _without(theirs, CRITIC)
    differs = _differences(controller, document, part=part) or _other_parts(controller, document, own, theirs)
    if differs:
        raise StoreError(f"the policy of {folder} does not fit: {differs}")
    policy.load_state_dict(theirs, strict=False)


def find_checkpoint(source: str | Path) -> Path:
    """The folder of a checkpoint: the one named, or the controller's last one in a run directory.

    Raises:
        StoreError: If there is none.
    """
    source = Path(source)
    for folder in (source, source / "checkpoints" / "controller"):
        if (folder / checkpoint.FILE).is_file():
            return folder
        numbered = sorted(path.parent for path in folder.glob(f"[0-9]*/{checkpoint.FILE}"))
        if numbered:
            return numbered[-1]
    raise StoreError(f"{source} holds no checkpoint of a controller; name a run directory or a checkpoint folder")


def _differences(controller: Controller, document: dict[str, Any], *, part: str) -> str | None:
    """In what the environments differ that a policy depends on."""
    assert controller.env is not None
    here = checkpoint.sizes(controller.env)
    known, own = _described(document["environment"]), _described(here)
    found = [
        f"it knows {known[what]} {what}, and here are {own[what]}"
        for what in known
        if known[what] != own[what] and (part == "policy" or what != "variants")
    ]
    if found:
        hint = " (init_part=encoder takes what does not depend on them)" if known["variants"] != own["variants"] else ""
        return "; ".join(found) + (hint if len(found) == 1 else "")
    names, own_names = document.get("variants"), checkpoint.variants(controller.env)
    if part == "policy" and names is not None and own_names is not None:
        for i, (theirs, ours) in enumerate(zip(names, own_names, strict=True)):
            if theirs != ours:
                return (
                    f"its variant {i} is {theirs}, and here it is {ours} "
                    "(init_part=encoder takes what does not depend on the variants)"
                )
    return None


def _other_parts(
    controller: Controller, document: dict[str, Any], own: dict[str, Tensor], theirs: dict[str, Tensor]
) -> str | None:
    """How the policies themselves differ: in weights, or in what shapes do not show."""
    settings = [c.get("policy_kwargs") or {} for c in (document["arguments"], controller.arguments)]
    default = inspect.signature(AttentionEncoder).parameters["heads"].default
    heads = {chosen.get("heads") or default for chosen in settings if chosen.get("encoder") == "attention"}
    shapes = [{name: tensor.shape for name, tensor in weights.items()} for weights in (own, theirs)]
    if shapes[0] == shapes[1] and len(heads) < 2:
        return None
    return (
        f"it is that of {document['controller']} with policy_kwargs={settings[0]}, "
        f"and here it is that of {controller.name} with policy_kwargs={settings[1]}"
    )


def _described(sizes: dict[str, int]) -> dict[str, int]:
    """What a policy depends on, from the lengths of an environment's observation entries."""
    slots = sizes["node_mask"]
    return {
        "features of a slot": sizes["nodes"] // slots,
        "features of the episode": sizes["context"],
        "variants": (sizes["action_mask"] - 1) // slots,
    }


def _only(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _without(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(prefix)}
