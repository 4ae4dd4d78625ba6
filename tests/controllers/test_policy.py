from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rlnas.controllers import SlotPolicy, make_controller
from rlnas.controllers.policies import ENCODERS
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import Toy


def make_policy(env: Toy, **arguments: object) -> SlotPolicy:
    torch.manual_seed(0)
    return SlotPolicy(env.observation_space, env.action_space, lambda _: 1e-2, **arguments)  # type: ignore[arg-type]


def tensors(observation: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(values) for name, values in observation.items()}


def sharpen(policy: SlotPolicy) -> None:
    """Give the policy strong preferences, as training would."""
    with torch.no_grad():
        for head in (policy.variant_head, policy.stop_head):
            head[-1].weight.normal_(std=3.0)


def random_masks(env: Toy, n: int) -> dict[str, Tensor]:
    """Observations with random masks, rows with a single legal action among them."""
    rng = np.random.default_rng(0)
    observation = {name: np.repeat(values[:1], n, axis=0) for name, values in env.reset().items()}
    masks = rng.random((n, env.layout.n_actions)) < rng.random((n, 1)) * 0.6
    masks[np.arange(n), rng.integers(env.layout.n_actions, size=n)] = True
    observation["action_mask"] = masks.astype(np.int8)
    observation["nodes"] = rng.uniform(-1, 1, observation["nodes"].shape).astype(np.float32)
    return tensors(observation)


def test_never_takes_a_masked_action() -> None:
    policy = make_policy(Toy())
    sharpen(policy)
    observation = random_masks(Toy(), 4000)
    legal = observation["action_mask"].bool()
    rows = torch.arange(len(legal))
    with torch.no_grad():
        for deterministic in (False, True):
            actions, _, log_prob = policy(observation, deterministic=deterministic)
            assert legal[rows, actions].all()
            assert torch.isfinite(log_prob).all()
            predicted, _ = policy.predict({k: v.numpy() for k, v in observation.items()}, deterministic=deterministic)
            assert legal[rows, torch.as_tensor(predicted)].all()
            assert legal[rows, policy.get_distribution(observation).get_actions(deterministic=deterministic)].all()


def test_the_mask_changes_the_outcome() -> None:
    """The sharpened policy does want illegal actions, so the test above can fail."""
    policy = make_policy(Toy())
    sharpen(policy)
    observation = random_masks(Toy(), 1000)
    legal = observation["action_mask"].bool().clone()
    observation["action_mask"] = torch.ones_like(observation["action_mask"])
    actions, _, _ = policy(observation)
    assert not legal[torch.arange(len(legal)), actions].all()


def test_log_probability_is_that_of_the_action_taken() -> None:
    policy = make_policy(Toy())
    sharpen(policy)
    observation = random_masks(Toy(), 500)
    actions, values, log_prob = policy(observation)
    again_values, again, entropy = policy.evaluate_actions(observation, actions)
    torch.testing.assert_close(log_prob, again)
    torch.testing.assert_close(values, again_values)
    probabilities = policy.get_distribution(observation).distribution.probs
    torch.testing.assert_close(log_prob.exp(), probabilities[torch.arange(500), actions])
    assert (probabilities[observation["action_mask"] == 0] == 0).all()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(500))
    assert entropy is not None
    safe = torch.where(probabilities > 0, probabilities, 1.0)
    torch.testing.assert_close(entropy, -(probabilities * safe.log()).sum(-1))


def test_entropy_and_probabilities_by_hand() -> None:
    """With logits 0 the policy is uniform over the legal actions: entropy log n, log-probability -log n."""
    env = Toy()
    policy = make_policy(env)
    with torch.no_grad():
        for head in (policy.variant_head, policy.stop_head):
            head[-1].weight.zero_()
    observation = tensors(env.reset())
    observation["action_mask"].zero_()
    for row, n in enumerate((1, 2, 5)):
        observation["action_mask"][row, :n] = 1
    observation = {name: values[:3] for name, values in observation.items()}
    _, log_prob, entropy = policy.evaluate_actions(observation, torch.zeros(3, dtype=torch.long))
    expected = torch.log(torch.tensor([1.0, 2.0, 5.0]))
    torch.testing.assert_close(entropy, expected)
    torch.testing.assert_close(log_prob, -expected)


