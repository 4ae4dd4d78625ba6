from __future__ import annotations

import numpy as np
import pytest
import torch

from rlnas.controllers import make_controller
from rlnas.controllers.pretraining import imitate, search_plans
from rlnas.errors import ConfigError
from rlnas.layout import STOP
from tests.controllers.toy import GOOD, Toy, quiet


def test_plans_of_a_search_are_its_best_distinct_episodes() -> None:
    env = Toy(n_envs=5)
    plans = search_plans(env, "evolution", seed=0, evaluations=100, best=4)
    assert len(env.played) >= 100
    ends = {repr(sorted(a for a in taken if a != STOP)): reward for taken, reward in env.played}
    best = sorted(ends.values(), reverse=True)[:4]
    assert [env.worth(list(plan)) for plan in plans] == pytest.approx(best)
    assert len({repr(sorted(plan)) for plan in plans}) == 4


@pytest.mark.parametrize("name", ["ppo", "reinforce"])
def test_a_policy_that_imitates_plays_what_it_was_shown(name: str) -> None:
    env = Toy(n_envs=10)
    learner = quiet(make_controller(name, env, seed=0, arguments={"learning_rate": 0.02}))
    shown = [(1, 5, 9), (5, 1, STOP)]  # slot s takes the variant s
    losses = imitate(learner, shown, n_steps=60)
    assert losses[0] == pytest.approx(np.log(13 * 12 * 11), rel=0.05)  # nearly uniform over the legal actions
    assert losses[-1] < 1.5
    torch.manual_seed(0)
    learner.learn(30)
    assert np.mean([reward for _, reward in env.played]) > 1 + 1.5 * GOOD


def test_imagination_begins_with_what_its_policy_imitates() -> None:
    env = Toy(n_envs=10)
    controller = quiet(make_controller("imagination", env, seed=0, arguments={}))
    imitate(controller, [(1, 5, 9), (5, 9, 1), (9, 1, 5)], n_steps=60)
    controller.learn(30)
    assert max(reward for _, reward in env.played) == pytest.approx(1 + 3 * GOOD)  # 1 network in 75


@pytest.mark.parametrize(
    ("name", "plans", "match"),
    [
        ("random", [(1, 2, 3)], "'random' has no policy that could imitate"),
        ("ppo", [(1, 1, 2)], "illegal in step 2"),
        ("ppo", [], "plans=0 must be greater than 0"),
    ],
)
def test_what_cannot_be_imitated(name: str, plans: list[tuple[int, ...]], match: str) -> None:
    learner = make_controller(name, Toy(), seed=0, arguments={})
    with pytest.raises(ConfigError, match=match) as caught:
        imitate(learner, plans, n_steps=2)
    assert "\n" not in str(caught.value)
