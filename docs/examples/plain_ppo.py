"""PPO in one file of plain PyTorch, on rlnas/Morph-v0, with the action mask.

    python docs/examples/plain_ppo.py --episodes 100

Nothing here imports rlnas: ``gymnasium.make("rlnas:rlnas/Morph-v0")`` does. The policy sees the observation as one flat
vector, and masks illegal actions by the ``action_mask`` entry, both when it acts and when it learns.
"""

from __future__ import annotations

import argparse

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn


class Agent(nn.Module):
    """A shared trunk with a masked policy and a value."""

    def __init__(self, n_inputs: int, n_actions: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(n_inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy = nn.Linear(64, n_actions)
        self.value = nn.Linear(64, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)

    def forward(self, inputs: Tensor, masks: Tensor) -> tuple[torch.distributions.Categorical, Tensor]:
        features = self.trunk(inputs)
        logits = self.policy(features).masked_fill(~masks, torch.finfo(torch.float32).min)
        return torch.distributions.Categorical(logits=logits), self.value(features).squeeze(-1)


def flatten(observation: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    """(all entries but the mask as one vector, the mask)."""
    inputs = np.concatenate([observation["nodes"], observation["node_mask"], observation["context"]])
    return torch.as_tensor(inputs), torch.as_tensor(observation["action_mask"], dtype=torch.bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=100, help="episodes to train for")
    parser.add_argument("--batch", type=int, default=10, help="episodes in one update")
    parser.add_argument("--epochs", type=int, default=4, help="passes over a batch")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    env = gymnasium.make("rlnas:rlnas/Morph-v0", max_steps=4, max_macs="3x")
    observation, _ = env.reset(seed=arguments.seed)
    inputs, masks = flatten(observation)
    agent = Agent(len(inputs), len(masks))
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    history: list[float] = []

    while len(history) < arguments.episodes:
        steps: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        returns: list[float] = []
        for _ in range(min(arguments.batch, arguments.episodes - len(history))):
            observation, _ = env.reset()
            terminated, length, reward = False, 0, 0.0
            while not terminated:
                inputs, masks = flatten(observation)
                with torch.no_grad():
                    distribution, value = agent(inputs, masks)
                    action = distribution.sample()
                observation, reward, terminated, _, _ = env.step(int(action))  # never truncated
                steps.append((inputs, masks, action, distribution.log_prob(action), value))
                length += 1
            returns += [float(reward)] * length  # the reward comes at the end and is not discounted
            history.append(float(reward))

        x, m, actions, old, values = (torch.stack(column) for column in zip(*steps, strict=True))
        targets = torch.tensor(returns)
        advantages = targets - values
        advantages = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-3)
        for _ in range(arguments.epochs):
            distribution, values = agent(x, m)
            ratio = (distribution.log_prob(actions) - old).exp()
            surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()
            loss = -surrogate + 0.5 * (values - targets).square().mean() - 0.01 * distribution.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
        print(f"episodes {len(history):4d}  mean reward of the last batch {np.mean(history[-arguments.batch :]):.3f}")
    env.close()


if __name__ == "__main__":
    main()
