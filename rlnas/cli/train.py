"""``rlnas train``: begin a search."""

from __future__ import annotations

from collections.abc import Sequence

from rlnas.cli.parse import parse_search, search_parser


def train(arguments: Sequence[str]) -> int:
    """Check the settings, make the run directory, search; returns the exit status."""
    if any(word in ("-h", "--help") for word in arguments):
        search_parser("rlnas train").print_help()
        return 0
    settings, plain, stem = parse_search("rlnas train", arguments)
    from rlnas.cli import search, tabular

    begin = tabular.begin if tabular.is_looked_up(settings) else search.begin
    return begin(settings, plain, stem=stem)
