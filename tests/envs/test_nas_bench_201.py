"""NAS-Bench-201 as an environment: caps, faults, what a search may know, and the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

import rlnas  # noqa: F401  (registers the ids)
from rlnas.envs import EpisodeVectorEnv, NASBench201Env, make_nas_bench_201
from rlnas.errors import ConfigError, EvaluationError, LimitError, SpaceError
from rlnas.evaluation import load_nas_bench_201
from rlnas.layout import STOP
from rlnas.spaces import nas_bench_201_space
from rlnas.spaces.nas_bench_201 import parse_cell
from tests.evaluation.test_cell_table import write
from tests.spaces.test_nas_bench_201 import DATA

SPACE = nas_bench_201_space()
DEVICES = ("1080ti_1", "raspi4", "eyeriss", "fpga", "gold_6226", "titan_rtx_256")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("bench") / "nasbench201.npz")


def play(env: NASBench201Env, rng: np.random.Generator) -> tuple[float, dict[str, Any]]:
    observation, _ = env.reset()
    ended, reward, info = False, 0.0, {}
    while not ended:
        observation, reward, ended, _, info = env.step(np.int64(rng.choice(observation["action_mask"].nonzero()[0])))
    return reward, info


@pytest.mark.parametrize("form", ["build", "edit"])
def test_both_checkers(path: Path, form: str) -> None:
    settings = {"path": str(path), "device": "fpga", "max_latency": "50%", "form": form}
    if form == "edit":
        settings["start"] = SPACE.choices(make_nas_bench_201(**settings | {"form": "build"}).feasible.sample(seeded()))
    env = gymnasium.make("rlnas/NASBench201-v0", **settings)
    gymnasium_check(env.unwrapped)
    sb3_check(env.unwrapped)
    vector = gymnasium.make_vec("rlnas/NASBench201-v0", 3, vectorization_mode="vector_entry_point", **settings)
    assert isinstance(vector, EpisodeVectorEnv)


def seeded() -> np.random.Generator:
    return np.random.default_rng(0)


def test_rewards_are_validation_accuracies_and_records_say_more(path: Path) -> None:
    table = load_nas_bench_201(path)
    env = NASBench201Env(path=path, device="fpga")
    rng = seeded()
    for _ in range(50):
        reward, info = play(env, rng)
        record = info["evaluation"]
        number = int(np.flatnonzero(table.cells == record["cell"])[0])
        assert list(record["choices"].values()) == list(parse_cell(record["cell"]))
        assert reward == pytest.approx(table.column("cifar10_val_ep12")[number] / 100) == record["accuracy"]
        assert record["latency_ms"] == pytest.approx(table.column("lat_ms_fpga")[number])
        assert record["n_params"] == table.column("cifar10_params")[number] and "macs" not in record


def test_test_accuracies_are_only_for_whoever_judges(path: Path) -> None:
    table = load_nas_bench_201(path)
    env = NASBench201Env(path=path)
    test = env.problem.hidden["test_accuracy"]
    assert np.array_equal(test.ravel(), table.accuracy("cifar10", "test", epochs=200))
    _, info = play(env, seeded())
    assert not [key for key in (*info, *info["evaluation"]) if "test" in key] and set(env.problem.columns) == {
        "cell",
        "accuracy",
        "n_params",
    }


@pytest.mark.parametrize("form", ["build", "edit"])
def test_caps_hold_in_every_episode(path: Path, form: str) -> None:
    latency = load_nas_bench_201(path).latency_ms("raspi4")
    for setting, limit in ((20.0, 20.0), ("20", 20.0), ("30%", np.nanquantile(latency, 0.3))):
        problem = make_nas_bench_201(path, device="raspi4", max_latency=setting)
        assert problem.feasible.count == int((latency <= limit).sum())
        if form == "edit":
            begin = SPACE.choices(problem.feasible.sample(seeded()))
            problem = make_nas_bench_201(path, device="raspi4", max_latency=setting, form=form, start=begin)
        env, rng = NASBench201Env(problem=problem), seeded()
        for _ in range(100):
            assert play(env, rng)[1]["evaluation"]["latency_ms"] <= limit


def test_lower_limits_hold_too(path: Path) -> None:
    latency = load_nas_bench_201(path).latency_ms("fpga")
    lower = np.nanquantile(latency, 0.4)
    problem = make_nas_bench_201(path, device="fpga", min_latency="40%", max_latency=4.0)
    assert problem.feasible.count == int(((latency >= lower) & (latency <= 4.0)).sum())
    env, rng = NASBench201Env(problem=problem), seeded()
    assert all(lower <= play(env, rng)[1]["evaluation"]["latency_ms"] <= 4.0 for _ in range(100))


def test_a_reward_counts_costs_as_well(path: Path) -> None:
    """MnasNet's soft reward: accuracy times (latency / target) ** -0.07."""
    settings: dict[str, Any] = {"path": path, "device": "fpga", "reward": "mnasnet_soft", "cost": "latency_ms"}
    env, rng = NASBench201Env(**settings, target_ms=2.0), seeded()
    for _ in range(20):
        reward, info = play(env, rng)
        record = info["evaluation"]
        assert reward == pytest.approx(record["accuracy"] * (record["latency_ms"] / 2.0) ** -0.07)
    reference = dict.fromkeys(SPACE.choices((0,) * 6), "nor_conv_1x1")
    other = make_nas_bench_201(**settings, reference=reference)
    own = other.columns["latency_ms"][SPACE.from_choices(reference)]
    assert other.scores[2, 2, 2, 2, 2, 2] == pytest.approx(other.columns["accuracy"][2, 2, 2, 2, 2, 2])
    assert other.scores[0, 0, 0, 0, 0, 0] == pytest.approx(
        other.columns["accuracy"][0, 0, 0, 0, 0, 0] * (other.columns["latency_ms"][0, 0, 0, 0, 0, 0] / own) ** -0.07
    )


