"""Environments: edit a network step by step; single, batched for Stable-Baselines3, and Gymnasium's vector form."""

from rlnas.envs.make import make_problem
from rlnas.envs.morph import MorphEnv
from rlnas.envs.problem import Problem
from rlnas.envs.sb3 import MorphVecEnv
from rlnas.envs.vector import MorphVectorEnv

__all__ = ["MorphEnv", "MorphVecEnv", "MorphVectorEnv", "Problem", "make_problem"]
