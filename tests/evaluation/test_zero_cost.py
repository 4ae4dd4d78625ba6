from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from rlnas.errors import ConfigError, EvaluationError
from rlnas.evaluation import Candidate, Service, Store, ZeroCostEvaluator, evaluate_start
from rlnas.evaluation.scoring import score
from rlnas.evaluation.zero_cost import PASSES, SCORES, VOTES, Probe, needed_scores, standings
from rlnas.evaluation.zero_cost.blocks import between, block_ends
from rlnas.evaluation.zero_cost.ranks import log_ranks, majority, ranks
from rlnas.graph import Graph
from rlnas.interchange import from_module
from rlnas.network import Network, example_inputs
from rlnas.rewards import Reference, make_reward
from rlnas.spaces import conv_stages, nas_bench_201, nas_bench_201_blocks
from tests.evaluation.faults import library, start_network, tiny_task
from tests.graphs import graphs
from tests.networks import NETWORKS, enliven
from tests.spaces.test_nas_bench_201 import ALL3, text

cross_entropy = nn.functional.cross_entropy


def probe_of(graph: Graph, *, n: int = 12, seed: int = 0, **rest) -> Probe:
    generator = torch.Generator().manual_seed(100)
    inputs = torch.randn(n, *graph.input_shape, generator=generator)
    targets = torch.arange(n) % graph.output_shape[-1]
    return Probe(graph, inputs, targets, loss=cross_entropy, seed=seed, **rest)


def graph_of(module: nn.Module, *shape: int) -> Graph:
    torch.manual_seed(0)
    return from_module(module, torch.randn(2, *shape)).graph


@pytest.fixture(scope="module")
def task():
    return tiny_task()


CONVS = conv_stages((1, 8, 8), 2, stages=2, width=6)


# ------------------------------------------------------------------------------------------------------ single scores


@pytest.mark.parametrize("name", SCORES)
def test_a_score_depends_on_its_seed_alone(name: str) -> None:
    one, again, other = (score(probe_of(CONVS, seed=seed), (name,))[name] for seed in (1, 1, 2))
    assert math.isfinite(one) and one == again
    assert (one != other) == SCORES[name].varies
    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = score(probe_of(CONVS, seed=1), tuple(reversed(SCORES)))
    assert together[name] == one and torch.equal(before, torch.get_rng_state())
    assert SCORES[name].passes <= set(PASSES) and SCORES[name].deterministic


def test_synflow_is_the_flow_times_the_number_of_layers() -> None:
    probe = probe_of(CONVS)
    module = probe.module().double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
        for name, part in list(module.named_children()):
            if isinstance(part, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
        flow = module(torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum()
    assert score(probe, ("synflow",))["synflow"] == pytest.approx(math.log(3 * float(flow)))


def test_gradient_scores_are_those_of_plain_backpropagation() -> None:
    probe = probe_of(CONVS)
    module = probe.module()
    cross_entropy(module(probe.inputs), probe.targets).backward()
    layers = [module.conv1.weight, module.conv2.weight, module.linear1.weight]
    found = score(probe, ("grad_norm", "snip"))
    assert found["grad_norm"] == pytest.approx(sum(float(w.grad.norm()) for w in layers), rel=1e-5)
    assert found["snip"] == pytest.approx(sum(float((w * w.grad).detach().abs().sum()) for w in layers), rel=1e-5)


def test_jacob_cov_is_that_of_numpy() -> None:
    probe = probe_of(CONVS)
    inputs = probe.inputs.clone().requires_grad_()
    probe.module()(inputs).sum().backward()
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(inputs.grad.flatten(1).double().numpy())) + 1e-5
    wanted = -(np.log(eigenvalues) + 1 / eigenvalues).sum()
    assert score(probe, ("jacob_cov",))["jacob_cov"] == pytest.approx(wanted, rel=1e-3)


def test_naswot_counts_activations_that_switch_alike() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 7), nn.Linear(7, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.c(nn.functional.leaky_relu(self.b(torch.relu(self.a(x)))))

    probe = probe_of(graph_of(Net(), 5), n=6)
    module = probe.module()
    first = module.a(probe.inputs)
    codes = torch.cat([first > 0, module.b(first.relu()) > 0], dim=1).numpy()
    alike = (codes[:, None] == codes[None]).sum(axis=2)
    wanted = np.linalg.slogdet(alike + 1e-3 * np.eye(6))[1]
    assert score(probe, ("naswot",))["naswot"] == pytest.approx(wanted)


def test_expressivity_and_progressivity_of_known_spectra() -> None:
    graph = graph_of(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)), 8, 6, 6)
    probe = probe_of(graph, n=200)
    first, second = block_ends(graph)
    narrow = torch.zeros(8, 8)
    narrow[:, 0] = 1.0
    turned = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q
    tensors = dict(probe._network.tensors)
    tensors |= {f"{first}.weight": turned[:, :, None, None], f"{second}.weight": narrow[:, :, None, None]}
    probe._network = probe._network.with_tensors(tensors)
    found = score(probe, ("expressivity", "progressivity", "trainability"))
    assert found["expressivity"] == pytest.approx(math.log(8), abs=0.01)  # eight equal components, then a single one
    assert found["progressivity"] == pytest.approx(-math.log(8), abs=0.01)


