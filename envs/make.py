"""A problem from names and numbers: what `gymnasium.make` and the command line both use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rlnas.envs.build_problem import BuildProblem, make_networks
from rlnas.envs.morph_problem import MorphProblem
from rlnas.errors import ConfigError, unknown_name
from rlnas.evaluation import (
    Evaluator,
    JobLimits,
    Service,
    StartLibrary,
    Store,
    TrainingEvaluator,
    make_evaluator,
    make_executor,
    make_layers,
    rank_by,
    train_start,
)
from rlnas.graph import Graph
from rlnas.importing import is_import_path
from rlnas.interchange import from_module
from rlnas.latency import Meter, TorchMeter, is_deterministic
from rlnas.network import Network
from rlnas.rewards import Reference, make_reward
from rlnas.spaces import (
    MAKERS,
    BuildSpace,
    Choice,
    Limits,
    LimitSetting,
    Maker,
    MorphSpace,
    Variant,
    conv_stages,
    default_variants,
)
from rlnas.tasks import Task, load_task

START_NETWORKS = {"conv_stages": conv_stages}
"""Makers of start graphs by name, from (input shape, number of classes, stages, width)."""

SLOTS, SLOTS_PER_STEP = 48, 5
"""Least number of slots, and how many each edit of a larger start network may fill."""


def make_space(
    task: Task,
    *,
    start: Graph | None = None,
    space: str = "conv_stages",
    stages: int = 3,
    width: int = 8,
    variants: Sequence[Variant | str] | None = None,
    max_steps: int = 6,
    max_nodes: int | None = None,
    max_macs: LimitSetting = "4x",
    max_params: LimitSetting = None,
    max_predicted_ms: LimitSetting = None,
    max_memory_bytes: LimitSetting = None,
    min_macs: LimitSetting = None,
    min_params: LimitSetting = None,
    min_predicted_ms: LimitSetting = None,
    min_memory_bytes: LimitSetting = None,
    enforce: str = "mask",
    predict: Callable[[Graph], float] | None = None,
) -> MorphSpace:
    """A space of edits of a start network for a task.

    Args:
        start: The start network's architecture; in its place ``space``, ``stages`` and ``width`` make one.
        space: Kind of start network.
        variants: Operators with amounts, such as ``["widen 1.5", "deepen 3"]``; an operator of your own is named by its
            import path, ``"package.module:name 2"``; by default those that suit the start.
        max_nodes: Slots for nodes; by default 48, or as many as the start has and 5 for each step.
        max_macs: Limit on multiply-accumulates: a number, ``"4x"`` the start network's, or ``"60%"`` of it.
        max_params: Limit on parameters, in the same forms.
        max_predicted_ms: Limit on the latency that ``predict`` gives, in the same forms.
        max_memory_bytes: Limit on the activations alive at once for one sample, in the same forms.
        min_macs: Lower limit on multiply-accumulates, in the same forms, like those that follow.
        min_params: On parameters.
        min_predicted_ms: On predicted latency.
        min_memory_bytes: On activations.
        enforce: What is done about limits: ``"mask"``, ``"reject"`` or ``"penalty"``; see `MorphSpace`.
        predict: Latency of an architecture in milliseconds.

    Raises:
        ConfigError: If a name or a setting is not known, or the start network does not fit the task.
        LimitError: If no network within ``max_steps`` edits meets the limits.
    """
    if space not in START_NETWORKS:
        raise ConfigError(unknown_name("space", space, [*START_NETWORKS, *MAKERS]))
    if start is None:
        start = START_NETWORKS[space](task.input_shape, task.n_classes, stages=stages, width=width)
    check_fit(start, task)
    chosen = default_variants(start) if variants is None else tuple(_variant(v) for v in variants)
    limits = Limits.resolve(
        start,
        max_macs=max_macs,
        max_params=max_params,
        max_predicted_ms=max_predicted_ms,
        max_memory_bytes=max_memory_bytes,
        min_macs=min_macs,
        min_params=min_params,
        min_predicted_ms=min_predicted_ms,
        min_memory_bytes=min_memory_bytes,
        predict=predict,
    )
    if max_nodes is None:
        max_nodes = max(SLOTS, len(start) + SLOTS_PER_STEP * max_steps)
    return MorphSpace(start, chosen, max_steps=max_steps, max_nodes=max_nodes, limits=limits, enforce=enforce)


def check_fit(graph: Graph, task: Task) -> None:
    """Raise if a network does not go from the task's inputs to its classes.

    Raises:
        ConfigError: If it does not.
    """
    takes, gives = tuple(task.input_shape), (task.n_classes,)
    if graph.input_shape != takes or graph.output_shape != gives or graph.input["dtype"] != "float32":
        raise ConfigError(
            f"the start network goes from {graph.input['dtype']} of shape {graph.input_shape} to {graph.output_shape}, "
            f"the task {task.name!r} from float32 of shape {takes} to {gives}"
        )


def make_problem(
    task: str | Task = "digits",
    *,
    start: Network | Graph | nn.Module | str | Path | Mapping[str, Choice] | None = None,
    task_options: dict[str, Any] | None = None,
    evaluator: Evaluator | str = "training",
    evaluator_options: dict[str, Any] | None = None,
    epochs: float = 3,
    batch_size: int = 32,
    optimizer: str = "adamw",
    learning_rate: float = 0.01,
    weight_decay: float = 0.01,
    start_epochs: float = 3,
    start_evaluations: int = 8,
    distill: float = 0.0,
    temperature: float | None = None,
    table: str | Path | None = None,
    halving: float | None = None,
    rounds: int | None = None,
    screen: str | None = None,
    keep: float | None = None,
    control: bool = False,
    reward: str = "tangent",
    cost: str = "macs",
    target: float | None = None,
    target_ms: float | None = None,
    max_latency_ms: float | None = None,
    reward_options: dict[str, Any] | None = None,
    step_reward: str = "end",
    discount: float | None = None,
    meter: Meter | None = None,
    workers: int = 0,
    backend: str = "processes",
    address: str | None = None,
    time_limit_s: float | None = None,
    memory_limit_mb: float | None = None,
    retries: int = 1,
    store: str | Path | None = None,
    weights_mb: float = 0.0,
    starts: str | Path | None = None,
    run: str | None = None,
    seed: int = 0,
    **space: Any,
) -> MorphProblem | BuildProblem:
    """Put a problem together; nothing is trained before the first episode ends.

    A space of edits makes a `MorphProblem`, a space of decisions, by the name of its maker, a `BuildProblem`.

    Args:
        task: Name of a task, or the task.
        start: Network that episodes start from: with its weights, which are then trained for ``start_epochs`` more, a
            module of your own, or a folder that holds a network; or an architecture alone. By default one is made. Of a
            space of decisions, the choices of the reference network, by decision.
        task_options: Options of a task given by name.
        evaluator: Judges candidates: ``"training"`` for ``epochs`` from the inherited weights, ``"tabular"`` by looking
            them up, or an evaluator of your own: itself, or the import path ``package.module:name`` of a class or
            function that takes the task and gives one.
        evaluator_options: Further arguments of an evaluator given by its import path.
        start_epochs: Passes that train the start network first; 0 takes it as it is. Of a space of decisions, only
            where the reference network is to be a teacher.
        start_evaluations: Evaluations of the start network, which rewards are relative to.
        distill: Share of the training loss that the start network's outputs give.
        temperature: What outputs are divided by before they are compared; 4 by default.
        table: File of the evaluator ``"tabular"``.
        halving: Of so many networks of a batch, one goes on to be trained so many times longer, up to ``epochs``.
        rounds: Rounds of trainings, with ``halving``; 3 by default.
        screen: A zero-cost score or vote, or ``"surrogate"``: what chooses the candidates that are trained.
        keep: Share of new candidates that pass the screen; 0.5 by default.
        control: Pay for what is better than the start network trained on for as long as the candidate has been.
        reward: Name of a reward, one of `rlnas.rewards.REWARDS`.
        cost: ``"macs"`` (deterministic), ``"n_params"`` or ``"latency_ms"``.
        target: Target of a cost that is not latency.
        target_ms: Target latency.
        max_latency_ms: Limit on measured latency.
        reward_options: Constants of the reward, instead of its own.
        step_reward: When it is paid: at the ``"end"``; or at every step too, by the network's ``"cost"``, or since it
            is ``"evaluated"``, so that returns stay what they are.
        discount: That of the learner, with another ``step_reward`` than ``"end"``; 1 by default.
        meter: Measures latency, or knows it; PyTorch on the CPU by default, where the reward needs it.
        workers: Processes that train candidates; 0 trains in this process.
        backend: Where they are: ``"processes"`` of this machine, or ``"ray"``.
        address: A running Ray cluster; by default one is started on this machine.
        time_limit_s: Seconds after which an evaluation is given up (with workers only, like what follows).
        memory_limit_mb: Megabytes that the process of an evaluation may take.
        retries: How often an evaluation is tried again whose process died.
        store: SQLite file of evaluations; in memory by default.
        weights_mb: Megabytes of trained weights that the store keeps.
        starts: Folder of start networks; in memory by default.
        run: Name under which the store notes evaluations.
        seed: Seed of the start network.
        **space: Arguments of `make_space`, or of `rlnas.envs.build_problem.make_networks`.

    Raises:
        ConfigError: If a name or a setting is not known.
        GraphError: If the start network cannot be taken in.
        LimitError: If no network in the space meets the limits.
        TaskError: If the data cannot be read.
    """
    if isinstance(task, str):
        task = load_task(task, **(task_options or {}))
    elif task_options:
        raise ConfigError("task_options go with the name of a task, not with a task")
    if meter is not None and is_deterministic(meter):
        space.setdefault("predict", meter.graph_ms)
    recipe: dict[str, Any] = {
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
    }
    begin: Network | Graph
    chosen: MorphSpace | BuildSpace
    if makes_networks(space.get("space")):
        if start is not None and not isinstance(start, Mapping):
            raise ConfigError("start is here what the reference network chooses, by the names of the decisions")
        chosen = make_networks(task, start=start, usual=recipe, **space)
        begin, seed_of_start, start_epochs = chosen.start, 0, start_epochs if distill else 0
    else:
        if isinstance(start, Mapping):
            raise ConfigError("start is here a network, not choices; name a space of decisions: space='chain'")
        given = _start(start, task)
        known = {*signature(make_problem).parameters, *signature(make_space).parameters}
        for name in space:
            if name not in known:
                raise ConfigError(unknown_name("setting", name, known))
        chosen = make_space(task, start=given.graph if isinstance(given, Network) else given, **space)
        begin, seed_of_start = given if isinstance(given, Network) else chosen.start, seed
    reward_of = partial(
        make_reward,
        reward,
        cost=cost,
        target=target,
        target_ms=target_ms,
        max_latency_ms=max_latency_ms,
        options=reward_options,
    )
    supposed = reward_of(reference=Reference((0.5,), 1.0, 1, 1))  # refuses what cannot be, before anything is trained
    if meter is None and supposed.needs_latency:
        meter = TorchMeter()
    limits = JobLimits(time_limit_s=time_limit_s, memory_limit_mb=memory_limit_mb, retries=retries)
    if isinstance(evaluator, str):
        training = {"epochs": epochs, **recipe}
        evaluator = make_evaluator(
            evaluator,
            task,
            training=training,
            options=evaluator_options,
            distill=distill,
            temperature=temperature,
            table=table,
        )
    elif distill or temperature is not None or table is not None or evaluator_options:
        raise ConfigError(
            "distill, temperature, table and evaluator_options go with the name of an evaluator, not with an evaluator"
        )
    if control and not isinstance(evaluator, TrainingEvaluator):
        raise ConfigError("control=true trains the start network on, and this evaluator does not train")
    service = Service(
        evaluator,
        task,
        starts=StartLibrary(starts),
        store=Store(store, weights_mb=weights_mb),
        executor=make_executor(backend, workers=workers, address=address, limits=limits),
        meter=meter,
        run=run,
    )
    layered = make_layers(service, halving=halving, rounds=rounds, screen=screen, keep=keep)
    paid: dict[str, Any] = {
        "service": layered,
        "make_start": partial(train_start, begin, task, seed=seed_of_start, epochs=start_epochs, **recipe),
        "make_reward": reward_of,
        "seed": seed,
        "start_evaluations": start_evaluations,
        "control": control,
        "step_reward": step_reward,
        "discount": discount,
    }
    problem: MorphProblem | BuildProblem
    if isinstance(chosen, BuildSpace):
        if chosen.networks.training and screen == "surrogate":
            raise ConfigError("screen=surrogate learns from networks alone, and here training is decided too")
        problem = BuildProblem(space=chosen, **paid)
    else:
        problem = MorphProblem(space=chosen, **paid)
    rank_by(layered, problem.worth)
    return problem


def make_morph_problem(**settings: Any) -> MorphProblem:
    """`make_problem` of a space of edits.

    Raises:
        ConfigError: If the space is one of decisions, or for what `make_problem` raises.
    """
    if makes_networks(settings.get("space")):
        raise ConfigError(f"space={settings['space']!r} is a space of decisions: make rlnas/Build-v0 of it")
    problem = make_problem(**settings)
    assert isinstance(problem, MorphProblem)
    return problem


def makes_networks(space: str | Callable[..., Maker] | None) -> bool:
    """True for a space of decisions that make networks: the name of a maker, or one of your own or its import path."""
    return space in MAKERS or is_import_path(space) if isinstance(space, str) else callable(space)


def _start(given: Network | Graph | nn.Module | str | Path | None, task: Task) -> Network | Graph | None:
    """The network or architecture that was given, networks in float32."""
    if isinstance(given, nn.Module):
        given = from_module(given, task.train.inputs[:1])
    elif isinstance(given, str | Path):
        given = Network.load(given)
    return given.to(torch.float32) if isinstance(given, Network) else given


def _variant(text: Variant | str) -> Variant:
    if isinstance(text, Variant):
        return text
    words = text.split()
    try:
        return Variant(words[0], float(words[1]))
    except (IndexError, ValueError):
        raise ConfigError(f"{text!r} is not an operator with its amount; write for example 'widen 1.5'") from None
