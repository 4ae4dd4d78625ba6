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
    idioms,
    inception,
    language,
    mobile,
    pixels,
    refused,
    resnets,
    shuffle,
    signals,
    tokenless,
    vit,
)
from tests.networks.fixture import Fixture, enliven

FAMILIES = (resnets, classic, inception, mobile, efficient, shuffle, gates, dense, pixels, vit, hierarchical, tokenless)
FAMILIES += (gpt, language, signals, idioms)
NETWORKS: dict[str, Fixture] = {name: fixture for family in FAMILIES for name, fixture in family.NETWORKS.items()}
REFUSED: dict[str, Fixture] = refused.NETWORKS

__all__ = ["FAMILIES", "NETWORKS", "REFUSED", "Fixture", "enliven"]