@pytest.mark.parametrize("size", [0.25, 1.0, 2.0])
def test_trainability_is_best_where_gradients_keep_their_size(size: float) -> None:
    graph = graph_of(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)), 8, 10, 10)
    probe = probe_of(graph, n=200)
    turned = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0))).Q
    tensors = dict(probe._network.tensors) | {f"{block_ends(graph)[1]}.weight": size * turned[:, :, None, None]}
    probe._network = probe._network.with_tensors(tensors)
    assert score(probe, ("trainability",))["trainability"] == pytest.approx(2 - size - 1 / size, abs=0.15)


@pytest.mark.parametrize(
    ("name", "module", "shape", "said"),
    [
        ("naswot", nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 2)), (4,), "no ReLU"),
        ("grad_norm", nn.Sequential(nn.Sigmoid(), nn.Tanh()), (4,), "has none"),
        ("trainability", nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), (1, 8, 8), "no such value"),
        ("progressivity", nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 2)), (1, 8, 8), "single"),
    ],
)
def test_where_a_score_is_not_defined_it_says_why(name: str, module: nn.Module, shape: tuple, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        score(probe_of(graph_of(module, *shape)), (name,))


def test_a_network_that_ignores_its_input_has_no_jacobian() -> None:
    graph = nas_bench_201(text(*["none"] * 6), cells=1, channels=4)
    with pytest.raises(EvaluationError, match="do not depend on the inputs"):
        score(probe_of(graph), ("jacob_cov",))
    with pytest.raises(EvaluationError, match=r"flow through the network is 0\.0"):
        score(probe_of(graph), ("synflow",))
    assert math.isfinite(score(probe_of(graph), ("naswot",))["naswot"])


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "lenet_tanh",
        "densenet_narrow",
        "se_conv",
        "swin",
        "vit_narrow",
        "gpt_tied",
        "text_cnn",
    ],
)
def test_published_networks_have_scores_or_a_reason(name: str) -> None:
    fixture = NETWORKS[name]
    torch.manual_seed(0)
    module = enliven(fixture.make(), generator=torch.Generator().manual_seed(0))
    graph = from_module(module.eval(), fixture.example()).graph
    inputs = torch.cat([fixture.example()] * 3)
    if inputs.is_floating_point():
        inputs = inputs + torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1))
    probe = Probe(graph, inputs, torch.zeros(3), loss=lambda out, _: out.square().mean(), seed=0)
    for score_name in SCORES:
        try:
            assert math.isfinite(score(probe, (score_name,))[score_name])
        except EvaluationError as error:
            assert score_name not in ("n_params", "macs", "synflow", "grad_norm", "snip"), error
            assert "not defined" in str(error) or "no such value" in str(error)


@settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(graphs(dropout=True))
def test_any_graph_has_scores_or_a_reason(graph: Graph) -> None:
    inputs = example_inputs(graph, 4, generator=torch.Generator().manual_seed(0))
    probe = Probe(graph, inputs, torch.zeros(4), loss=lambda out, _: out.square().mean(), seed=0)
    for name in SCORES:
        try:
            assert math.isfinite(score(probe, (name,))[name])
        except EvaluationError as error:
            assert any(said in str(error) for said in ("not defined", "no such value", "has none", "overflow")), error


# ------------------------------------------------------------------------------------------------------------- blocks


def test_blocks_of_a_chain_end_where_the_next_layer_begins() -> None:
    assert block_ends(CONVS) == ("pool1", "relu2")
    assert block_ends(nas_bench_201(ALL3))[1:-1] == nas_bench_201_blocks(ALL3)[1:-1]


@pytest.mark.parametrize("name", ["resnet20", "vit_narrow"])
def test_blocks_together_are_the_network(name: str) -> None:
    fixture = NETWORKS[name]
    torch.manual_seed(0)
    network = from_module(enliven(fixture.make(), generator=torch.Generator().manual_seed(0)).eval(), fixture.example())
    ends = block_ends(network.graph)
    assert len(ends) > 3
    value, last = fixture.example(), None
    for end in (*ends, network.graph.output):
        value = between(network, last, end).module().eval()(value)
        last = end
    assert torch.allclose(value, network.module().eval()(fixture.example()), atol=1e-6)


def test_a_block_that_does_nothing_is_the_worst_to_train() -> None:
    cell = text("none", "none", "none", "skip_connect", "none", "none")
    probe = probe_of(nas_bench_201(cell, cells=2, channels=4), blocks=nas_bench_201_blocks(cell, cells=2, channels=4))
    assert -1e6 < score(probe, ("trainability",))["trainability"] < -1e5


# -------------------------------------------------------------------------------------------------------------- ranks


def test_equal_values_share_a_rank() -> None:
    assert ranks([3.0, 1.0, 3.0, 2.0]) == [3.5, 1.0, 3.5, 2.0]


def test_a_single_bad_rank_weighs_more_than_a_good_one() -> None:
    first, second, third = log_ranks([[3, 2, 1], [1, 2, 3]])
    assert second > first == third == pytest.approx(math.log(1 / 3))


