"""Environments: edit a network, or take its decisions; single, in batches, and in the form of other libraries."""

from rlnas.envs.build import BuildEnv, build_vector, make_build_problem
from rlnas.envs.build_problem import BuildProblem, make_networks
from rlnas.envs.make import make_problem
from rlnas.envs.morph import MorphEnv, morph_vector
from rlnas.envs.morph_problem import MorphProblem
from rlnas.envs.nas_bench_201 import NASBench201Env, nas_bench_201_vector
from rlnas.envs.nas_bench_201_problem import make_nas_bench_201
from rlnas.envs.network_problem import NetworkProblem
from rlnas.envs.objectives import archive_of
from rlnas.envs.pareto_archive import ParetoArchive
from rlnas.envs.protocols import Episode, Outcome, Problem
from rlnas.envs.sb3 import EpisodeVecEnv
from rlnas.envs.single import EpisodeEnv
from rlnas.envs.table_problem import TableProblem
from rlnas.envs.vector import EpisodeVectorEnv
from rlnas.envs.vector_reward import VectorReward

__all__ = [
    "BuildEnv",
    "BuildProblem",
    "Episode",
    "EpisodeEnv",
    "EpisodeVecEnv",
    "EpisodeVectorEnv",
    "MorphEnv",
    "MorphProblem",
    "NASBench201Env",
    "NetworkProblem",
    "Outcome",
    "ParetoArchive",
    "Problem",
    "TableProblem",
    "VectorReward",
    "archive_of",
    "build_vector",
    "make_build_problem",
    "make_nas_bench_201",
    "make_networks",
    "make_problem",
    "morph_vector",
    "nas_bench_201_vector",
]
