"""Long statements laid out on several lines, the way Python's formatters do."""

from __future__ import annotations

import re
from collections.abc import Iterator

WIDTH = 120
STEP = 4


def statement(target: str, expression: str, *, indent: int) -> list[str]:
    """Lines of ``target expression``, none longer than `WIDTH` where a bracket allows it.

    Args:
        target: What stands before: ``"x = "`` or ``"return "``.
        expression: Python text in one line.
        indent: Spaces before each line.
    """
    if '"' not in expression:
        expression = expression.replace("'", '"')
    expression = re.sub(r"(?<![\w.)\]])([\w.]+) \*\* ([\w.]+)", r"\1**\2", expression)
    return _fold(target, expression, "", indent)


def _fold(before: str, text: str, after: str, indent: int) -> list[str]:
    """One line if it fits, else the contents of a bracket on lines of their own: the last whose opening line fits."""
    line = f"{' ' * indent}{before}{text}{after}"
    brackets = _brackets(text)
    if len(line) <= WIDTH or not brackets:
        return [line]
    start, end = next((b for b in reversed(brackets) if indent + len(before) + b[0] < WIDTH), brackets[-1])
    parts = _split(text[start + 1 : end])
    inner = f"{' ' * (indent + STEP)}{', '.join(parts)}"
    head, tail = f"{' ' * indent}{before}{text[: start + 1]}", f"{' ' * indent}{text[end:]}{after}"
    if text[start] == "(" and len(inner) <= WIDTH:
        return [head, inner, tail]
    lines = [head]
    for part in parts:
        lines += _fold("", part, ",", indent + STEP)
    return [*lines, tail]


def _brackets(text: str) -> list[tuple[int, int]]:
    """Where each outermost bracket that holds anything begins and ends; a lone index is left as it is.

    A comma behind it would make it another one.
    """
    depth, start = 0, 0
    found = []
    for i, letter in _outside_strings(text):
        if letter in "([":
            start = i if depth == 0 else start
            depth += 1
        elif letter in ")]":
            depth -= 1
            index = text[start] == "[" and start > 0 and len(_split(text[start + 1 : i])) == 1
            if depth == 0 and i > start + 1 and not index:
                found.append((start, i))
    return found


def _split(text: str) -> list[str]:
    """The parts between outermost commas."""
    parts, depth, start = [], 0, 0
    for i, letter in _outside_strings(text):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The letters that belong to no string, with their places."""
    quote = ""
    for i, letter in enumerate(text):
        if letter == quote:
            quote = ""
        elif not quote and letter in "\"'":
            quote = letter
        elif not quote:
            yield i, letter
