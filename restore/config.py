"""Settings from outside (command line, YAML) into frozen dataclasses: typed, range-checked, with did-you-mean.

Lowest layer. Nothing is imported or evaluated by name.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import operator
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from restore.errors import ConfigError

T = TypeVar("T")


def from_settings(cls: type[T], settings: dict[str, Any]) -> T:
    """Build a dataclass from named values; text is converted to the field's type. Raises ConfigError."""
    hints = typing.get_type_hints(cls)
    fields = {f.name for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for name in settings:
        if name not in fields:
            raise ConfigError(
                f"{cls.__name__} has no setting '{name}'{did_you_mean(name, fields)}; "
                f"it has: {', '.join(sorted(fields))}"
            )
    return cls(**{k: _convert(f"{cls.__name__}.{k}", v, hints[k]) for k, v in settings.items()})


def parse_assignments(items: Iterable[str]) -> dict[str, str]:
    """`["gamma=3", "eta=1"]` as a dictionary. Raises ConfigError."""
    pairs = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set takes name=value, got '{item}'")
        pairs[name.strip()] = value.strip()
    return pairs


def arithmetic(formula: str, names: Mapping[str, Any]) -> int:
    """The whole number that a formula of names, numbers, +, -, *, // and brackets stands for, such as "2 * n_steps".

    names: values of the formula's names. Raises ConfigError for anything else.
    """

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name) and isinstance(names.get(node.id), int):
            return int(names[node.id])
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](value(node.left), value(node.right))
        raise ConfigError(f"'{formula}' is not a formula of {', '.join(names) or 'numbers'}")

    return value(ast.parse(formula, mode="eval").body)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?" or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _convert(where: str, value: Any, kind: Any) -> Any:
    union = typing.get_origin(kind) in (types.UnionType, typing.Union)
    options = typing.get_args(kind) if union else (kind,)
    target = next(o for o in options if o is not type(None))
    words = typing.get_args(target) if typing.get_origin(target) is typing.Literal else ()
    if value in words:
        return value
    if type(None) in options and (value is None or value == "none"):
        return None
    if words:
        raise ConfigError(f"{where} must be one of {', '.join(map(repr, words))}, got {value!r}")
    if isinstance(value, str):
        try:
            return _PARSERS[target](value)
        except ValueError as error:
            raise ConfigError(
                f"{where} must be of type {target.__name__}, got '{value}'"
            ) from error
    number = isinstance(value, int) and not isinstance(value, bool)
    if target is float and number:
        return float(value)
    if isinstance(value, target) and (target is not int or number):
        return value
    raise ConfigError(f"{where} must be of type {target.__name__}, got {value!r}")


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(text)


_PARSERS: dict[Any, Callable[[str], Any]] = {bool: _boolean, int: int, float: float, str: str}
_OPERATIONS: dict[type, Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv,
}  # fmt: skip
