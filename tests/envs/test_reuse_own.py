"""Evaluators, operators and spaces of a person's own in environments, in copies, replays and other processes."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from rlnas.envs import BuildEnv, MorphEnv
from rlnas.errors import ConfigError, OperatorError, SpaceError
from rlnas.graph import Site
from rlnas.network import Network
from rlnas.operators import OPERATORS, get_operator
from rlnas.operators.own import own_operator
from rlnas.spaces import conv_stages
from tests.cli.running import REPOSITORY
from tests.envs.ids import MORPH, play, same
from tests.operators.checks import CHECKS, Case, check_legality
from tests.operators.sameness import make_network

SWAP, NOISY = "own_operator:SwapActivation", "own_evaluator:NoisyAccuracy"
OWN: dict[str, Any] = MORPH | {"variants": [f"{SWAP} 1", f"{SWAP} 2", "widen 2"]}


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their folder is where Python looks, as that of a script is."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs" / "examples"))
    own_operator.cache_clear()


def test_an_own_operator_is_found_by_its_path_alone() -> None:
    operator = get_operator(SWAP)
    assert operator is get_operator(SWAP) and operator.name == SWAP and SWAP not in OPERATORS
    graph = conv_stages((1, 8, 8), 10, stages=2, width=4)
    sites = operator.sites(graph)
    assert {site.operator for site in sites} == {SWAP} and {site.amount for site in sites} == {1, 2}
    assert [Site.from_json(site.to_json()) for site in sites] == list(sites)
    assert {operator.edit(graph, site).graph.node(site.anchor).op for site in sites} == {"gelu", "silu"}
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
    after = operator.apply(network, sites[0], generator=torch.Generator().manual_seed(0))
    assert after.content_hash != network.content_hash and after.history[-1].site == sites[0]


def test_the_example_operator_passes_the_conformance_suite() -> None:
    operator = get_operator(SWAP)
    network = make_network(conv_stages((1, 8, 8), 10, stages=2, width=4), 0)
    check_legality(operator, network)
    for site in operator.sites(network.graph):
        for check in CHECKS.values():
            check(Case(operator, network, site, 0))


def test_an_instance_is_left_as_it_is() -> None:
    get_operator(SWAP)
    module: Any = sys.modules["own_operator"]
    module.ready = module.SwapActivation()
    try:
        assert get_operator("own_operator:ready").name == "own_operator:ready"
        assert not hasattr(module.ready, "name")
    finally:
        del module.ready


def test_an_own_space_is_found_by_its_path() -> None:
    quick = {"evaluator": MORPH["evaluator"], "start_evaluations": 5, "max_macs": "2x"}
    env = gymnasium.make("rlnas/Build-v0", space="own_space:Perceptrons", widths=(4, 8), **quick).unwrapped
    assert isinstance(env, BuildEnv) and env.problem.space.networks.decisions.size == 2 * 3 * 3
    gymnasium_check(env)
    sb3_check(env)
    env.reset(seed=0)
    record = play(env, np.random.default_rng(0))[-1]["info"]["evaluation"]
    twin = pickle.loads(pickle.dumps(env))
    twin.reset()
    assert play(twin, np.random.default_rng(0))[-1]["info"]["evaluation"]["graph_key"] == record["graph_key"]
    with pytest.raises(SpaceError, match="Did you mean 'widths'"):
        gymnasium.make("rlnas/Build-v0", space="own_space:Perceptrons", width=(4, 8))
    for wrong, words in (("own_space:Perceptron", "did you mean Perceptrons"), ("own_spaces:A", "cannot import")):
        with pytest.raises(ConfigError, match=words):
            gymnasium.make("rlnas/Build-v0", space=wrong)
    with pytest.raises(SpaceError, match="of type dict"):
        gymnasium.make("rlnas/Build-v0", space="own_operator:ACTIVATIONS")


def test_environments_with_own_operators_pass_the_checkers_and_copy() -> None:
    env = gymnasium.make("rlnas/Morph-v0", **OWN).unwrapped
    assert isinstance(env, MorphEnv)
    gymnasium_check(env)
    sb3_check(env)
    env.reset(seed=0)
    play(env, np.random.default_rng(3), steps=1)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env)), env.fork()):
        first, second = (play(e, np.random.default_rng(1)) for e in (twin, env.fork()))
        assert same(first, second)


def test_records_with_own_operators_are_replayed() -> None:
    env, rng = MorphEnv(**OWN), np.random.default_rng(0)
    env.reset(seed=4)
    info = play(env, rng)[-1]["info"]
    while not any(SWAP in edit for edit in info["evaluation"]["operators"]):
        env.reset(seed=4)
        info = play(env, rng)[-1]["info"]
    own_operator.cache_clear()  # as in another process
    assert MorphEnv(**OWN).replay(info)[1]["evaluation"]["graph_key"] == info["evaluation"]["graph_key"]


def test_an_own_evaluator_works_in_worker_processes_as_it_does_inline() -> None:
    settings = {"evaluator": NOISY, "evaluator_options": {"noise": 0.2, "epochs": 0.2}, "max_steps": 1}
    quick = {"start_epochs": 0.1, "start_evaluations": 5, "variants": [f"{SWAP} 1"]}
    rewards = []
    for workers in (0, 1):
        env = MorphEnv(**settings, **quick, workers=workers)
        try:
            env.reset(seed=0)
            rewards.append(play(env, np.random.default_rng(0))[-1]["reward"])
        finally:
            env.close()
    assert rewards[0] == rewards[1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_own_code_in_vector_environments(context: str) -> None:
    kwargs = {"context": context}
    vector = gymnasium.make_vec("rlnas/Morph-v0", 2, vectorization_mode="async", vector_kwargs=kwargs, **OWN)
    try:
        observations, _ = vector.reset(seed=0)
        actions = [mask.nonzero()[0][1] for mask in observations["action_mask"]]
        assert not vector.step(np.array(actions))[4]["illegal_action"].any()
    finally:
        vector.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluator": "own_evaluators:NoisyAccuracy"}, "cannot import own_evaluators: ModuleNotFoundError"),
        ({"evaluator": "own_evaluator:NoisyAcuracy"}, "did you mean NoisyAccuracy"),
        ({"evaluator": NOISY, "evaluator_options": {"noises": 1}}, "noises"),
        ({"variants": ["own_operator:Swap 1"]}, "own_operator has no Swap; it has SwapActivation"),
        ({"variants": ["own_operator:ACTIVATIONS 1"]}, "is no operator but of type dict"),
        ({"evaluator": MORPH["evaluator"], "evaluator_options": {"noise": 1}}, "evaluator_options go with the name"),
    ],
)
def test_wrong_paths_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        gymnasium.make("rlnas/Morph-v0", **settings)
    assert "\n" not in str(caught.value)


def test_names_without_a_colon_are_still_names() -> None:
    with pytest.raises(OperatorError, match="Did you mean 'widen'"):
        get_operator("widden")