def test_an_empty_mask_is_refused() -> None:
    env = Toy()
    observation = tensors(env.reset())
    observation["action_mask"][3] = 0
    policy = make_policy(env)
    for call in (policy.forward, policy.get_distribution, policy.predict_values):
        if call == policy.predict_values:
            call(observation)  # no action is asked for
        else:
            with pytest.raises(AssertionError, match="without a legal action"):
                call(observation)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "gru"},
        {"bidirectional": False, "critic": False},
        {"layers": 2, "head_size": 0, "tanh_constant": 2.0, "temperature": 3.0},
        {"encoder": "attention"},
        {"encoder": "graph"},
    ],
)
def test_every_parameter_gets_a_gradient(settings: dict[str, Any]) -> None:
    env = Toy()
    policy = make_policy(env, **settings)
    critic = settings.get("critic", True)
    observation = tensors(env.reset())
    actions = torch.arange(env.num_envs)  # STOP and some pairs
    values, log_prob, _ = policy.evaluate_actions(observation, actions)
    loss = -(log_prob * torch.linspace(-1, 1, env.num_envs)).sum()
    if critic:
        loss = loss + (values - 1.0).square().mean()
    loss.backward()
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    optimized = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(p) for p in policy.parameters()}


def test_without_critic_there_is_no_value_head() -> None:
    env = Toy()
    policy = make_policy(env, critic=False)
    assert not any("value" in name for name, _ in policy.named_parameters())
    assert (policy.predict_values(tensors(env.reset())) == 0).all()


def test_begins_nearly_uniform_and_stop_bias_shifts_stop() -> None:
    env = Toy()
    observation = tensors(env.reset())
    legal = int(observation["action_mask"][0].sum())
    uniform = make_policy(env).get_distribution(observation).distribution.probs[0]
    assert (uniform[uniform > 0] * legal - 1).abs().max() < 0.1
    biased = make_policy(env, stop_bias=2.0).get_distribution(observation).distribution
    odds = (biased.probs[0, STOP] / biased.probs[0, 1]).item()
    assert odds == pytest.approx(np.exp(2.0), rel=0.1)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_one_policy_serves_networks_of_any_depth(encoder: str) -> None:
    small, large = Toy(slots=4, nodes=4), Toy(slots=40, nodes=4)
    policy = make_policy(small, encoder=encoder)
    other = make_policy(large, encoder=encoder)
    sharpen(policy)
    other.load_state_dict(policy.state_dict())
    a, _ = policy.predict(small.reset(), deterministic=True)
    b, _ = other.predict(large.reset(), deterministic=True)
    assert a.tolist() == b.tolist()
    left = policy.get_distribution(tensors(small.reset())).distribution.probs
    right = other.get_distribution(tensors(large.reset())).distribution.probs
    torch.testing.assert_close(left, right[:, : left.shape[1]])


def test_one_observation_without_batch() -> None:
    env = Toy()
    policy = make_policy(env)
    action, _ = policy.predict({name: values[0] for name, values in env.reset().items()})
    assert action.shape == ()


def test_temperature_and_tanh_by_hand() -> None:
    """Logits are c tanh(z / T), so the odds of two actions follow from what the heads give."""
    env, settings = Toy(), {"tanh_constant": 2.5, "temperature": 5.0}
    plain, shaped = make_policy(env), make_policy(env, **settings)
    sharpen(plain)
    shaped.load_state_dict(plain.state_dict())
    observation = tensors(env.reset())
    before, after = (p.get_distribution(observation).distribution.logits[0, [STOP, 1, 2]] for p in (plain, shaped))
    stop = plain.stop_head(plain._encode(observation)[1])[0].item()  # log-probabilities are scores but for a constant
    scores = (before - before[0]).detach().numpy() + stop
    wanted = 2.5 * np.tanh(scores / 5.0)
    assert np.ptp(scores) > 1.0  # or nothing is tested
    np.testing.assert_allclose((after - after[0]).detach().numpy(), wanted - wanted[0], atol=1e-5)


def test_initial_range() -> None:
    policy = make_policy(Toy(), init_range=0.08, stop_bias=2.0)
    for name, parameter in policy.named_parameters():
        if name == "stop_head.2.bias":
            assert parameter.item() == 2.0
        else:
            assert parameter.abs().max() <= 0.08, name
            assert parameter.numel() < 30 or parameter.abs().max() > 0.06, name


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"cell": "gro"}, r"unknown cell 'gro'\. Did you mean 'gru'"),
        ({"encoder": "atention"}, r"unknown encoder 'atention'\. Did you mean 'attention'"),
        ({"heads": 2}, "the encoder 'recurrent' does not take 'heads', only: bidirectional, cell, layers"),
        ({"encoder": "graph", "cell": "gru"}, "the encoder 'graph' does not take 'cell', only: layers"),
        ({"encoder": "attention", "hidden_size": 30}, "hidden_size=30 .* a multiple of heads=4"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"embedding_size": 0}, "embedding_size=0"),
        ({"layers": 0}, "layers=0"),
        ({"encoder": "attention", "heads": 0}, "heads=0"),
        ({"head_size": -1}, "head_size=-1"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"tanh_constant": -1.0}, "tanh_constant=-1.0"),
        ({"init_range": 0.0}, "init_range=0.0"),
    ],
)
def test_settings_that_cannot_be_get_one_clear_line(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        make_controller("ppo", Toy(), seed=0, arguments={"policy_kwargs": settings})
    assert "\n" not in str(caught.value)
