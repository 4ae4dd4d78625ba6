"""The archive as a callback of Stable-Baselines3's algorithms and of rlnas's controllers."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
from stable_baselines3 import DQN
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.logger import KVWriter, Logger

from rlnas.cli.followers import Hypervolume
from rlnas.controllers import ArchiveCallback, make_controller
from rlnas.envs import EpisodeVecEnv, archive_of
from rlnas.tracking import NullTracker
from tests.envs.fakes import fake_problem
from tests.envs.tables import table


class Written(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.values: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.values.append(dict(key_values))

    def close(self) -> None: ...


@pytest.mark.parametrize(("kind", "extra"), [(SB3PPO, {"n_steps": 16, "batch_size": 16}), (DQN, {"buffer_size": 100})])
def test_with_algorithms_of_stable_baselines(kind: Any, extra: dict[str, Any]) -> None:
    problem = table(share=1, form="edit")  # whose episodes come to something without masks, too
    callback, written = ArchiveCallback(archive_of(problem)), Written()
    model = kind("MultiInputPolicy", gymnasium.make("rlnas/Build-v0", problem=problem), seed=0, **extra)
    model.set_logger(Logger(None, [written]))
    model.learn(64, callback=callback, log_interval=1)
    archive = callback.archive
    assert len(archive.history) >= 64 // problem.max_steps and archive.records and archive.hypervolume > 0
    assert {record["status"] for record in archive.records} == {"ok"}
    seen = [values["search/hypervolume"] for values in written.values if "search/hypervolume" in values]
    assert seen and seen[-1] in archive.history and written.values[-1]["search/front"] >= 1


def test_with_a_controller_it_agrees_with_the_command_lines_hypervolume() -> None:
    problem = fake_problem(max_steps=2)
    callback = ArchiveCallback(archive_of(problem))
    make_controller("random", EpisodeVecEnv(problem, n_envs=4), seed=0, arguments={}).learn(16, callback=callback)
    follower, logged = Hypervolume(problem, Recorder()), Recorder.values
    logged.clear()
    assert len(callback.archive.history) == 8
    for number, record in enumerate(sorted(callback.archive.records, key=lambda r: r["macs"]), 1):
        follower.add(record | {"evaluation": number})
    assert logged[-1] == pytest.approx(callback.archive.hypervolume)


class Recorder(NullTracker):
    """Keeps the logged hypervolumes."""

    values: list[float] = []  # noqa: RUF012

    def log(self, values: Any, *, step: int) -> None:
        self.values.append(values["search/hypervolume"])


def test_episodes_that_are_late_count_when_they_arrive() -> None:
    problem = fake_problem(max_steps=1, workers=1)
    env = EpisodeVecEnv(problem, n_envs=3, lag=1)
    callback = ArchiveCallback(archive_of(problem), finish=env.finish)
    try:
        make_controller("random", env, seed=0, arguments={}).learn(9, callback=callback)
        assert len(callback.archive.history) == 9
    finally:
        env.close()
