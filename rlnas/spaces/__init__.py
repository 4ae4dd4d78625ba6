"""Search spaces: a start graph with operators, amounts and bounds; or a list of decisions."""

from rlnas.spaces.building import BuildSpace
from rlnas.spaces.cells import NasBench201
from rlnas.spaces.chain import Chain
from rlnas.spaces.decisions import Assignment, Choice, Decision, DecisionSpace, Feasible
from rlnas.spaces.limits import Limits, LimitSetting
from rlnas.spaces.maker import Maker, NetworkSpace
from rlnas.spaces.makers import MAKERS, make_maker
from rlnas.spaces.mnasnet import Mnasnet
from rlnas.spaces.morph import Legal, MorphSpace, Variant
from rlnas.spaces.nas_bench_201 import cell_text, nas_bench_201, nas_bench_201_blocks, nas_bench_201_space
from rlnas.spaces.nasnet import Nasnet
from rlnas.spaces.start import conv_stages
from rlnas.spaces.training import TRAINING_CHOICES, training_decisions
from rlnas.spaces.variants import DEFAULT_VARIANTS, TRANSFORMER_VARIANTS, default_variants
from rlnas.spaces.within import Within

__all__ = [
    "DEFAULT_VARIANTS",
    "MAKERS",
    "TRAINING_CHOICES",
    "TRANSFORMER_VARIANTS",
    "Assignment",
    "BuildSpace",
    "Chain",
    "Choice",
    "Decision",
    "DecisionSpace",
    "Feasible",
    "Legal",
    "LimitSetting",
    "Limits",
    "Maker",
    "Mnasnet",
    "MorphSpace",
    "NasBench201",
    "Nasnet",
    "NetworkSpace",
    "Variant",
    "Within",
    "cell_text",
    "conv_stages",
    "default_variants",
    "make_maker",
    "nas_bench_201",
    "nas_bench_201_blocks",
    "nas_bench_201_space",
    "training_decisions",
]
