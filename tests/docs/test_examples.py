"""Every Python example of the README and the guide runs as it stands, and every command in them is one that exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlnas.cli.compare_settings import read_comparison
from rlnas.cli.main import main
from rlnas.cli.own_code import reach_own_code
from rlnas.cli.parse import parse_search
from rlnas.cli.stages import controller_arguments
from rlnas.controllers import CONTROLLERS
from rlnas.controllers.arguments import check_arguments
from rlnas.envs.make import make_space
from rlnas.tasks import load_task
from tests.cli.running import QUICK, REPOSITORY, TIMED, environment, rlnas
from tests.docs.pages import BEST, PAGES, blocks, commands
from tests.processes import python_source, run_apart

WITHOUT_RLNAS = "import sys\nsys.modules['rlnas'] = None\nsys.path.insert(0, '.')\n"
ids = [page.name for page in PAGES]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run under the name that the pages use."""
    folder = tmp_path_factory.mktemp("guide")
    config = str(REPOSITORY / "configs" / "digits_ppo.yaml")
    options = [
        *QUICK,
        *TIMED,
        "--tracking.mode=offline",
        "--evaluation.workers=0",
        "--evaluations=8",
        "--run.name=digits_ppo-001",
    ]
    done = rlnas("train", "--config", config, *options, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def run(source: str, folder: Path) -> None:
    done = run_apart(python_source, source, folder=folder, variables=environment(folder))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_python_examples_run(page: Path, finished: Path, tmp_path: Path) -> None:
    """The examples of a page follow on each other, as in a notebook."""
    examples = [block for block in blocks(page, "python") if not block.startswith(BEST)]
    shutil.copytree(finished / "runs", tmp_path / "runs")
    run("\n".join(["import torch", "torch.set_num_threads(1)", *examples]), tmp_path)


@pytest.mark.parametrize("page", [p for p in PAGES if any(b.startswith(BEST) for b in blocks(p, "python"))])
def test_examples_with_the_best_network_run_without_rlnas(page: Path, finished: Path) -> None:
    for block in blocks(page, "python"):
        if block.startswith(BEST):
            done = subprocess.run(
                [sys.executable, "-W", "error", "-I", "-c", WITHOUT_RLNAS + block],
                cwd=finished / "runs" / "digits_ppo-001" / "best",
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr


NET = "# net.py\n"
"""First line of a Python block that commands name as a file."""


def test_commands_with_networks_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of each page in order; what the guide shows of their output is what they print."""
    (source,) = [block for page in PAGES for block in blocks(page, "python") if block.startswith(NET)]
    shown = {
        line for page in PAGES if page.name == "networks.md" for b in blocks(page, "text") for line in b.splitlines()
    }
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    printed = ""
    for page in PAGES:
        folder = tmp_path / page.name
        shutil.copytree(finished / "runs", folder / "runs")
        (folder / "net.py").write_text(source)
        monkeypatch.chdir(folder)
        for words in commands(page):
            if words[1:2] in (["show"], ["apply"], ["export"], ["validate"]) and words[0] == "rlnas":
                with pytest.raises(SystemExit) as leaving:
                    main(words[1:])
                done = capsys.readouterr()
                assert leaving.value.code == 0, done.err
                printed += done.out
        if page.name == "networks.md":
            printed += (folder / "out" / "model.py").read_text()
    assert not [line for line in shown if rounded(line) not in rounded(printed)]


def rounded(text: str) -> str:
    """The text without the digits of what rounding changes from one machine to another."""
    return re.sub(r"\d\.\d\de[+-]\d\d", "#", text)


def test_every_page_has_examples() -> None:
    assert all(blocks(page, "python") for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_exist(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    found = commands(page)
    assert found
    for words in found:
        check(words)


def check(words: list[str]) -> None:
    """Fail unless a command would be accepted."""
    match words:
        case ["rlnas", "train", "--help"]:
            pass
        case ["rlnas", "train", *options] | ["train-controller", *options]:
            check_settings(options)
        case ["rlnas", "compare", config, *options]:
            read_comparison(config)
            assert all(word in ("--jobs", "--name", "--report-only") for word in options if word.startswith("--"))
        case ["rlnas", "resume", run_directory]:
            assert run_directory.startswith("runs/")
        case ["rlnas", "show" | "apply" | "export" | "validate", *_]:
            pass  # test_commands_with_networks_run runs them
        case ["rlnas", "latency", *_]:
            pass  # tests/docs/test_latency.py runs them
        case ["make", target, *_]:
            assert f"\n{target}: " in Path("Makefile").read_text()
        case ["wandb", "sweep", path]:
            assert Path(path).is_file()
        case ["wandb", "agent", "NAME"]:
            pass
        case ["python", script, *options]:
            names = [f'"{word.split("=")[0]}"' for word in options if word.startswith("--")]
            assert all(name in Path(script).read_text() for name in names)
        case _:
            pytest.fail(f"what is {words}?")


def check_settings(options: list[str]) -> None:
    settings, _, _ = parse_search("rlnas train", options)
    reach_own_code(settings)
    make_space(
        load_task("digits"),
        variants=settings.space.variants,
        max_macs=settings.space.max_macs,
        max_params=settings.space.max_params,
    )
    controller = CONTROLLERS[settings.controller.name]
    check_arguments(controller, controller_arguments(settings), of="the controller", reserved=("env", "seed"))
