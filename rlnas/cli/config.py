"""The settings of a search, as types; their values lie in YAML files under ``configs/``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class TaskSettings:
    """The data.

    Attributes:
        name: A task: digits, fashion_mnist or npz; or nas_bench_201, where results are looked up.
        path: File or folder of the data, for tasks that need one.
        options: Further options of the task, such as ``{train_size: 10000}``.
    """

    name: str = "digits"
    path: str | None = None
    options: dict[str, Any] | None = None


@dataclass
class SpaceSettings:
    """Where an episode starts, and what it may do.

    Attributes:
        start: A network of your own to start from, with its weights: a folder that holds one, a run's directory, or a
            module in your own code (net.py:Net, package.module:factory, 'net.py:Net(10, width=64)'; runs that code).
        start_weights: File with the state_dict of that module.
        name: Kind of start network: conv_stages; or a space of decisions that make networks: chain, nasnet, mnasnet,
            nas_bench_201, or one of your own by its import path, ``package.module:name``.
        options: Of a space of decisions: its sizes, form, start and training, such as ``{layers: 4}``.
        stages: Stages of the start network.
        width: Channels of the start network.
        variants: Operators and amounts to choose from, such as ``["widen 1.5", "deepen 3"]``, one of your own by its
            import path, ``"package.module:name 2"``; by default those that suit the start network.
        max_steps: Edits in one episode at most.
        max_nodes: Nodes of a network at most; by default 48, or as many as the start has and 5 for each step.
        max_macs: Limit on multiply-accumulates: a number, ``4x`` the start network's (of a space of decisions the
            reference network's), or ``60%`` of it.
        max_params: Limit on parameters, in the same forms.
        promote_every: Evaluations after which the best network since, as trained, becomes the start of all further
            episodes, if it is better than the start was; by default the start stays.
        max_predicted_ms: Limit on the latency that a table or a predictor gives (latency.meter), in the same forms.
        max_memory_bytes: Limit on the activations alive at once for one sample, in the same forms.
        min_macs: Lower limit on multiply-accumulates, in the same forms.
        min_params: Lower limit on parameters.
        min_predicted_ms: Lower limit on predicted latency.
        min_memory_bytes: Lower limit on activations.
        enforce: What is done about these limits: mask (actions that break them for good are illegal), reject (networks
            that break them are not evaluated, for which reinforce corrects its gradient and ppo does not) or penalty
            (they are evaluated and paid less).
    """

    start: str | None = None
    start_weights: str | None = None
    name: str = "conv_stages"
    options: dict[str, Any] | None = None
    stages: int = 3
    width: int = 8
    variants: list[str] | None = None
    max_steps: int = 6
    max_nodes: int | None = None
    max_macs: int | str | None = "4x"
    max_params: int | str | None = None
    promote_every: int | None = None
    max_predicted_ms: float | str | None = None
    max_memory_bytes: int | str | None = None
    min_macs: int | str | None = None
    min_params: int | str | None = None
    min_predicted_ms: float | str | None = None
    min_memory_bytes: int | str | None = None
    enforce: Literal["mask", "reject", "penalty"] = "mask"


@dataclass
class EvaluationSettings:
    """How a network is judged during the search.

    Attributes:
        epochs: Passes over the training split from the inherited weights.
        batch_size: Samples in a step of training.
        learning_rate: Highest learning rate of the cosine schedule.
        weight_decay: Decay of the weights.
        optimizer: ``sgd`` (with Nesterov momentum) or ``adamw``.
        workers: Processes that train candidates; 0 trains in the main process.
        backend: Where they are: ``processes`` of this machine, or ``ray`` (needs rlnas[ray]).
        address: A running Ray cluster, such as ``auto`` or ``10.0.0.1:6379``; without it one is started here.
        time_limit_s: Seconds after which an evaluation is given up; needs workers, like the next two.
        memory_limit_mb: Megabytes that the process of an evaluation may take; beyond it the evaluation fails.
        retries: How often an evaluation is tried again whose process died.
        lag: Evaluations of a batch that the controller does not wait for; they enter its next update. Needs a reward
            without latency, and makes a search depend on timing: the same seed no longer gives the same search.
        start_epochs: Passes that train the start network first; with 0 a network of your own is taken as it is.
        start_evaluations: Evaluations of the start network that the reward refers to.
        name: ``training``, or ``tabular`` to look accuracies up; or an evaluator of your own: the import path
            ``package.module:name`` of a class or function that takes the task and gives one.
        options: Further arguments of an evaluator of your own, such as ``{folds: 3}``.
        table: File of the table, as `rlnas.evaluation.Table` writes it.
        distill: Share of the training loss that the start network's outputs give.
        temperature: What outputs are divided by before they are compared, in distillation; 4 by default.
        halving: Successive halving: of so many networks of a batch, one goes on to be trained so many times longer.
        rounds: Rounds of successive halving, the last of which trains for ``epochs``; 3 by
            default.
        screen: What chooses the networks that are trained: a zero-cost score or vote, such as az_nas or synflow, or
            surrogate.
        keep: Share of new networks that passes the screen; 0.5 by default.
        control: Pay for, and report, what is better than the start network trained on for as long without an edit.
    """

    epochs: float = 3
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 0.01
    optimizer: Literal["sgd", "adamw"] = "adamw"
    workers: int = 2
    backend: Literal["processes", "ray"] = "processes"
    address: str | None = None
    time_limit_s: float = 120
    memory_limit_mb: float | None = None
    retries: int = 1
    lag: int = 0
    start_epochs: float = 3
    start_evaluations: int = 8
    name: str = "training"
    options: dict[str, Any] | None = None
    table: str | None = None
    distill: float = 0
    temperature: float | None = None
    halving: float | None = None
    rounds: int | None = None
    screen: str | None = None
    keep: float | None = None
    control: bool = False


@dataclass
class LatencySettings:
    """How latency is measured. A setting left at null is the meter's own default; each meter knows some of them.

    Attributes:
        meter: torch_cpu, torch_cuda, onnx_cpu, command, or table and predictor, which measure nothing.
        batch_size: Samples in one call.
        threads: Threads that the runtime computes with.
        dtype: float32, bfloat16 or float16.
        warmup: Calls before the first timed one, at least 10.
        repeats: Fewest timed rounds, at least 30; runs of a command for each network.
        precision: Half of the 95 % interval, relative to the latency, that is narrow enough; 0.02 by default.
        max_time_s: Longest time for one network; 0.5 by default.
        replay: Replay a captured CUDA graph.
        command: Command line that prints milliseconds, such as ``ssh pi measure {onnx}``; also ``{python}``,
            ``{weights}`` and ``{batch_size}``.
        timeout_s: Seconds after which a run of the command is given up.
        wait_s: Seconds to wait for another process of this machine that measures.
        table: File that ``rlnas latency build-table`` wrote.
        predictor: File that ``rlnas latency fit`` wrote.
    """

    meter: str = "torch_cpu"
    batch_size: int | None = None
    threads: int | None = None
    dtype: str | None = None
    warmup: int | None = None
    repeats: int | None = None
    precision: float | None = None
    max_time_s: float | None = None
    replay: bool | None = None
    command: str | None = None
    timeout_s: float | None = None
    wait_s: float | None = None
    table: str | None = None
    predictor: str | None = None


@dataclass
class RewardSettings:
    """What the controller is paid for.

    Attributes:
        name: tangent, mnasnet_soft, mnasnet_hard, proxylessnas, rena, tunas, weighted_sum, amc_error, amc_cost, n2n,
            rank or hypervolume.
        cost: The cost that counts: latency_ms, macs or n_params.
        target_ms: Target latency; beyond it the reward falls steeply.
        target: Target of a cost that is not latency.
        max_latency_ms: Limit on measured latency; a network above it is never the best.
        options: Constants of the reward, such as ``{beta: -0.2}``; by default those of the paper it comes from.
        step: When it is paid: at the ``end``; or at every step too, by the ``cost`` of the network so far, or since
            that is ``evaluated``. The returns of episodes stay what they are, and so do the best policies.
    """

    name: str = "tangent"
    cost: str = "latency_ms"
    target_ms: float | None = None
    target: float | None = None
    max_latency_ms: float | None = None
    options: dict[str, Any] | None = None
    step: Literal["end", "cost", "evaluated"] = "end"


@dataclass
class ControllerSettings:
    """Who searches. A setting left at null is the controller's own default.

    Attributes:
        name: ppo, recurrent_ppo, reinforce, imagination, random, local_search, evolution, tpe or largest.
        n_envs: Episodes in one batch.
        learning_rate: Step size of the policy's optimizer.
        ent_coef: Weight of the entropy bonus.
        n_epochs: Passes over a rollout (ppo).
        preset: Arguments of a published controller, such as zoph, enas or eas; what is given beside it goes before.
        init_from: A run directory, or a checkpoint folder in one, whose policy's weights the controller begins with.
        init_part: What is taken of them: policy, or encoder to leave out what depends on the actions.
        arguments: Further arguments of the controller.
    """

    name: str = "ppo"
    n_envs: int = 10
    learning_rate: float | None = None
    ent_coef: float | None = None
    n_epochs: int | None = None
    preset: str | None = None
    init_from: str | None = None
    init_part: Literal["policy", "encoder"] = "policy"
    arguments: dict[str, Any] | None = None


@dataclass
class FinalSettings:
    """What happens after the search.

    Attributes:
        candidates: Best evaluations that are evaluated again.
        seeds: Fresh seeds for each of them.
        epochs: Passes over training and validation data that the winners are trained for.
        random_baseline: Also run random search with as many evaluations, and compare with its winner.
    """

    candidates: int = 5
    seeds: int = 3
    epochs: float = 25
    random_baseline: bool = True


@dataclass
class TrackingSettings:
    """Where the run is logged beside ``events.jsonl``.

    Attributes:
        mode: W&B's mode: offline, online or disabled. By default WANDB_MODE, else online under a sweep agent, else
            offline.
        project: W&B project.
    """

    mode: Literal["offline", "online", "disabled"] | None = None
    project: str = "rlnas"


@dataclass
class RunSettings:
    """Where the run's files go.

    Attributes:
        root: Folder of runs.
        name: Name of the run's directory; by default the config's name and a number.
        store: SQLite file of evaluations, which several runs may share; by default one in the run's directory.
        weights_mb: Megabytes of trained weights that the store keeps; the best network's are always kept.
        code: Folder that evaluators, operators and spaces of your own are imported from; by default the present one.
    """

    root: str = "runs"
    name: str | None = None
    store: str | None = None
    weights_mb: float = 256
    code: str | None = None


@dataclass
class SearchSettings:
    """A search.

    Attributes:
        evaluations: Networks that the controller may have evaluated.
        count: What counts as one: every episode, in whole batches (``all``), or ``distinct`` networks, where one that
            was met before is free.
        seed: Seed of the controller and of every evaluation.
        progress: Show a progress display.
    """

    evaluations: int = 150
    count: Literal["all", "distinct"] = "all"
    seed: int = 0
    progress: bool = True
    task: TaskSettings = field(default_factory=TaskSettings)
    space: SpaceSettings = field(default_factory=SpaceSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    latency: LatencySettings = field(default_factory=LatencySettings)
    reward: RewardSettings = field(default_factory=RewardSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    final: FinalSettings = field(default_factory=FinalSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    run: RunSettings = field(default_factory=RunSettings)