def test_cells_with_a_faulty_latency_are_left_out_only_where_latency_counts(path: Path) -> None:
    faulty = load_nas_bench_201(path).column("lat_ms_raspi4") < 0.5
    assert faulty.any()
    problem = make_nas_bench_201(path, device="raspi4")
    assert np.array_equal(problem.feasible.allowed.ravel(), ~faulty)
    assert make_nas_bench_201(path).feasible.share == 1


def test_the_edit_form_begins_with_skips_or_as_told(path: Path) -> None:
    env = NASBench201Env(path=path, form="edit", max_steps=3)
    env.reset()
    assert env._episode.assignment == (1,) * 6 and env.max_steps == 3
    _, _, ended, _, info = env.step(np.int64(STOP))
    assert (
        ended
        and info["evaluation"]["cell"]
        == "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|" + "|".join(f"skip_connect~{i}" for i in range(3)) + "|"
    )
    start = dict.fromkeys(SPACE.choices((0,) * 6), "nor_conv_3x3")
    assert NASBench201Env(path=path, form="edit", start=start)._episode.assignment == (3,) * 6


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"dataset": "cifar11"}, ConfigError, "Did you mean 'cifar10'"),
        ({"device": "raspi5"}, ConfigError, "Did you mean 'raspi4'"),
        ({"max_latency": 3}, ConfigError, "needs the device: raspi4, fpga"),
        ({"device": "fpga", "max_latency": "50 percent"}, ConfigError, "a quantile such as '20%'"),
        ({"device": "fpga", "max_latency": "150%"}, ConfigError, "is no limit"),
        ({"device": "fpga", "max_latency": -1}, ConfigError, "is no limit"),
        ({"max_macs": "20%"}, ConfigError, "does not know it"),
        ({"min_macs": 3}, ConfigError, "min_macs=3"),
        ({"min_latency": 3}, ConfigError, "min_latency=3 needs the device"),
        ({"device": "fpga", "min_latency": "60%", "max_latency": "50%"}, LimitError, "none of the 15,625"),
        ({"reward": "tangent"}, ConfigError, "does not know it for cifar10"),
        ({"reward": "tangent", "cost": "latency_ms"}, ConfigError, "needs the device"),
        ({"reward": "tangents", "cost": "n_params"}, ConfigError, "Did you mean 'tangent'"),
        ({"reward": "rank", "cost": "n_params"}, ConfigError, "depends on what was looked up before"),
        ({"reward": "tangent", "cost": "n_params", "reference": {"0->1": "none"}}, SpaceError, "nothing is chosen"),
        ({"cost": "n_params"}, ConfigError, "does nothing without a reward"),
        ({"max_params": 0.5}, LimitError, "none of the 15,625"),
        ({"form": "edits"}, ConfigError, "Did you mean 'edit'"),
        ({"form": "edit", "start": {"0->1": "none"}}, SpaceError, "nothing is chosen"),
        ({"path": "nowhere.npz"}, EvaluationError, "nowhere.npz"),
    ],
)
def test_errors_are_one_line(path: Path, settings: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        make_nas_bench_201(**{"path": path} | settings)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published data")
def test_regret_of_knowing_every_label_is_the_published_one() -> None:
    """0.58 points of test accuracy on average over 36 cases: what choosing by validation accuracy costs."""
    regrets = []
    for dataset in ("cifar10", "cifar100"):
        for device in DEVICES:
            for cap in ("20%", "50%", "80%"):
                problem = make_nas_bench_201(DATA, dataset=dataset, device=device, max_latency=cap)
                inside = problem.feasible.allowed
                test, chosen = problem.hidden["test_accuracy"], np.where(inside, problem.scores, -1).argmax()
                regrets.append(100 * (test[inside].max() - test.flat[chosen]))
    assert np.mean(regrets) == pytest.approx(0.58, abs=0.005)


@pytest.mark.skipif(not DATA.is_file(), reason="needs the published data")
@pytest.mark.parametrize("form", ["build", "edit"])
def test_10_000_random_episodes_under_random_limits_break_none_and_find_no_dead_end(form: str) -> None:
    """Edits begin with all edges skipping, which the tightest limits forbid and the others allow."""
    table, rng = load_nas_bench_201(DATA), seeded()
    broken = dead = 0
    for _ in range(250):
        settings: dict[str, Any] = {"dataset": rng.choice(table.datasets), "device": rng.choice(table.devices)}
        settings |= {name: f"{rng.uniform(5, 95):.1f}%" for name in ("max_latency", "max_params")}
        problem = make_nas_bench_201(DATA, form=form, **settings)
        for _ in range(40):
            episode = problem.begin()
            stuck = False
            while not episode.ended:
                legal = episode.legal().actions
                stuck |= legal == (STOP,)
                episode.step(legal[rng.integers(len(legal))])
            broken += not problem.feasible.meets(episode.assignment)
            dead += stuck
    assert broken == 0 and dead < 100  # 1 %
