"""Search spaces: a start graph, operators with amounts, and bounds."""

from rlnas.spaces.limits import Limits, LimitSetting
from rlnas.spaces.morph import Legal, MorphSpace, Variant
from rlnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_blocks
from rlnas.spaces.start import conv_stages
from rlnas.spaces.variants import DEFAULT_VARIANTS, TRANSFORMER_VARIANTS, default_variants

__all__ = [
    "DEFAULT_VARIANTS",
    "TRANSFORMER_VARIANTS",
    "Legal",
    "LimitSetting",
    "Limits",
    "MorphSpace",
    "Variant",
    "conv_stages",
    "default_variants",
    "nas_bench_201",
    "nas_bench_201_blocks",
]
