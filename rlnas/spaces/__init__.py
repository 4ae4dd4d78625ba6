"""Search spaces: a start graph with operators, amounts and bounds; or a list of decisions."""

from rlnas.spaces.decisions import Assignment, Choice, Decision, DecisionSpace, Feasible
from rlnas.spaces.limits import Limits, LimitSetting
from rlnas.spaces.morph import Legal, MorphSpace, Variant
from rlnas.spaces.nas_bench_201 import cell_text, nas_bench_201, nas_bench_201_blocks, nas_bench_201_space
from rlnas.spaces.start import conv_stages
from rlnas.spaces.variants import DEFAULT_VARIANTS, TRANSFORMER_VARIANTS, default_variants

__all__ = [
    "DEFAULT_VARIANTS",
    "TRANSFORMER_VARIANTS",
    "Assignment",
    "Choice",
    "Decision",
    "DecisionSpace",
    "Feasible",
    "Legal",
    "LimitSetting",
    "Limits",
    "MorphSpace",
    "Variant",
    "cell_text",
    "conv_stages",
    "default_variants",
    "nas_bench_201",
    "nas_bench_201_blocks",
    "nas_bench_201_space",
]
