"""From the command line and a YAML file to checked settings, with errors of one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonargparse

from rlnas.cli.arguments import read_settings
from rlnas.cli.config import SearchSettings
from rlnas.errors import ConfigError

LEAST = {
    "evaluations": 1,
    "seed": 0,
    "space.stages": 1,
    "space.width": 1,
    "space.max_steps": 1,
    "evaluation.batch_size": 1,
    "evaluation.workers": 0,
    "evaluation.retries": 0,
    "evaluation.lag": 0,
    "evaluation.start_epochs": 0,
    "evaluation.start_evaluations": 5,
    "controller.n_envs": 1,
    "final.candidates": 1,
    "final.seeds": 1,
    "run.weights_mb": 0,
}
ABOVE_ZERO = (
    "space.promote_every",
    "evaluation.epochs",
    "evaluation.learning_rate",
    "evaluation.time_limit_s",
    "evaluation.memory_limit_mb",
    "final.epochs",
    "reward.target_ms",
    "reward.target",
    "reward.max_latency_ms",
    "controller.learning_rate",
)


@cache
def search_parser(prog: str) -> jsonargparse.ArgumentParser:
    """Parser of all settings of a search, and of ``--config``."""
    parser = jsonargparse.ArgumentParser(
        prog=prog,
        exit_on_error=False,
        allow_abbrev=False,
        description="Search a network for your data and your device; settings come from a YAML file and from options.",
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; options after it override it")
    parser.add_class_arguments(SearchSettings, nested_key=None)
    return parser


def parse_search(prog: str, arguments: Sequence[str]) -> tuple[SearchSettings, dict[str, Any], str]:
    """Settings as objects, as plain data, and the stem for the run's name.

    Raises:
        ConfigError: If a key is unknown, a value is of the wrong type or out of range, or the file cannot be read.
    """
    parser = search_parser(prog)
    words = [re.sub(r"^(--[\w.]+)=None$", r"\1=null", word) for word in arguments]
    try:
        parsed = parser.parse_args(words)
        settings = parser.instantiate(parsed)
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        for word, after in pairwise([*words, ""]):
            option, equals, value = word.partition("=")
            if word == "--config=":
                raise ConfigError("--config= names no file") from None
            if option == "--config" and (file := value if equals else after):
                read_settings(file)
        raise ConfigError(_one_line(str(error), _keys(parser), words)) from None
    files = parsed.pop("config", None) or []
    settings.pop("config", None)
    plain: dict[str, Any] = parsed.as_dict()
    check_ranges(plain)
    stem = Path(str(files[-1])).stem if files else "search"
    return SearchSettings(**settings.as_dict()), plain, stem


def settings_from_dict(plain: dict[str, Any]) -> SearchSettings:
    """Settings as objects from the plain data of a run's ``config.yaml``.

    Raises:
        ConfigError: If the data are not valid settings.
    """
    return complete_settings(plain)[0]


def complete_settings(plain: dict[str, Any]) -> tuple[SearchSettings, dict[str, Any]]:
    """Settings as objects and as plain data, with the defaults of what is not given.

    Raises:
        ConfigError: If the data are not valid settings.
    """
    parser = search_parser("rlnas train")
    try:
        parsed = parser.parse_object(plain)
        settings = parser.instantiate(parsed)
    except (jsonargparse.ArgumentError, TypeError, ValueError) as error:
        raise ConfigError(_one_line(str(error), _keys(parser), [])) from None
    parsed.pop("config", None)
    settings.pop("config", None)
    return SearchSettings(**settings.as_dict()), parsed.as_dict()


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one flat dict with dotted names."""
    found: dict[str, Any] = {}
    for name, value in plain.items():
        nested = isinstance(value, dict) and name not in ("options", "arguments")
        found.update(flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value})
    return found


def _keys(parser: jsonargparse.ArgumentParser) -> list[str]:
    return [*flat(parser.get_defaults().as_dict())]


def check_ranges(plain: dict[str, Any]) -> None:
    """Check the numbers of all settings.

    Raises:
        ConfigError: Naming the first that is out of range.
    """
    values = flat(plain)
    for key, least in LEAST.items():
        if values[key] < least:
            raise ConfigError(f"{key}={values[key]!r} is too small; it must be at least {least}")
    for key in ABOVE_ZERO:
        if values[key] is not None and not 0 < values[key] < float("inf"):
            raise ConfigError(f"{key}={values[key]!r} must be a number above 0")


def _one_line(message: str, keys: list[str], words: Sequence[str]) -> str:
    """jsonargparse's message in one line, with the nearest key where one is unknown."""
    group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message)
    plain = re.search(r"unrecognized arguments: (?:--)?([\w.]+)|Option '([\w.]+)' is not accepted", message)
    unknown = f"{group[1]}.{group[2]}" if group else (plain[1] or plain[2]) if plain else None
    if unknown is not None:
        name, part = unknown.rpartition(".")[2], unknown.partition(".")[0]
        last = [key for key in keys if key.rpartition(".")[2] == name]
        near = difflib.get_close_matches(unknown, last, n=1, cutoff=0) or difflib.get_close_matches(
            unknown, keys, n=1, cutoff=0.5
        )
        hint = f"did you mean {near[0]!r}? " if near else ""
        others = [key for key in keys if key in (f"{part}.arguments", f"{part}.options")]
        if others and not last and not difflib.get_close_matches(name, [key.rpartition(".")[2] for key in keys]):
            hint = f"an argument of the {part}'s own goes into {others[0]}; "
        return f"unknown setting {unknown!r}: {hint}rlnas train --help lists all of them"
    value = re.search(r'Parser key "([\w.]+)":', message)
    expected = re.findall(r"Expected an? (?:<class '([\w.]+)'>|typing\.([\w.]+\[.*?\]))", message)
    if value and expected:
        kinds = [a or b for a, b in expected]
        got = re.search(r"(?:Got value|Given value): (.*)", message)
        wanted = " or ".join("null" if k == "NoneType" else k for k in dict.fromkeys(kinds))
        return f"{value[1]}={got[1].strip() if got else '?'} is of the wrong type; expected {wanted}"
    return re.sub(r"\s+", " ", message).strip()
