"""Run the command line as a person does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import Apart, command_line, run_apart

REPOSITORY = Path(__file__).parents[2]
QUICK = (
    "--evaluation.epochs=0.3",
    "--evaluation.start_epochs=2",
    "--evaluation.start_evaluations=5",
    "--final.epochs=1",
    "--final.candidates=2",
    "--final.seeds=2",
    "--tracking.mode=disabled",
    "--controller.n_envs=4",
    "--latency.meter=command",
    "--latency.command=echo 1",
)
"""Settings that shorten a search; latencies are made up."""
TIMED = ("--latency.meter=torch_cpu", "--latency.command=null", "--latency.max_time_s=0.03")
"""After `QUICK`: latencies are measured."""


def environment(folder: Path) -> dict[str, str]:
    """This process's environment, with W&B's folders out of the way and no proxy to anywhere."""
    names = ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    extra = {"PYTHONPATH": str(REPOSITORY), "OMP_WAIT_POLICY": "PASSIVE", "COLUMNS": "160"}
    return inherited | extra | {name: str(folder / "wandb") for name in names}


def command(*words: str) -> list[str]:
    """The command line of ``rlnas``."""
    return [sys.executable, "-m", "rlnas", *words]


def rlnas(*words: str, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run ``rlnas`` in a folder and wait for it."""
    return run_apart(command_line, words, folder=folder, variables=environment(folder), timeout=timeout)


def begin(*words: str, folder: Path) -> Apart:
    """Begin ``rlnas`` in a folder and leave it running."""
    return Apart(command_line, words, folder=folder, variables=environment(folder))
