"""``rlnas latency``: measure a network, build a look-up table, fit a predictor."""

from __future__ import annotations

import argparse
import difflib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from rlnas.cli.arguments import Parser, make_parser, parse
from rlnas.cli.measuring import SETTINGS, meter_of
from rlnas.cli.own_code import reach_own_code
from rlnas.cli.parse import parse_search
from rlnas.cli.reading import read_network
from rlnas.cli.search import load_the_task
from rlnas.cli.space_settings import space_arguments
from rlnas.cli.start import given_start
from rlnas.envs import make_networks
from rlnas.envs.make import make_space, makes_networks
from rlnas.errors import ConfigError, MeterError
from rlnas.graph import Graph
from rlnas.latency import Latency, LatencyPredictor, LatencyTable, Meter
from rlnas.latency.predictor import collect
from rlnas.latency.signature import Signature, signatures
from rlnas.latency.table import PieceMeter, check_same, fill
from rlnas.spaces import BuildSpace, MorphSpace
from rlnas.spaces.sampling import distinct_graphs, random_episodes

USAGE = """usage: rlnas latency COMMAND ...

commands:
  measure      the latency of a network: rlnas latency measure NETWORK
  build-table  the latency of each operation of a space: rlnas latency build-table --space CONFIG.yaml --to table.json
  fit          a predictor for a space: rlnas latency fit --space CONFIG.yaml --to predictor.json
"""
SAVE_EVERY_S = 2.0
FRESH_EPISODES = 100
LINES = 10


def latency(words: Sequence[str]) -> int:
    """Pick the command; returns the exit status."""
    command, rest = (words[0], words[1:]) if words else ("", ())
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    if not command:
        raise ConfigError(f"rlnas latency needs a command: {', '.join(COMMANDS)} (rlnas latency --help tells more)")
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"unknown command {f'latency {command}'.strip()!r}; {hint}known: {', '.join(COMMANDS)}")
    torch.set_num_threads(1)
    return COMMANDS[command](rest)


# ------------------------------------------------------------------------------------------------------------ measure


def measure(words: Sequence[str]) -> int:
    """Print the latency of a network; returns the exit status."""
    parser = make_parser("latency measure", "Measure the latency of a network on this machine, or look it up.")
    _add_meter(parser, default="torch_cpu", every=True)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parse(parser, words)
    if given is None:
        return 0
    meter = _meter(given)
    network = read_network(given)
    (found,) = meter.measure([network])
    if given.json:
        print(json.dumps({"graph": network.graph.key, **found.to_json(), "meter": dict(meter.description)}))
        return 0
    print(f"{found.ms:.4g} ms   95 % interval {found.low_ms:.4g} to {found.high_ms:.4g} ms, {found.n} samples")
    print(_described(meter.description))
    _print_warnings(found)
    return 0


def _described(said: Any) -> str:
    """What a meter says of itself, in one line."""
    words = [f"{key} {value}" for key, value in said.items() if not isinstance(value, dict)]
    inside = [f"measured by: {_described(value)}" for value in said.values() if isinstance(value, dict)]
    return "; ".join([", ".join(words), *inside])


def _print_warnings(found: Latency) -> None:
    for warning in found.warnings:
        print(f"warning: {warning}")


# -------------------------------------------------------------------------------------------------------- build-table


def build_table(words: Sequence[str]) -> int:
    """Measure what a table lacks; returns the exit status."""
    parser = Parser(
        prog="rlnas latency build-table",
        allow_abbrev=False,
        description="Measure every operation that networks of a space compute. A file that is there is added to.",
    )
    _add_space(parser, required=False)
    parser.add_argument("--to", metavar="FILE", required=True, help="the table, a JSON file")
    parser.add_argument("--episodes", type=int, default=200, help="random episodes that networks are taken from")
    parser.add_argument("--op", action="append", default=[], metavar="JSON", help="an operation, as errors name it")
    _add_meter(parser, default="torch_cpu")
    given = parse(parser, words)
    if given is None:
        return 0
    if given.space is None and not given.op:
        raise ConfigError("name a space whose operations are to be measured, --space CONFIG.yaml, or some with --op")
    _check_least(given, episodes=1)
    wanted = {key: Signature.from_key(key) for key in given.op}
    wanted = {signature.key: signature for signature in wanted.values()}
    space = _space(given)
    if space is not None:
        for graphs in islice(random_episodes(space, seed=given.seed), given.episodes):
            wanted |= {s.key: s for graph in graphs for s in signatures(graph)}
    path = Path(given.to)
    meter = _meter(given)
    if not hasattr(meter, "measure_pieces"):
        raise MeterError(f"the meter {given.meter} knows no single operations; use torch_cpu or torch_cuda")
    table = LatencyTable.load(path) if path.exists() else LatencyTable(meter.description)
    check_same(table.meter, meter.description, f"the table {path}")
    lacking = [signature for key, signature in sorted(wanted.items()) if key not in table.entries]
    known = len(wanted) - len(lacking)
    with _saving(path, table.save) as save, _steps("operations", len(wanted), done=known) as step:

        def add(signature: Signature, found: Latency) -> None:
            save()
            step(f"{signature.node.op} {found.ms:.4g} ms")

        fill(table, lacking, meter=_pieces(meter), on_entry=add)
    _say_table(path, table)
    if space is not None:
        _say_coverage(table, space, seed=given.seed + 1)
    return 0


def _pieces(meter: Any) -> PieceMeter:
    found: PieceMeter = meter
    return found


def _say_table(path: Path, table: LatencyTable) -> None:
    noticed = sum(bool(entry.warnings) for entry in table.entries.values())
    print(f"{path}: {len(table.entries)} operations" + (f", {noticed} measured with warnings" if noticed else ""))
    print(_described(table.meter))


