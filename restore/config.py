"""Settings from outside (command line, YAML) into frozen dataclasses: typed, range-checked, with did-you-mean.

Lowest layer. Nothing is imported or evaluated by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable
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
                f"{cls.__name__} has no setting '{name}'{did_you_mean(name, fields)}; it has: {', '.join(sorted(fields))}"
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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """", did you mean 'x'?" or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


def _convert(where: str, value: Any, kind: Any) -> Any:
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if typing.get_origin(kind) is typing.Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
        return value
    if value is None or value == "none":
        if type(None) in options:
            return None
        raise ConfigError(f"{where} must have a value")
    target = next(o for o in options if o is not type(None))
    if not isinstance(value, str):
        if target is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, target):
            return value
        raise ConfigError(f"{where} must be a {target.__name__}, got {value!r}")
    try:
        return {bool: _boolean, int: int, float: float, str: str}[target](value)
    except ValueError as error:
        raise ConfigError(f"{where} must be a {target.__name__}, got '{value}'") from error


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(text)
