"""An evaluator of one's own: accuracy on inputs with noise, after a short training.

``own_evaluator:NoisyAccuracy`` names it, wherever this folder can be imported from: see own_code.py.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from rlnas.evaluation import Evaluation, TrainingEvaluator
from rlnas.graph import Graph
from rlnas.network import Network
from rlnas.tasks import Task


class NoisyAccuracy:
    """Trains as rlnas does, and scores on the validation split with noise of a given deviation on every input."""

    deterministic = True

    def __init__(self, task: Task, noise: float = 0.3, epochs: float = 1.0) -> None:
        self.split, self.noise, self.training = task.validation, noise, TrainingEvaluator(task, epochs=epochs)

    @property
    def recipe(self) -> str:  # whatever changes the result must be in here: it is part of the cache's key
        return json.dumps(["noisy accuracy", self.noise, self.training.recipe])

    def work(self, graph: Graph) -> float:
        return self.training.work(graph)

    def evaluate(self, network: Network, *, seed: int) -> Evaluation:
        done = self.training.evaluate(network, seed=seed)
        if done.metrics is None or done.trained is None:
            return done
        noise = torch.randn(self.split.inputs.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            logits = done.trained.module().eval()(self.split.inputs + self.noise * noise)
        accuracy = float((logits.argmax(1) == self.split.targets).double().mean())
        return replace(done, metrics=replace(done.metrics, accuracy=accuracy))
