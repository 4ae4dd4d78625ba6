"""The commands of the page on latency, shortened, and what it says of meters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from rlnas.cli.config import LatencySettings
from rlnas.cli.measuring import SETTINGS
from rlnas.latency import METERS, arguments_of
from rlnas.network import Network
from rlnas.spaces import conv_stages
from tests.cli.running import REPOSITORY, rlnas
from tests.docs.pages import commands, section, table

PAGE = REPOSITORY / "docs" / "latency.md"
SHORT = {"measure": (), "build-table": ("--episodes", "2"), "fit": ("--networks", "30", "--passes", "1")}


@pytest.mark.slow
def test_commands_run(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    graph = conv_stages((1, 8, 8), 10)
    network = Network.initialize(graph, generator=torch.Generator().manual_seed(0))
    network.save(tmp_path / "runs" / "digits_ppo-001" / "best")
    found = [words for words in commands(PAGE) if words[:2] == ["rlnas", "latency"]]
    assert {words[2] for words in found} == set(SHORT)
    for words in found:
        quick = () if "command" in words else ("--max-time-s", "0.02")
        done = rlnas(*words[1:], *SHORT[words[2]], *quick, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert {"table.json", "predictor.json"} <= {path.name for path in tmp_path.iterdir()}


def test_the_table_of_meters_agrees_with_the_registry() -> None:
    rows = {row[0]: row for row in table(section(PAGE, "Meters"))}
    assert list(rows) == list(METERS)
    for name, meter in METERS.items():
        said = set(re.findall(r"[a-z_]+", rows[name][2])) & set(SETTINGS)
        if rows[name][2].startswith("the same"):
            said |= set(arguments_of(METERS["torch_cpu"]))
        assert said == set(arguments_of(meter)), name


def test_every_argument_of_a_meter_is_a_setting_and_an_option() -> None:
    wanted = {name for meter in METERS.values() for name in arguments_of(meter)}
    assert wanted == set(SETTINGS)
    assert set(LatencySettings.__dataclass_fields__) == wanted | {"meter"}
