"""Environments over a space of decisions, in both forms: checkers, masks, limits, records, states."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs import BuildEnv, EpisodeVecEnv, EpisodeVectorEnv, TableProblem
from rlnas.errors import ConfigError, LimitError, SpaceError
from rlnas.layout import DECISION_CONTEXT, DECISION_FEATURES, STOP, decision_features
from rlnas.spaces import DecisionSpace
from tests.envs.tables import SPACE, far_start, table

FORMS = ("build", "edit")


@pytest.fixture(params=FORMS)
def env(request: Any) -> BuildEnv:
    return BuildEnv(problem=table(form=request.param, **begun(request.param)))


def begun(form: str) -> dict[str, Any]:
    """A start that meets the limits of `table`, for the form that has one."""
    first = table().feasible.sample(np.random.default_rng(3))
    return {"start": SPACE.choices(first)} if form == "edit" else {}


def play(env: BuildEnv, rng: np.random.Generator, *, seed: int | None = None) -> tuple[float, dict[str, Any]]:
    env.reset(seed=seed)
    ended, reward, info = False, 0.0, {}
    while not ended:
        seen, reward, ended, truncated, info = env.step(np.int64(rng.choice(np.flatnonzero(env.action_masks()))))
        assert not truncated and env.observation_space.contains(seen)
    return reward, info


def test_both_checkers(env: BuildEnv) -> None:
    gymnasium_check(gymnasium.make("rlnas/Build-v0", problem=env.problem).unwrapped)
    sb3_check(env)


def test_settings_make_the_problem() -> None:
    env = gymnasium.make("rlnas/Build-v0", space=SPACE, scores=np.ones(SPACE.size), form="edit", max_steps=2)
    assert env.unwrapped.max_steps == 2  # type: ignore[attr-defined]
    with pytest.raises(SpaceError, match="not both"):
        BuildEnv(problem=table(), space=SPACE)


def test_mask_equals_legality_both_ways(env: BuildEnv) -> None:
    """For every action in many states: it does what it says, or nothing."""
    rng = np.random.default_rng(0)
    for _ in range(10):
        observation, _ = env.reset()
        while not env._episode.ended:
            mask = env.action_masks()
            assert mask.any() and np.array_equal(mask, observation["action_mask"].astype(bool))
            for action in range(len(mask)):
                twin = env.fork()
                before = twin._episode.assignment
                info = twin.step(np.int64(action))[4]
                assert info["illegal_action"] == (not mask[action])
                after = twin._episode.assignment
                assert (after != before) == (mask[action] and action != STOP)
                if mask[action] and action != STOP:
                    slot, choice = SPACE.layout.slot_and_variant(action)
                    assert after[slot] == choice
            observation, *_ = env.step(np.int64(rng.choice(np.flatnonzero(mask))))


def test_legal_choices_are_those_that_can_be_completed() -> None:
    problem = table(2, share=0.1)
    inside = [SPACE.assignment(n) for n in np.flatnonzero(problem.feasible.allowed)]
    env = BuildEnv(problem=problem)
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.reset()
        while not env._episode.ended:
            begun = env._episode.assignment
            k = len(begun)
            legal = {a[k] for a in inside if a[:k] == begun}
            assert np.flatnonzero(env.action_masks()).tolist() == [SPACE.layout.action(k, c) for c in sorted(legal)]
            env.step(np.int64(rng.choice(np.flatnonzero(env.action_masks()))))
        assert env._episode.assignment in inside


def test_edits_keep_the_limits_or_lead_to_them() -> None:
    problem, start = far_start()
    env = BuildEnv(problem=problem)
    rng = np.random.default_rng(0)
    for _ in range(50):
        env.reset()
        assert SPACE.choices(env._episode.assignment) == start and not env.action_masks()[STOP]
        _, info = play(env, rng)
        assert info["evaluation"]["status"] == "ok"
    env.reset()
    for _ in range(env.max_steps - 2):
        env.step(np.int64(SPACE.layout.action(3, 1 - env._episode.assignment[3])))
    must = np.flatnonzero(env.action_masks()).tolist()
    assert must == [SPACE.layout.action(0, 1), SPACE.layout.action(0, 2), SPACE.layout.action(1, 1)]


def test_random_episodes_never_break_a_limit() -> None:
    for seed in range(20):
        for form in FORMS:
            problem = table(seed, share=0.05 + 0.05 * seed)
            if form == "edit":
                start = SPACE.choices(problem.feasible.sample(np.random.default_rng(seed)))
                problem = table(seed, share=0.05 + 0.05 * seed, form=form, start=start)
            env = EpisodeVecEnv(problem, n_envs=20)
            rng = np.random.default_rng(seed)
            observation = env.reset()
            for _ in range(env.max_steps):
                actions = [rng.choice(np.flatnonzero(mask)) for mask in observation["action_mask"]]
                observation, _, _, infos = env.step(np.array(actions))
            assert all(info["evaluation"]["status"] == "ok" for info in infos)
            assert all(problem.feasible.meets(SPACE.from_choices(info["evaluation"]["choices"])) for info in infos)


def test_the_reward_is_the_score_and_what_is_hidden_stays_hidden(env: BuildEnv) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        reward, info = play(env, rng)
        record = info["evaluation"]
        chosen = SPACE.from_choices(record["choices"])
        assert reward == record["reward"] == env.problem.scores[chosen] == record["accuracy"]
        assert record["latency_ms"] == env.problem.columns["latency_ms"][chosen]
        assert info["reward_vector"] == {"score": reward, "minus_latency_ms": -record["latency_ms"]}
        assert "test" not in record and float(env.problem.hidden["test"][chosen]) not in record.values()
        json.dumps(record)


def test_what_was_looked_up_is_counted_once(env: BuildEnv) -> None:
    first = play(env, np.random.default_rng(0))[1]
    assert env.replay(first)[1] == first and len(env.problem.queried) == 1
    numbers = {SPACE.number(SPACE.from_choices(first["evaluation"]["choices"]))}
    for seed in range(30):
        info = play(env, np.random.default_rng(seed))[1]
        numbers.add(SPACE.number(SPACE.from_choices(info["evaluation"]["choices"])))
    assert env.problem.queried == numbers and len(numbers) > 1


def test_illegal_actions_change_nothing_and_use_steps(env: BuildEnv) -> None:
    first, _ = env.reset(seed=0)
    illegal = np.int64(np.flatnonzero(~env.action_masks())[-1])
    second, reward, _, _, info = env.step(illegal)
    assert info["illegal_action"] and reward == 0.0 and np.array_equal(first["nodes"], second["nodes"])
    assert second["context"][0] < first["context"][0]
    while not env._episode.ended:
        _, reward, _, _, info = env.step(illegal)
    if env.problem.form == "edit":
        assert info["evaluation"]["status"] == "ok"
    else:
        assert info["evaluation"]["status"] == "infeasible" and reward == 0.0
        assert info["evaluation"]["reason"] == "illegal actions left 4 decisions open"
    assert np.flatnonzero(env.action_masks()).tolist() == [STOP]
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.int64(STOP))


def test_what_has_no_score_fails_and_is_paid_the_least() -> None:
    scores = np.full(SPACE.shape, np.nan)
    scores[0] = -3.0
    scores[0, 0] = 2.0
    env = BuildEnv(space=SPACE, scores=scores)
    layout = SPACE.layout
    record = {"seed": 0, "actions": [layout.action(slot, choice) for slot, choice in enumerate((1, 0, 0, 0))]}
    reward, info = env.replay(record)
    assert reward == -3.0 and info["evaluation"]["status"] == "failed" and info["reward_vector"] is None


def test_observations_show_the_choices() -> None:
    env = BuildEnv(problem=table(share=1))
    observation, _ = env.reset()
    names = decision_features(4)
    assert env.problem.layout.n_features == len(names)
    rows = lambda: observation["nodes"].reshape(4, -1)  # noqa: E731
    assert not rows()[:, names.index("is_decided")].any() and rows()[:, names.index("is_current")].tolist() == [
        1,
        0,
        0,
        0,
    ]
    observation, *_ = env.step(np.int64(SPACE.layout.action(0, 2)))
    observation, *_ = env.step(np.int64(SPACE.layout.action(1, 1)))
    table_ = rows()
    assert table_[:, names.index("is_decided")].tolist() == [1, 1, 0, 0]
    assert table_[:, names.index("is_current")].tolist() == [0, 0, 1, 0]
    assert table_[:, len(DECISION_FEATURES) :].nonzero()[1].tolist() == [2, 1]
    assert len({tuple(row) for row in table_[:, 2 : len(DECISION_FEATURES)].round(3).tolist()}) == 4
    context = dict(zip(DECISION_CONTEXT, observation["context"].tolist(), strict=True))
    assert context == {"steps_left": 0.5, "decided": 0.5, "feasible": 1.0, "feasible_here": 1.0}


def test_context_tells_of_the_limits() -> None:
    problem = table(5, share=0.25)
    env = BuildEnv(problem=problem)
    observation, _ = env.reset()
    assert observation["context"][2] == np.float32(12 / 48)
    action = np.flatnonzero(env.action_masks())[0]
    observation, *_ = env.step(np.int64(action))
    first = SPACE.layout.slot_and_variant(int(action))[1]
    assert observation["context"][3] == np.float32(problem.feasible.allowed[first].mean())


def test_observations_are_no_views(env: BuildEnv) -> None:
    first, _ = env.reset()
    kept = {name: value.copy() for name, value in first.items()}
    for value in first.values():
        value[:] = 0
    second, _ = env.reset()
    assert all(np.array_equal(kept[name], second[name]) for name in kept)


def test_states_forks_replays_copies_and_pickles(env: BuildEnv) -> None:
    rng = np.random.default_rng(4)
    env.reset(seed=9)
    env.step(np.int64(rng.choice(np.flatnonzero(env.action_masks())[1:])))
    twins = [env.fork(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    while not env._episode.ended:
        action = np.int64(rng.choice(np.flatnonzero(env.action_masks())))
        seen, reward, *_, info = env.step(action)
        for twin in twins:
            other, paid, *_ = twin.step(action)
            assert paid == reward and all(np.array_equal(seen[name], other[name]) for name in seen)
    assert env.replay(info)[0] == reward
    other = BuildEnv(problem=table(7, form=env.problem.form))
    with pytest.raises(SpaceError, match="another start"):
        other.restore(env.state())


def test_batches_agree_with_the_single_environment(env: BuildEnv) -> None:
    first, second = EpisodeVecEnv(env.problem, n_envs=3, seed=1), EpisodeVectorEnv(3, problem=env.problem, seed=1)
    rng = np.random.default_rng(0)
    a, (b, _) = first.reset(), second.reset()
    for step in range(first.max_steps):
        assert all(np.array_equal(a[name], b[name]) for name in a) and second.observation_space.contains(b)
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in a["action_mask"]])
        a, rewards, dones, infos = first.step(actions)
        b, again, terminated, _, _ = second.step(actions)
        assert dones.all() == terminated.all() == (step == first.max_steps - 1)
    assert rewards.tolist() == np.float32(again).tolist()
    for reward, info in zip(rewards, infos, strict=True):
        assert np.float32(env.replay(info)[0]) == reward


@pytest.mark.parametrize("form", FORMS)
def test_episodes_take_turns_at_several_problems(form: str) -> None:
    """Each is played under its own limits, shows them, and is paid by its own scores."""
    settings = {"start": SPACE.choices(table(share=0.1).feasible.sample(np.random.default_rng(0)))}
    several = [table(share=share, form=form, **(settings if form == "edit" else {})) for share in (0.1, 0.5, 0.9)]
    alone = [EpisodeVecEnv(problem, n_envs=1) for problem in several]
    env, rng = EpisodeVecEnv(several, n_envs=5), np.random.default_rng(0)
    for _ in range(20):
        observation = env.reset()
        assert observation["context"][:, 2].tolist() == [np.float32(several[i % 3].feasible.share) for i in range(5)]
        single = [a.reset() for a in alone]
        for _ in range(env.max_steps):
            for i in range(3):
                assert all(np.array_equal(observation[name][i], single[i][name][0]) for name in observation)
            actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in observation["action_mask"]])
            observation, rewards, _, infos = env.step(actions)
            ends = [a.step(actions[i : i + 1]) for i, a in enumerate(alone)]
            single = [end[0] for end in ends]
        for i, info in enumerate(infos):
            chosen, problem = SPACE.from_choices(info["evaluation"]["choices"]), several[i % 3]
            assert problem.feasible.meets(chosen) and rewards[i] == np.float32(problem.scores[chosen])
            assert info["evaluation"]["start_id"] == problem.origin


def test_problems_that_cannot_take_turns_are_refused() -> None:
    small = TableProblem(DecisionSpace.of({"only": ("a", "b")}), [0.0, 1.0])
    for problems, n_envs, lag in (([], 2, 0), ([table(), small], 2, 0), ([table()] * 3, 2, 0), ([table()] * 2, 4, 1)):
        with pytest.raises(ConfigError):
            EpisodeVecEnv(problems, n_envs=n_envs, lag=lag)
    with pytest.raises(ConfigError, match="imagined"):
        EpisodeVecEnv([table(), table()], n_envs=2).imagined(4)


def test_make_vec() -> None:
    env = gymnasium.make_vec("rlnas/Build-v0", 2, vectorization_mode="vector_entry_point", problem=table())
    assert isinstance(env, EpisodeVectorEnv)
    env.reset(seed=0)


def test_rendering_shows_the_decisions() -> None:
    env = BuildEnv(problem=table(share=1), render_mode="ansi")
    env.reset()
    env.step(np.int64(SPACE.layout.action(0, 2)))
    text = env.render()
    assert text is not None and [line.split() for line in text.splitlines()][:2] == [
        ["0", "depth", "3"],
        ["1", "width"],
    ]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"form": "edits"}, ConfigError, "Did you mean 'edit'"),
        ({"max_steps": 3}, ConfigError, "form='edit'"),
        ({"form": "edit", "max_steps": 0}, ConfigError, "at least 1"),
        ({"form": "edit", "start": {"depth": 1}}, SpaceError, "nothing is chosen for 'width'"),
        ({"scores": np.ones(5)}, SpaceError, "shape"),
        ({"scores": np.full(48, np.nan)}, SpaceError, "none of the scores"),
        ({"allowed": np.zeros(48)}, LimitError, "none of the 48"),
        ({"columns": {"accuracy": np.ones(3)}}, SpaceError, "accuracy"),
    ],
)
def test_errors_are_one_line(settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        TableProblem(SPACE, **{"scores": np.ones(48)} | settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_limits_out_of_reach_are_an_error_at_once() -> None:
    problem, start = far_start()
    with pytest.raises(LimitError, match="2 are needed"):
        TableProblem(SPACE, problem.scores, form="edit", allowed=problem.feasible.allowed, start=start, max_steps=1)


def test_nothing_is_late() -> None:
    env = EpisodeVecEnv(table(), n_envs=3, lag=1)
    observation = env.reset()
    with pytest.raises(ConfigError, match="lag"):
        for _ in range(env.max_steps):
            observation, *_ = env.step(observation["action_mask"].argmax(axis=1))


def test_one_decision_is_enough() -> None:
    space = DecisionSpace.of({"only": ("a", "b")})
    env = BuildEnv(space=space, scores=[0.0, 1.0])
    gymnasium_check(gymnasium.make("rlnas/Build-v0", problem=env.problem).unwrapped)
    assert env.replay({"seed": 0, "actions": [2]})[0] == 1.0