def test_the_majority_decides() -> None:
    assert majority([[3, 2, 1], [3, 2, 1], [0, 1, 2]]) == [1.0, 0.5, 0.0]
    assert majority([[1, 1], [1, 1]]) == [0.5, 0.5]
    assert majority([[1]]) == [0]


@pytest.mark.parametrize("name", [*SCORES, *VOTES])
def test_standings_put_what_has_no_score_last(name: str) -> None:
    names = needed_scores([name])
    found = [dict.fromkeys(names, 1.0), None, dict.fromkeys(names, 2.0)]
    low, none, high = standings(name, found)
    assert none == -math.inf < low < high
    assert standings(name, [None]) == [-math.inf]


# ---------------------------------------------------------------------------------------------------------- evaluator


def test_weights_play_no_part_and_nothing_is_trained(task) -> None:
    network = start_network()
    other = network.with_tensors({name: tensor * 3 for name, tensor in network.tensors.items()})
    evaluator = ZeroCostEvaluator(task, scores=tuple(SCORES), batch_size=16)
    one, two, later = (evaluator.evaluate(n, seed=s) for n, s in ((network, 0), (other, 0), (network, 1)))
    assert one.metrics == two.metrics and one.metrics.scores != later.metrics.scores
    assert one.trained is None and one.metrics.accuracy is None and set(one.metrics.scores) == set(SCORES)
    assert evaluator.deterministic and one.metrics.epochs is None


def test_votes_are_kept_as_their_scores(task) -> None:
    found = ZeroCostEvaluator(task, scores=["az_nas", "synflow"], batch_size=8).evaluate(start_network(), seed=0)
    assert set(found.metrics.scores) == {"expressivity", "progressivity", "trainability", "macs", "synflow"}


def test_work_counts_shared_passes_once(task) -> None:
    graph = start_network().graph

    def work(*scores: str) -> float:
        return ZeroCostEvaluator(task, scores=scores, batch_size=10).work(graph) / graph.macs

    assert work("snip") == work("grad_norm") == work("snip", "grad_norm") == 30
    assert (work("macs"), work("synflow"), work("naswot"), work("az_nas"), work("vote")) == (0, 3, 10, 30, 63)
    assert ZeroCostEvaluator(task, scores=["naswot"], batch_size=1000).work(graph) == len(task.train) * graph.macs


def test_a_score_is_never_taken_for_an_accuracy(task) -> None:
    found = ZeroCostEvaluator(task, scores=["naswot"], batch_size=8).evaluate(start_network(), seed=0)
    reward = make_reward(reference=Reference((0.9,), 1.0, 100, 100), cost="macs")
    for use in (reward, reward.feasible, reward.vector, lambda metrics: Reference.from_metrics([metrics])):
        with pytest.raises(ConfigError, match="scores are no accuracies"):
            use(found.metrics)


def test_the_service_stores_scores_and_refuses_them_as_a_reference(task) -> None:
    start = start_network()
    service = Service(
        ZeroCostEvaluator(task, scores=["vote"], batch_size=8), task, starts=library(start), store=Store()
    )
    candidate = Candidate(start.graph, start.content_hash)
    (first,), (again,) = (service.evaluate([candidate], seed=0) for _ in range(2))
    assert not first.cached and again.cached and first.status == "ok" and first.metrics.accuracy is None
    assert again.metrics == first.metrics and set(again.metrics.scores) == {"synflow", "jacob_cov", "snip"}
    with pytest.raises(ConfigError, match="measures none"):
        evaluate_start(service, start.content_hash, seed=0)


def test_an_undefined_score_is_a_failed_evaluation(task) -> None:
    graph = graph_of(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), 1, 6, 6)
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
    service = Service(ZeroCostEvaluator(task, scores=["naswot"]), task, starts=library(network), store=Store())
    (found,) = service.evaluate([Candidate(graph, network.content_hash)], seed=0)
    assert found.status == "failed" and "no ReLU" in found.reason


def test_recipes_tell_settings_apart(task) -> None:
    base = ZeroCostEvaluator(task)
    assert len({e.recipe for e in (base, replace(base, scores=("vote",)), replace(base, batch_size=32))}) == 3
    assert (
        ZeroCostEvaluator(task, scores=["snip", "macs"]).recipe
        == ZeroCostEvaluator(task, scores=["macs", "snip"]).recipe
    )
    assert json.loads(base.recipe)["evaluator"] == "zero_cost"
    assert pickle.loads(pickle.dumps(base)).recipe == base.recipe


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scores": ["synflo"]}, "Did you mean 'synflow'"),
        ({"scores": []}, "list of names"),
        ({"scores": "synflow"}, "list of names"),
        ({"batch_size": 1}, "batch_size=1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(task, arguments: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ZeroCostEvaluator(task, **arguments)


def test_a_network_of_another_task_is_refused(task) -> None:
    with pytest.raises(EvaluationError, match="does not fit the task 'tiny'"):
        ZeroCostEvaluator(replace(task, n_classes=3)).evaluate(start_network(), seed=0)
