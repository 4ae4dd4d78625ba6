"""Evaluation of candidate networks: evaluators, the service that runs them, and the store that keeps the results."""

from __future__ import annotations

from collections.abc import Callable

from rlnas.evaluation.build import build
from rlnas.evaluation.jobs import Executor, InlineExecutor, Job, Outcome
from rlnas.evaluation.metrics import Candidate, Evaluation, Evaluator, Metrics
from rlnas.evaluation.pool import WorkerPool
from rlnas.evaluation.queue import JobLimits
from rlnas.evaluation.records import Record
from rlnas.evaluation.reference import evaluate_start, train_start
from rlnas.evaluation.scoring import ZeroCostEvaluator
from rlnas.evaluation.service import OnResult, Service
from rlnas.evaluation.starts import StartLibrary
from rlnas.evaluation.store import Store
from rlnas.evaluation.times import Interval, busy_time
from rlnas.evaluation.training import TrainingEvaluator
from rlnas.rewards import Reference

EVALUATORS: dict[str, Callable[..., Evaluator]] = {"training": TrainingEvaluator, "zero_cost": ZeroCostEvaluator}
"""All evaluators by name."""

__all__ = [
    "EVALUATORS",
    "Candidate",
    "Evaluation",
    "Evaluator",
    "Executor",
    "InlineExecutor",
    "Interval",
    "Job",
    "JobLimits",
    "Metrics",
    "OnResult",
    "Outcome",
    "Record",
    "Reference",
    "Service",
    "StartLibrary",
    "Store",
    "TrainingEvaluator",
    "WorkerPool",
    "ZeroCostEvaluator",
    "build",
    "busy_time",
    "evaluate_start",
    "train_start",
]
