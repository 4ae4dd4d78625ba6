"""Evaluation of candidate networks: evaluators, the service that runs them, and the store that keeps the results."""

from __future__ import annotations

from collections.abc import Callable

from rlnas.evaluation.backends import BACKENDS, make_executor
from rlnas.evaluation.build import build
from rlnas.evaluation.cluster import RayExecutor
from rlnas.evaluation.control import evaluate_control
from rlnas.evaluation.halving import Halving
from rlnas.evaluation.jobs import Executor, InlineExecutor, Job, Outcome
from rlnas.evaluation.layers import Layer, full
from rlnas.evaluation.making import make_evaluator, make_layers, rank_by
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, Metrics
from rlnas.evaluation.nas_bench_201 import CellTable, load_nas_bench_201
from rlnas.evaluation.pool import WorkerPool
from rlnas.evaluation.predicting import SurrogateEvaluator, SurrogateRanker
from rlnas.evaluation.queue import JobLimits
from rlnas.evaluation.records import Record
from rlnas.evaluation.reference import evaluate_reference, evaluate_start, train_start
from rlnas.evaluation.scoring import ZeroCostEvaluator
from rlnas.evaluation.screening import Ranker, ScoreRanker, Screen
from rlnas.evaluation.service import OnResult, Service
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.store import Store
from rlnas.evaluation.surrogate import Surrogate
from rlnas.evaluation.tabular import Entry, Table, TabularEvaluator, nas_bench_201_table
from rlnas.evaluation.times import Interval, busy_time
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.rewards import Reference

EVALUATORS: dict[str, Callable[..., Evaluator]] = {
    "training": TrainingEvaluator,
    "zero_cost": ZeroCostEvaluator,
    "surrogate": SurrogateEvaluator,
    "tabular": TabularEvaluator,
}
"""All evaluators by name."""

__all__ = [
    "BACKENDS",
    "EVALUATORS",
    "Candidate",
    "CellTable",
    "Entry",
    "Evaluation",
    "Evaluator",
    "Executor",
    "Halving",
    "InlineExecutor",
    "Interval",
    "Job",
    "JobLimits",
    "Layer",
    "Metrics",
    "OnResult",
    "Outcome",
    "Ranker",
    "RayExecutor",
    "Record",
    "Reference",
    "ScoreRanker",
    "Screen",
    "Service",
    "StartLibrary",
    "Store",
    "Surrogate",
    "SurrogateEvaluator",
    "SurrogateRanker",
    "Table",
    "TabularEvaluator",
    "TrainingEvaluator",
    "WorkerPool",
    "ZeroCostEvaluator",
    "build",
    "busy_time",
    "evaluate_control",
    "evaluate_reference",
    "evaluate_start",
    "full",
    "load_nas_bench_201",
    "make_evaluator",
    "make_executor",
    "make_layers",
    "nas_bench_201_table",
    "rank_by",
    "train_start",
]
