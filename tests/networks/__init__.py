"""Published networks in plain PyTorch, as their repositories write them, for importers and operators to be tried on.

`NETWORKS` must come in, `REFUSED` must be refused with a reason. `enliven` gives a fresh one weights as after training.
"""

from tests.networks import (
    classic,
    dense,
    efficient,
    gates,
    gpt,
    hierarchical,
    inception,
    language,
    mobile,
    pixels,
    resnets,
    shuffle,
    signals,
    tokenless,
    vit,
)
from tests.networks.fixture import Fixture, enliven

FAMILIES = (
    resnets,
    classic,
    inception,
    mobile,
    efficient,
    shuffle,
    gates,
    dense,
    pixels,
    vit,
    hierarchical,
    tokenless,
    gpt,
    language,
    signals,
)
NETWORKS: dict[str, Fixture] = {name: fixture for family in FAMILIES for name, fixture in family.NETWORKS.items()}

__all__ = ["NETWORKS", "Fixture", "enliven"]
