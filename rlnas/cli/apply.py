"""``rlnas apply``: one edit by hand."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rlnas.cli.arguments import add_target, check_node, make_parser, parse, target_folder
from rlnas.cli.before_after import cost_lines, output_lines
from rlnas.cli.reading import read_network
from rlnas.errors import ConfigError, TaskError
from rlnas.graph import Graph, Site
from rlnas.importing import is_import_path, reach
from rlnas.interchange import FORMATS, replaced
from rlnas.operators import OPERATORS, Operator, get_operator
from rlnas.tasks import TASKS, load_task

KNOWN = tuple(name for name in TASKS if name != "npz")
"""Tasks that need no file."""
MOST = 256
"""Inputs of a file that are used."""


def apply_operator(words: Sequence[str]) -> int:
    """Read, edit, write, and say what it cost; returns the exit status."""
    parser = make_parser("apply", "Apply one operator at one place of a network, and compare before and after.")
    parser.add_argument("operator", metavar="OPERATOR", help=f"{', '.join(OPERATORS)}, or package.module:name")
    parser.add_argument("site", metavar="SITE", help="the node it acts on; rlnas show NETWORK --sites lists them")
    parser.add_argument("--amount", type=float, help="how much, in the operator's terms; by default its first amount")
    parser.add_argument("--target", metavar="NODE", help="the second node, for operators that connect two")
    add_target(parser)
    parser.add_argument(
        "--calibration",
        metavar="DATA",
        help=f"inputs by which an approximate operator is compensated: a task ({', '.join(KNOWN)}), or an .npz file",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of new weights and noise (0)")
    given = parse(parser, words)
    if given is None:
        return 0
    torch.set_num_threads(1)
    if is_import_path(given.operator):
        reach(Path.cwd())
    operator = get_operator(given.operator)
    if operator.needs_calibration and not given.calibration:
        raise ConfigError(f"{operator.name} needs training inputs: --calibration DATA, a task or an .npz file")
    folder = target_folder(given.to, known={file for files in FORMATS.values() for file in files}, force=given.force)
    network = read_network(given)
    site = choose_site(network.graph, operator, given.site, target=given.target, amount=given.amount)
    calibration = _calibration(given.calibration, network.graph) if given.calibration else None
    generator = torch.Generator().manual_seed(given.seed)
    after = operator.apply(network, site, generator=generator, calibration=calibration)
    with replaced(folder) as partial:
        after.save(partial)
    print(site)
    applied = after.history[-1]
    kind = "exact" if applied.exact else "compensated" if applied.compensated else "not compensated"
    advice = "; --calibration DATA compensates" if kind == "not compensated" and calibration is None else ""
    said = output_lines(network, after, calibration, kind=kind + advice)
    for line in [*cost_lines(network.graph, after.graph), *said]:
        print(f"  {line}")
    print(f"written to {folder}")
    return 0


def choose_site(
    graph: Graph, operator: Operator, anchor: str, *, target: str | None = None, amount: float | None = None
) -> Site:
    """The site that a person means: what is left out is what the operator offers first there.

    Raises:
        ConfigError: If a node does not exist, or several second nodes are possible and none is named.
    """
    for id in (anchor, *([] if target is None else [target])):
        check_node(graph, id)
    here = [site for site in operator.sites(graph) if site.anchor == anchor and target in (None, site.target)]
    targets = list(dict.fromkeys(site.target for site in here))
    if target is None and len(targets) > 1:
        shown = ", ".join(str(t) for t in targets[:8]) + (", ..." if len(targets) > 8 else "")
        raise ConfigError(f"{operator.name} at {anchor} leads to a second node; name one with --target: {shown}")
    if operator.takes_target and target is None and not targets:
        raise ConfigError(f"{operator.name} applies nowhere at {anchor}; rlnas show NETWORK --sites {operator.name}")
    if target is None and targets:
        target = targets[0]
    if amount is None:
        amount = here[0].amount if here else operator.amounts[0]
    return Site(operator.name, anchor, target, amount)


# -------------------------------------------------------------------------------------------------------- calibration


def _calibration(text: str, graph: Graph) -> Tensor:
    """Inputs of a task, or the first array of a file."""
    if text in KNOWN:
        inputs = load_task(text).calibration(MOST)
    elif text.endswith(".npz"):
        inputs = _inputs(Path(text))
    else:
        raise ConfigError(f"--calibration={text} is neither a task ({', '.join(KNOWN)}) nor an .npz file")
    if tuple(inputs.shape[1:]) != graph.input_shape:
        raise ConfigError(
            f"inputs of {text} have shape {tuple(inputs.shape[1:])}, the network takes {graph.input_shape}"
        )
    if graph.input["dtype"] == "float32":
        return inputs.float()
    if inputs.is_floating_point():
        raise ConfigError(f"inputs of {text} are not whole numbers, and the network takes ids of tokens")
    return inputs


def _inputs(path: Path) -> Tensor:
    """``x_train`` of a file, or ``x``, or its only array; read without pickle."""
    if not path.is_file():
        raise TaskError(f"there is no file {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in ("x_train", "x") if name in archive.files] or archive.files
            if not names or (len(names) > 1 and names[0] not in ("x_train", "x")):
                raise TaskError(f"{path} has no array 'x_train'; it holds {', '.join(archive.files) or 'nothing'}")
            values = archive[names[0]][:MOST]
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise TaskError(f"{path} cannot be read as numbers: {' '.join(str(error).split())[:200]}") from None
    if values.dtype == np.uint8:
        values = values.astype(np.float32) / 255
    if values.dtype.kind not in "fiu" or values.ndim < 2 or not len(values):
        raise TaskError(f"array {names[0]!r} of {path} should hold a batch of numbers, not {values.shape}")
    return torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))
