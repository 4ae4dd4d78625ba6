"""What texts of a class have in common: the same text, with names where their numbers differ."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

DEFAULTS: dict[str, Any] = {
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": True,
    "padding_mode": "zeros",
    "eps": 1e-5,
    "momentum": 0.1,
    "kv_heads": None,
}
"""Keywords in the order in which they are written, with what they are where they are left out."""


class MismatchError(Exception):
    """Texts that differ in more than their values."""


class Unifier:
    """Merges syntax trees into one; values that differ become placeholders.

    Attributes:
        vectors: What each placeholder stands for in each of the trees.
        uses: Where it stands: the attribute that is assigned, and the argument (its position or keyword).
    """

    def __init__(self) -> None:
        self.vectors: list[tuple[Any, ...]] = []
        self.uses: list[list[tuple[str, str]]] = []
        self._assigned = ""

    def merge(self, trees: Sequence[ast.AST]) -> ast.AST:
        """The tree that they have in common.

        Raises:
            MismatchError: If more than values differ, or a value differs where no name can stand.
        """
        merged: ast.AST = self._merge(list(trees), "")
        return merged

    def _merge(self, trees: list[Any], role: str) -> Any:
        first = trees[0]
        if all(ast.dump(tree) == ast.dump(first) for tree in trees[1:]):
            return first
        values = [_literal(tree) for tree in trees]
        if all(value is not _NONE for value in values):
            return self._placeholder(values, role)
        if any(type(tree) is not type(first) for tree in trees) or isinstance(first, ast.Slice):
            raise MismatchError
        if isinstance(first, ast.Assign):
            self._assigned = ast.unparse(first.targets[0]).removeprefix("self.")
        if isinstance(first, ast.Call):
            return self._call(trees)
        fields: dict[str, Any] = {}
        for name, value in ast.iter_fields(first):
            others = [getattr(tree, name) for tree in trees]
            if isinstance(value, ast.AST):
                fields[name] = self._merge(others, role)
            elif isinstance(value, list):
                if any(len(other) != len(value) for other in others):
                    raise MismatchError
                fields[name] = [self._merge(list(items), role) for items in zip(*others, strict=True)]
            elif any(other != value for other in others):
                raise MismatchError
            else:
                fields[name] = value
        return type(first)(**fields)

    def _call(self, trees: list[ast.Call]) -> ast.Call:
        first = trees[0]
        function = self._merge([tree.func for tree in trees], "")
        if any(len(tree.args) != len(first.args) for tree in trees):
            raise MismatchError
        arguments = [
            self._merge(list(items), str(k)) for k, items in enumerate(zip(*(t.args for t in trees), strict=True))
        ]
        given = [{k.arg: k.value for k in tree.keywords} for tree in trees]
        names = {name for keywords in given for name in keywords}
        everywhere = [name for name in given[0] if all(name in keywords for keywords in given)]
        if not names <= {*everywhere, *DEFAULTS}:
            raise MismatchError
        order = [*DEFAULTS] if names <= {*DEFAULTS} else [*everywhere, *(n for n in DEFAULTS if n not in everywhere)]
        keywords = []
        for name in order:
            if name in names:
                values = [found.get(name, ast.Constant(DEFAULTS.get(str(name)))) for found in given]
                keywords.append(ast.keyword(name, self._merge(values, str(name))))
        return ast.Call(function, arguments, keywords)

    def _placeholder(self, values: list[Any], role: str) -> ast.Name:
        if len({type(value) for value in values} - {int, tuple}) > 1 or any(isinstance(v, str) for v in values):
            raise MismatchError
        vector = tuple(values)
        if vector not in self.vectors:
            self.vectors.append(vector)
            self.uses.append([])
        number = self.vectors.index(vector)
        self.uses[number].append((self._assigned, role))
        return ast.Name(placeholder(number))


_NONE = object()


def placeholder(number: int) -> str:
    """The name that stands for a vector until it has one of its own."""
    return f"_value_{number}_"


def _literal(tree: Any) -> Any:
    """The value of a literal; `_NONE` for anything else."""
    if not isinstance(tree, (ast.Constant, ast.Tuple, ast.UnaryOp)):
        return _NONE
    try:
        return ast.literal_eval(tree)
    except ValueError:
        return _NONE


def substitute(tree: ast.AST, names: dict[str, ast.expr]) -> ast.AST:
    """The tree with expressions in place of names."""

    class Renamer(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return names.get(node.id, node)

    return Renamer().visit(tree)  # type: ignore[no-any-return]
