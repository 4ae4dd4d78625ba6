"""What a person can get wrong gives one clear line, exit status 2, and leaves nothing behind."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rlnas.cli.main import main
from rlnas.cli.parse import parse_search
from rlnas.errors import ConfigError
from tests.cli.running import REPOSITORY, rlnas

CONFIGS = REPOSITORY / "configs"


def fails(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command prints to standard error."""
    with pytest.raises(SystemExit) as leaving:
        main([*words])
    captured = capsys.readouterr()
    assert leaving.value.code == 2
    assert captured.err.count("\n") == 1 and captured.err.startswith("rlnas: error: ")
    assert "Traceback" not in captured.err
    assert not [p for p in folder.iterdir() if p.name == "runs" and any(p.iterdir())]
    return captured.err


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the command runs inside this process
    for name in ("WANDB_MODE", "WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--reward.targt_ms=0.2"], ["reward.targt_ms", "reward.target_ms"]),
        (["--target_ms=0.2"], ["target_ms", "reward.target_ms"]),
        (["--evaluations=many"], ["evaluations=many", "int"]),
        (["--evaluations=0"], ["evaluations=0", "at least 1"]),
        (["--evaluation.epochs=-1"], ["evaluation.epochs", "above 0"]),
        (["--evaluation.name=zero_cost"], ["'zero_cost'", "no accuracy", "evaluation.screen=az_nas"]),
        (["--evaluation.name=surrogate"], ["'surrogate'", "no accuracy", "evaluation.screen=surrogate"]),
        (["--evaluation.name=trainin"], ["'trainin'", "training", "tabular"]),
        (["--evaluation.name=tabular"], ["evaluation.table"]),
        (["--evaluation.table=t.json"], ["evaluation.table", "nothing", "evaluation.name"]),
        (["--evaluation.name=tabular", "--evaluation.table=t.json"], ["t.json", "cannot read"]),
        (["--evaluation.screen=synflo"], ["'synflo'", "synflow", "surrogate"]),
        (["--evaluation.screen=az_nas", "--evaluation.keep=2"], ["keep=2", "below 1"]),
        (["--evaluation.keep=0.2"], ["evaluation.keep", "nothing"]),
        (["--evaluation.halving=1"], ["eta=1", "above 1"]),
        (["--evaluation.rounds=2"], ["evaluation.rounds", "nothing"]),
        (["--evaluation.distill=2"], ["distill=2", "at most 1"]),
        (["--evaluation.temperature=2"], ["evaluation.temperature", "nothing"]),
        (["--tracking.mode=sometimes"], ["tracking.mode", "offline"]),
        (["--task.name=digit"], ["'digit'", "digits", "fashion_mnist", "npz"]),
        (["--task.options={colour: red}"], ["colour"]),
        (["--space.name=resnet"], ["'resnet'", "conv_stages"]),
        (["--space.variants=[widden 2]"], ["widden", "widen", "deepen", "remove_layer"]),
        (["--space.variants=[widen]"], ["'widen'", "amount"]),
        (["--controller.name=pppo"], ["pppo", "ppo", "reinforce", "random", "local_search"]),
        (["--controller.name=random", "--controller.ent_coef=0.1"], ["ent_coef"]),
        (["--controller.arguments={gama: 1}"], ["gama", "gamma"]),
        (["--controller.init_from=nowhere"], ["nowhere", "no checkpoint of a controller", "run directory"]),
        (["--controller.init_part=encoder"], ["init_part", "init_from"]),
        (["--controller.preset=zof"], ["'zof'", "zoph", "enas"]),
        (["--controller.preset=zoph"], ["'zoph'", "'reinforce'", "'ppo'"]),
        (["--reward.name=tan"], ["'tan'", "tangent"]),
        (["--reward.cost=flops"], ["'flops'", "macs"]),
        (["--reward.cost=macs", "--reward.target_ms=1"], ["target_ms", "macs"]),
        (["--space.max_params=20"], ["n_params <= 20", "nearest found"]),
        (["--space.max_macs=lots"], ["max_macs", "lots"]),
        (["--space.stages=8"], ["stages"]),
        (["--task.name=npz"], ["path"]),
        (["--task.name=npz", "--task.path=nowhere.npz"], ["nowhere.npz"]),
        (["--task.name=fashion_mnist", "--task.path=nowhere"], ["nowhere"]),
        (["--config", "nowhere.yaml"], ["cannot read nowhere.yaml: No such file"]),
        (["--config", f"{CONFIGS}/digits_pro.yaml"], [f"did you mean {CONFIGS}/digits_ppo.yaml?"]),
        ([f"--config={CONFIGS}"], ["configs is a folder; name a file in it: digits_chain_reinforce.yaml, "]),
        (["--config"], ["--config", "expected one argument"]),
        (["--config=", "--evaluations=3"], ["--config= names no file"]),
        (["stray"], ["stray"]),
    ],
)
def test_settings(words: list[str], expected: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["train", *words], folder, capsys)
    for word in expected:
        assert word in line, line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("evaluatons: 5\n", ["evaluatons", "evaluations"]),
        ("reward: {targt_ms: 5}\n", ["reward.targt_ms", "reward.target_ms"]),
        ("space: {stages: three}\n", ["space.stages", "three", "int"]),
        ("evaluations: [\n", ["flow node"]),
    ],
)
def test_config_file(text: str, expected: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.yaml").write_text(text)
    line = fails(["train", "--config", "mine.yaml"], folder, capsys)
    for word in expected:
        assert word in line, line


def test_corrupt_data_names_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder / "data"
    data.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (data / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"nothing"))
    line = fails(["train", "--task.name=fashion_mnist", f"--task.path={data}"], folder, capsys)
    assert "ubyte.gz" in line


