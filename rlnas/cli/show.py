"""``rlnas show``: the evaluations of a run; the layers of a network, a drawing of it, or what can be done to it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rlnas.cli.arguments import make_parser, parse, target_file
from rlnas.cli.evaluations import add_tables, show_evaluations, shows_evaluations
from rlnas.cli.reading import read_network
from rlnas.errors import ConfigError
from rlnas.graph import Graph, Site
from rlnas.importing import is_import_path, reach
from rlnas.network import Network
from rlnas.operators import OPERATORS, get_operator
from rlnas.report.drawing import PICTURES, draw
from rlnas.report.layers import columns, layer_table, total_lines

ALL = "all"


def show(words: Sequence[str]) -> int:
    """Print or draw; returns the exit status."""
    parser = make_parser(
        "show",
        "List the layers of a network with their shapes and cost, or the evaluations of a run (a run's directory or a "
        "store, *.sqlite), also while it goes on.",
    )
    parser.add_argument("--draw", metavar="FILE", help="draw the network into FILE.svg or FILE.png instead")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument(
        "--sites",
        metavar="OPERATOR",
        nargs="?",
        const=ALL,
        help="list every place where an operator applies, of all operators or of one, with what it costs",
    )
    add_tables(parser)
    given = parse(parser, words)
    if given is None:
        return 0
    if shows_evaluations(given):
        _print(show_evaluations(given))
        return 0
    if given.draw is not None:
        if Path(given.draw).suffix not in PICTURES:
            raise ConfigError(f"--draw={given.draw}: name a file that ends in {' or '.join(PICTURES)}")
        target_file(given.draw, force=given.force)
    if given.sites and is_import_path(given.sites):
        reach(Path.cwd())
    operators = list(OPERATORS) if given.sites == ALL else [get_operator(given.sites).name] if given.sites else []
    network = read_network(given)
    if given.draw is not None:
        draw(network.graph, given.draw)
        print(f"drawn: {given.draw}")
    if operators:
        _print(sites_table(network.graph, operators))
    elif given.draw is None:
        _print([*layer_table(network.graph), "", *total_lines(network.graph), "", *history_lines(network)])
    return 0


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines))


def sites_table(graph: Graph, operators: Sequence[str]) -> list[str]:
    """A line for each site of some operators: as ``rlnas apply`` takes it, and what it changes."""
    rows = [("operator and site", "parameters", "", "MACs", "")]
    for name in operators:
        operator = get_operator(name)
        for site in operator.sites(graph):
            cost = operator.edit(graph, site).cost_delta
            rows.append(
                (
                    site_words(site),
                    *(f"{cost.n_params:+,}", _share(cost.n_params, graph.n_params)),
                    *(f"{cost.macs:+,}", _share(cost.macs, graph.macs)),
                )
            )
    if len(rows) == 1:
        return [f"no place for {', '.join(operators)}"]
    advice = "to make one of these edits: rlnas apply NETWORK, the operator and site as they stand here, --to FOLDER"
    return [*columns(rows, left=(0,)), "", f"{len(rows) - 1} sites; {advice}"]


def site_words(site: Site) -> str:
    """A site as ``rlnas apply NETWORK`` takes it."""
    target = f" --target {shlex.quote(site.target)}" if site.target else ""
    return f"{site.operator} {shlex.quote(site.anchor)}{target} --amount {site.amount:g}"


def _share(change: int, whole: int) -> str:
    return f"{100 * change / whole:+.1f} %" if whole else ""


def history_lines(network: Network) -> list[str]:
    """The operators applied so far, oldest first, and what each did to the outputs."""
    if not network.history:
        return ["no operators applied so far"]
    rows = []
    for number, applied in enumerate(network.history, 1):
        if applied.exact:
            said = "exact"
        else:
            drift = "not measured" if applied.drift is None else f"{applied.drift:.2e}"
            said = f"{'compensated' if applied.compensated else 'not compensated'}, drift {drift}"
        rows.append((f"  {number}", str(applied.site), said))
    return ["operators applied so far:", *columns(rows, left=(1, 2), ruled=False)]
