"""Search spaces: a start graph, operators with amounts, and bounds."""

from rlnas.spaces.limits import Limits, LimitSetting
from rlnas.spaces.morph import Legal, MorphSpace, Variant
from rlnas.spaces.start import conv_stages

DEFAULT_VARIANTS = (
    Variant("widen", 1.5),
    Variant("widen", 2.0),
    Variant("deepen", 1),
    Variant("deepen", 3),
    Variant("grow_kernel", 2),
    Variant("insert_residual", 3),
    Variant("prune_channels", 0.25),
    Variant("prune_channels", 0.5),
    Variant("remove_layer", 1),
)
"""All six operators with the amounts that suit small convolutional networks."""

__all__ = ["DEFAULT_VARIANTS", "Legal", "LimitSetting", "Limits", "MorphSpace", "Variant", "conv_stages"]
