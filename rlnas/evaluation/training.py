"""The evaluator that trains: a short schedule from inherited weights, then accuracy on held-out samples."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Final, Literal, cast

import torch
from torch import Tensor

from rlnas.errors import ConfigError, EvaluationError, unknown_name
from rlnas.evaluation.build import check_fits, plain_copy
from rlnas.evaluation.distillation import check_distillation, distilled
from rlnas.evaluation.fitting import (
    Diverged,
    Loss,
    Schedule,
    fit,
    inference_batch,
    predict,
    reestimate_batch_norm,
    seeded,
)
from rlnas.evaluation.metrics import Evaluation, Metrics, Setting
from rlnas.graph import Graph
from rlnas.latency import torch_threads
from rlnas.network import Network
from rlnas.tasks import Task

VERSION = 1
HYPER_PARAMETERS: Final = ("optimizer", "learning_rate", "weight_decay", "batch_size", "momentum", "warmup")
"""Settings that a candidate may have of its own."""


@dataclass(frozen=True)
class TrainingEvaluator:
    """Trains a network from the weights it has, on one thread, and scores it.

    The same network and seed give the same weights and accuracy, bit by bit, in any process on the same machine.

    Attributes:
        task: Data, loss and accuracy.
        epochs: Passes over the training inputs; may be fractional.
        batch_size: Samples in a step.
        optimizer: ``"sgd"`` (with Nesterov momentum) or ``"adamw"``.
        learning_rate: Highest learning rate of a cosine schedule.
        momentum: SGD's momentum, AdamW's first beta.
        weight_decay: Added to the gradient by SGD, decoupled in AdamW.
        warmup: Share of the steps in which the learning rate rises linearly.
        clip_norm: Largest norm of the gradient.
        fit: What to train on: ``"train"`` or ``"train+validation"``.
        score: What to score on: ``"validation"`` or ``"test"``.
        distill: Share of the loss that the teacher's outputs give; 0 trains on the labels alone.
        temperature: What the outputs of both are divided by before they are compared.
        teacher: Network to learn from; by default the start network of each candidate.

    Raises:
        ConfigError: If a value is out of range, or a split is both trained and scored on.
    """

    deterministic: ClassVar[bool] = True

    task: Task
    epochs: float = 3.0
    batch_size: int = 32
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.05
    clip_norm: float = 5.0
    fit: Literal["train", "train+validation"] = "train"
    score: Literal["validation", "test"] = "validation"
    distill: float = 0.0
    temperature: float = 4.0
    teacher: Network | None = None

    def __post_init__(self) -> None:
        check_distillation(self.distill, self.temperature, self.teacher)
        if self.fit not in ("train", "train+validation"):
            raise ConfigError(f"fit={self.fit!r} must be 'train' or 'train+validation'")
        if self.score not in ("validation", "test"):
            raise ConfigError(f"score={self.score!r} must be 'validation' or 'test'")
        if self.fit == "train+validation" and self.score == "validation":
            raise ConfigError("fit='train+validation' trains on what score='validation' scores; use score='test'")
        self.schedule  # noqa: B018  (validates)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # without what was prepared

    @cached_property
    def schedule(self) -> Schedule:
        """How networks are trained."""
        return Schedule(
            epochs=float(self.epochs),
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            learning_rate=float(self.learning_rate),
            momentum=float(self.momentum),
            weight_decay=float(self.weight_decay),
            warmup=float(self.warmup),
            clip_norm=float(self.clip_norm),
        )

    @cached_property
    def recipe(self) -> str:
        """Canonical JSON of all settings but the task, which has a key of its own."""
        settings = {name: float(v) if isinstance(v, int) else v for name, v in asdict(self.schedule).items()}
        recipe = {"evaluator": "training", "version": VERSION, "fit": self.fit, "score": self.score, **settings}
        if self.distill:
            recipe |= {"distill": float(self.distill), "temperature": float(self.temperature)}
        if self.teacher is not None:
            recipe["teacher"] = self.teacher.content_hash
        return json.dumps(recipe, sort_keys=True)

    def work(self, graph: Graph) -> float:
        """Multiply-accumulates of training and scoring, without the teacher's."""
        data = len(self._training_data[1])
        norms = any(node.op.startswith("batch_norm") for node in graph.nodes)
        steps = self.schedule.steps(data) * min(self.batch_size, data)
        return float(graph.macs * (3 * steps + data * norms + len(self._scoring_data[1])))

    def taught_by(self, start: Network) -> TrainingEvaluator:
        """The evaluator of candidates of that start network: it distills from it, if it distills and has no teacher."""
        if not self.distill or self.teacher is not None:
            return self
        if self._taught.get("start") is not start:
            self._taught["start"] = start
            self._taught["evaluator"] = replace(self, teacher=start)
        taught: TrainingEvaluator = self._taught["evaluator"]
        return taught

    def tuned(self, settings: Mapping[str, Setting]) -> TrainingEvaluator:
        """The evaluator with these hyper-parameters, on the same prepared data.

        Raises:
            ConfigError: If one is unknown or out of range.
        """
        key = tuple(sorted(settings.items()))
        if key not in self._tuned:
            for name in settings:
                if name not in HYPER_PARAMETERS:
                    raise ConfigError(unknown_name("hyper-parameter of training", name, HYPER_PARAMETERS))
            other = replace(self, **cast(dict[str, Any], dict(settings)))
            other.__dict__["_origin"] = self
            self._tuned[key] = other
        return self._tuned[key]

    @cached_property
    def _tuned(self) -> dict[tuple[tuple[str, Setting], ...], TrainingEvaluator]:
        return {}

    @cached_property
    def _taught(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _lesson(self) -> tuple[Loss, Tensor]:
        """The loss and the targets to train on."""
        inputs, targets = self._training_data
        if not self.distill:
            return self.task.loss, targets
        if self.teacher is None:
            raise EvaluationError("distillation needs a teacher: evaluate through a service, or give one: teacher=...")
        return distilled(
            self.task.loss, targets, inputs, self.teacher, share=self.distill, temperature=self.temperature
        )

    @cached_property
    def _origin(self) -> TrainingEvaluator | None:
        """Whose prepared data it uses."""
        return None

    @cached_property
    def _training_data(self) -> tuple[Tensor, Tensor]:
        if self._origin is not None:
            return self._origin._training_data
        splits = [self.task.train, self.task.validation] if self.fit == "train+validation" else [self.task.train]
        inputs, targets = (
            torch.cat(list(parts)) for parts in zip(*((s.inputs, s.targets) for s in splits), strict=True)
        )
        return plain_copy(inputs), plain_copy(targets)

    @cached_property
    def _scoring_data(self) -> tuple[Tensor, Tensor]:
        if self._origin is not None:
            return self._origin._scoring_data
        split = self.task.test if self.score == "test" else self.task.validation
        return plain_copy(split.inputs), plain_copy(split.targets)

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        """Train a copy and score it.

        Args:
            seed: Decides the order of the samples and what dropout drops.

        Raises:
            EvaluationError: If the network does not fit the task.
        """
        graph, task = network.graph, self.task
        check_fits(graph, task)
        started = time.perf_counter()
        inputs, _ = self._training_data
        batch = inference_batch(graph.peak_memory_bytes)
        with torch_threads(1), seeded(seed):
            loss, targets = self._lesson
            module = network.module()
            generator = torch.Generator().manual_seed(seed)
            try:
                fit(module, inputs, targets, loss=loss, schedule=self.schedule, generator=generator)
                reestimate_batch_norm(module, inputs, batch_size=batch)
                held_out, labels = self._scoring_data
                accuracy = task.accuracy(predict(module, held_out, batch_size=batch), labels)
            except Diverged as error:
                return Evaluation.failed(str(error))
            trained = network.with_tensors({name: plain_copy(tensor) for name, tensor in module.state_dict().items()})
        metrics = Metrics.of_graph(
            graph,
            accuracy=accuracy,
            cost_s=time.perf_counter() - started,
            epochs=float(self.epochs),
            inherited_epochs=network.epochs,
        )
        epochs = None if network.epochs is None else network.epochs + float(self.epochs)
        return Evaluation(metrics, trained=replace(trained, epochs=epochs))
