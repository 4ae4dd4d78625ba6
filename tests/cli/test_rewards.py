"""Rewards by the command line: every one can be chosen, and one that looks back pays the same after a resume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlnas.cli.parse import parse_search
from rlnas.cli.search import begin, proceed
from rlnas.controllers.search import Played, SearchController
from rlnas.rewards import REWARDS
from rlnas.runs import RunDirectory
from tests.cli.running import QUICK

SHORT = ("--controller.name=random", "--reward.cost=macs", "--evaluation.workers=0", "--progress=false", *QUICK)


class StoppedError(Exception):
    """Stands for a kill between two batches."""


def search(name: str, *words: str) -> Path:
    """Run a search; gives its directory."""
    settings, plain, stem = parse_search("rlnas train", [*SHORT, f"--run.name={name}", *words])
    assert begin(settings, plain, stem=stem) == 0
    return Path("runs") / name


def paid(monkeypatch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> list[float]:
    """Collects what controllers are paid from now on; ``stop_after`` batches the search ends as if it were killed."""
    found: list[float] = []
    own = SearchController.end_batch

    def end_batch(self: SearchController, episodes: Sequence[Played]) -> None:
        found.extend(episode.value for episode in episodes)
        own(self, episodes)
        if stop_after is not None and len(found) == 4 * stop_after:
            raise StoppedError

    monkeypatch.setattr(SearchController, "end_batch", end_batch)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank", "hypervolume"])
def test_a_resumed_search_is_paid_the_same(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    words = (f"--reward.name={name}", "--evaluations=12")
    with monkeypatch.context() as patch:
        undisturbed = paid(patch)
        whole = search("whole", *words)
    with monkeypatch.context() as patch:
        begun = paid(patch, stop_after=2)
        with pytest.raises(StoppedError):
            search("cut", *words)
    with monkeypatch.context() as patch:
        rest = paid(patch)
        run, plain = RunDirectory.open("runs/cut")
        settings, _, _ = parse_search("rlnas resume", [f"--config={run.config}"])
        assert proceed(run, settings, plain) == 0
    assert len(undisturbed) == 12 and len(set(undisturbed)) > 3
    assert begun == undisturbed[:8]
    assert rest == undisturbed[-len(rest) :] and len(rest) >= 4
    logged = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    by_itself = [line["values"]["reward"] for line in logged if line["kind"] == "evaluation"]
    assert len(by_itself) == 12 and by_itself != undisturbed
    best = json.loads((whole / "best" / "metrics.json").read_text())
    assert best["graph_key"]


def test_every_reward_can_be_chosen_with_its_options() -> None:
    for name, formula in REWARDS.items():
        options = {option: getattr(formula, option) or {} for option in formula.options}
        words = [f"--reward.name={name}", f"--reward.options={json.dumps(options)}"]
        settings, _, _ = parse_search("rlnas train", words)
        assert settings.reward.name == name and settings.reward.options == options