def _say_coverage(table: LatencyTable, space: MorphSpace | BuildSpace, *, seed: int) -> None:
    """How many networks of episodes that the table was not made for it knows whole."""
    graphs = [episode[-1] for episode in islice(random_episodes(space, seed=seed), FRESH_EPISODES)]
    whole = sum(not table.missing([graph]) for graph in graphs)
    print(
        f"{whole} of {len(graphs)} networks of other random episodes have all their operations in the table"
        + ("" if whole == len(graphs) else "; --episodes with a larger number adds more")
    )


# ---------------------------------------------------------------------------------------------------------------- fit


def fit(words: Sequence[str]) -> int:
    """Measure networks and fit a predictor; returns the exit status."""
    parser = Parser(
        prog="rlnas latency fit",
        allow_abbrev=False,
        description="Measure networks of a space, and fit a predictor to them. A file that is there is gone on with.",
    )
    _add_space(parser, required=True)
    parser.add_argument("--to", metavar="FILE", required=True, help="the predictor, a JSON file")
    parser.add_argument("--networks", type=int, default=300, help="networks to measure")
    parser.add_argument("--passes", type=int, default=2, help="how often each is measured")
    _add_meter(parser, default="torch_cpu")
    given = parse(parser, words)
    if given is None:
        return 0
    _check_least(given, networks=30, passes=1)
    space = _space(given)
    assert space is not None
    path = Path(given.to)
    meter = _meter(given)
    predictor = LatencyPredictor.load(path) if path.exists() else LatencyPredictor(meter.description)
    check_same(predictor.meter, meter.description, f"the predictor {path}")
    graphs = distinct_graphs(space, given.networks, seed=given.seed)
    total = given.passes * len(graphs)
    done = sum(min(given.passes, len(row.latencies)) for g in graphs if (row := predictor.measured.get(g.key)))
    with _saving(path, predictor.save) as save:
        with _steps("measurements", total, done=done) as step:

            def add(graph: Graph, found: Latency) -> None:
                save()
                step(f"{len(graph)} nodes {found.ms:.4g} ms")

            collect(predictor, graphs, meter=meter, passes=given.passes, on_network=add)
        held_out = predictor.fit()
    _say_predictor(path, predictor)
    print(
        f"held out (five folds): mean absolute error {held_out.mape:.1f} %, Spearman {held_out.spearman:.3f}, "
        f"95 % of the networks within {100 * held_out.relative_95:.0f} %"
    )
    return 0


def _say_predictor(path: Path, predictor: LatencyPredictor) -> None:
    ms = sorted(row.ms for row in predictor.measured.values())
    print(f"{path}: fitted to {len(ms)} networks of {ms[0]:.4g} to {ms[-1]:.4g} ms")
    print(_described(predictor.meter))


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {"measure": measure, "build-table": build_table, "fit": fit}
"""Commands by name."""


# ------------------------------------------------------------------------------------------------------------- common


def _add_space(parser: Parser, *, required: bool) -> None:
    parser.add_argument("--space", metavar="CONFIG.yaml", required=required, help="a search's settings")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random episodes")


def _space(given: argparse.Namespace) -> MorphSpace | BuildSpace | None:
    """The space of a config, without its limit on latency, which is what is to be found out."""
    if given.space is None:
        return None
    settings, _, _ = parse_search("rlnas latency", ["--config", given.space])
    settings.space.max_predicted_ms = None
    reach_own_code(settings)
    task = load_the_task(settings)
    start = given_start(settings, task)
    arguments = space_arguments(settings)
    if makes_networks(settings.space.name):
        return make_networks(task, **arguments)
    return make_space(task, start=start.graph if start else None, **arguments)


def _add_meter(parser: Parser, *, default: str, every: bool = False) -> None:
    parser.add_argument("--meter", default=default, help=f"what measures; {default} by default")
    for name, (kind, text) in SETTINGS.items():
        if every or name not in ("table", "predictor"):
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help=text)


def _meter(given: argparse.Namespace) -> Meter:
    return meter_of(given.meter, {name: getattr(given, name, None) for name in SETTINGS})


def _check_least(given: argparse.Namespace, **least: int) -> None:
    for name, value in ({"seed": 0} | least).items():
        if getattr(given, name) < value:
            raise ConfigError(f"--{name} {getattr(given, name)} is too small; it must be at least {value}")


@contextmanager
def _saving(path: Path, write: Callable[[Path], None]) -> Iterator[Callable[[], None]]:
    """A function that writes a file now and then; it is written at the end too, however that comes."""
    written = 0.0

    def save() -> None:
        nonlocal written
        if time.monotonic() - written >= SAVE_EVERY_S:
            write(path)
            written = time.monotonic()

    try:
        yield save
    except KeyboardInterrupt:
        print(f"stopped; what was measured is in {path}, and the same command goes on from there")
        raise
    finally:
        write(path)


@contextmanager
def _steps(name: str, total: int, *, done: int) -> Iterator[Callable[[str], None]]:
    """A function that says that one more of them is done: a bar on a terminal, else a line now and then."""
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    times = (TextColumn("{task.fields[last]}"), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    bars = Progress(*columns, *times, console=console, disable=not console.is_terminal)
    if not console.is_terminal:
        console.print(f"{name}: {total}" + (f", {done} of them done" if done else ""))
    count, spacing = done, max(1, -(-(total - done) // LINES))
    with bars:
        task = bars.add_task(name, total=total, completed=done, last="")

        def step(last: str) -> None:
            nonlocal count
            count += 1
            bars.update(task, completed=count, last=last)
            if not console.is_terminal and ((count - done) % spacing == 0 or count == total):
                console.print(f"{count}/{total}  {last}")

        yield step