@pytest.mark.parametrize(
    ("given", "meant"),
    [("contoller.name", "controller.name"), ("reward.nam", "reward.name"), ("epochs", "final.epochs")],
)
def test_the_nearest_setting_is_named(given: str, meant: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(["train", f"--{given}=1"], folder, capsys)
    assert f"unknown setting '{given}': did you mean '{meant}'?" in line


@pytest.mark.parametrize(
    ("given", "meant"),
    [("controller.memory", "controller.arguments"), ("controller.memory.size", "controller.arguments")]
    + [(f"{group}.fold", f"{group}.options") for group in ("task", "evaluation", "space")],
)
def test_where_arguments_belong_that_are_no_settings(
    given: str, meant: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(["train", f"--{given}=1"], folder, capsys)
    assert f"own goes into {meant};" in line and "did you mean" not in line


def test_existing_run_directory_is_never_overwritten(folder: Path) -> None:
    (folder / "runs" / "mine").mkdir(parents=True)
    (folder / "runs" / "mine" / "precious").write_text("mine")
    done = rlnas("train", "--run.name=mine", folder=folder)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "runs/mine exists already" in done.stderr and "rlnas resume runs/mine" in done.stderr
    assert [p.name for p in (folder / "runs" / "mine").iterdir()] == ["precious"]


def test_unwritable_root(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("")
    with pytest.raises(SystemExit) as leaving:
        main(["train", "--run.root=file/runs"])
    error = capsys.readouterr().err
    assert leaving.value.code == 2 and error.count("\n") == 1 and "file/runs" in error


def test_resume_of_what_is_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in fails(["resume", "nowhere"], folder, capsys)
    (folder / "odd").mkdir()
    (folder / "odd" / "config.yaml").write_text("- just a list\n")
    assert "odd/config.yaml" in fails(["resume", "odd"], folder, capsys)
    assert "one argument" in fails(["resume"], folder, capsys)


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["trian"])
    assert leaving.value.code == 2 and "train, resume" in capsys.readouterr().err


def test_help_and_version(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, expected in ((["--help"], "resume"), (["--version"], "0."), (["train", "--help"], "--reward.target_ms")):
        with pytest.raises(SystemExit) as leaving:
            main(words)
        assert leaving.value.code == 0
        assert expected in capsys.readouterr().out


def test_forms_that_a_sweep_agent_sends() -> None:
    words = ["--reward.target_ms=5", "--progress=False", "--space.variants=['widen 2', 'deepen 1']", "--run.name=None"]
    settings, _, _ = parse_search("rlnas train", words)
    assert settings.reward.target_ms == 5 and settings.progress is False
    assert settings.space.variants == ["widen 2", "deepen 1"] and settings.run.name is None


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_parses(path: Path) -> None:
    settings, plain, stem = parse_search("rlnas train", ["--config", str(path)])
    assert settings.evaluations > 0 and plain["controller"]["name"] == settings.controller.name and stem == path.stem


def test_later_options_override_the_file() -> None:
    path = str(CONFIGS / "digits_ppo.yaml")
    assert parse_search("rlnas train", ["--config", path, "--evaluations=7"])[0].evaluations == 7
    with pytest.raises(ConfigError):
        parse_search("rlnas train", ["--config", path, "--evaluations=seven"])
