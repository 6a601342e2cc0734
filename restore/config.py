"""Settings: declared on the field of a dataclass, checked in one place, wherever they come from.

    n_steps: int = setting(30, "network evaluations", at_least=1)
    eta: float = setting(1.0, "stochastic share", between=(0, 1))

`check_settings` holds every field of an object to its type, its words (`Literal`) and its range; `from_settings` turns
text from a command line or a file into values first; `settings_of` tells people what there is to set. Lowest layer:
nothing is imported or evaluated by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from restore.errors import ConfigError

T = TypeVar("T")

LARGEST_COUNT = 100_000
"""No whole number that is set may exceed this unless its field says so: counts beyond it are steps that never end."""


@dataclasses.dataclass(frozen=True)
class Range:
    """What a setting is in words, and the values that it may have; None for no limit."""

    what: str = ""
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None

    def fault(self, value: float) -> str:
        """What is wrong with a number, such as "must be above 0", or nothing."""
        if not isinstance(value, int) and not math.isfinite(value):
            return "must be finite"
        outside = (
            self.at_least is not None and value < self.at_least,
            self.at_most is not None and value > self.at_most,
            self.above is not None and value <= self.above,
            self.below is not None and value >= self.below,
        )
        return (
            f"must {'lie in' if '..' in self.text() else 'be'} {self.text()}"
            if any(outside)
            else ""
        )

    def text(self) -> str:
        """The range in words: "0..1", "above 0", "at least 1"; nothing where there is none."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least}..{self.at_most}"
        bounds = {
            "at least": self.at_least, "above": self.above, "at most": self.at_most, "below": self.below,
        }  # fmt: skip
        return " and ".join(
            f"{word} {bound}" for word, bound in bounds.items() if bound is not None
        )


def setting(
    default: Any,
    what: str = "",
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    between: tuple[float, float] | None = None,
) -> Any:
    """A field of a dataclass with its meaning and its range; `between` includes both ends.

    Numbers are finite. Whole numbers are at most `LARGEST_COUNT` unless `at_most` says otherwise.
    """
    if between is not None:
        at_least, at_most = between
    declared = Range(what, at_least, at_most, above, below)
    return dataclasses.field(default=default, metadata={"setting": declared})


def shared(owner: type, name: str, default: Any = dataclasses.MISSING) -> Any:
    """A field declared as that of another dataclass: a sampler's setting that goes to its schedule.

    default: by default the other's.
    """
    field = next(f for f in dataclasses.fields(owner) if f.name == name)
    value = field.default if default is dataclasses.MISSING else default
    return dataclasses.field(default=value, metadata=field.metadata)


def check_settings(owner: Any) -> None:
    """Hold every field of a dataclass's instance to its declaration, in its `__post_init__`.

    Fields of the types int, float, bool, str and Literal, or one of them and None, or a number and words for it
    (`int | Literal["auto"]`), are checked; others are the owner's own matter. Numbers of other libraries become
    Python's, whole numbers become floats where floats are meant. Raises ConfigError naming class, field, value, and
    what would do.
    """
    cls = type(owner)
    for name, kind in _kinds(cls).items():
        value = getattr(owner, name)
        checked = kind.checked(f"{cls.__name__}: {name}", value)
        if checked is not value:
            object.__setattr__(owner, name, checked)


def from_settings(cls: type[T], settings: dict[str, Any]) -> T:
    """Build a dataclass from named values; text is converted to the field's type. Raises ConfigError."""
    fields = [f.name for f in dataclasses.fields(cls) if f.init]  # type: ignore[arg-type]
    kinds = _kinds(cls)
    for name in settings:
        if name not in fields:
            raise ConfigError(
                f"{cls.__name__} has no setting '{name}'{did_you_mean(name, fields)}; "
                f"it has: {', '.join(sorted(fields))}"
            )
    values = {
        k: kinds[k].parsed(f"{cls.__name__}: {k}", v) if k in kinds else v
        for k, v in settings.items()
    }
    return cls(**values)


def settings_of(cls: type) -> list[dict[str, Any]]:
    """A record for every setting: name, type, default, its words or range, and what it is."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    return [
        {
            "name": name, "type": kind.type_name, "default": defaults[name], "words": list(kind.words),
            "range": kind.range.text(), "none": kind.optional, "what": kind.range.what,
        }
        for name, kind in _kinds(cls).items()
    ]  # fmt: skip


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
    """ ", did you mean 'x'?" or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean '{close[0]}'?" if close else ""


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The type of one field (int, float, bool or str), its words, whether it may be None, and its range.

    Words of a str are all that it may be; of another type they may stand in the place of its values.
    """

    type: type
    words: tuple[str, ...]
    optional: bool
    range: Range

    @property
    def type_name(self) -> str:
        return "word" if self.words and self.type is str else self.type.__name__

    def parsed(self, where: str, value: Any) -> Any:
        """The value of a text; other values are checked. Raises ConfigError."""
        if self.optional and value == "none" and value not in self.words:
            return None
        if isinstance(value, str) and value not in self.words and self.type is not str:
            try:
                value = _PARSERS[self.type](value)
            except ValueError as error:
                raise ConfigError(f"{where} must be {self._wanted}, got '{value}'") from error
        return self.checked(where, value)

    def checked(self, where: str, value: Any) -> Any:
        """The value, of the field's own type. Raises ConfigError."""
        if value is None and self.optional:
            return value
        if isinstance(value, str) and value in self.words:
            return value
        if self.words and self.type is str:
            known = ", ".join(map(repr, self.words))
            hint = did_you_mean(str(value), self.words)
            raise ConfigError(f"{where} must be one of {known}, got {value!r}{hint}")
        number = self._number(value)
        if number is None:
            raise ConfigError(f"{where} must be {self._wanted}, got {value!r}")
        fault = self.range.fault(number) if self.type in (int, float) else ""
        if fault:
            raise ConfigError(f"{where} {fault}, got {number!r}")
        return number

    @property
    def _wanted(self) -> str:
        words = f" or {', '.join(map(repr, self.words))}" if self.words else ""
        return f"of type {self.type_name}{words}"

    def _number(self, value: Any) -> Any:
        """The value as int, float, bool or str where it is one without loss, else None."""
        if self.type in (bool, str):
            return value if isinstance(value, self.type) else None
        abstract = numbers.Integral if self.type is int else numbers.Real
        if isinstance(value, bool) or not isinstance(value, abstract):
            return None
        return value if type(value) is self.type else self.type(value)


def _kinds(cls: type) -> dict[str, _Kind]:
    """The fields that can be checked; read once a class."""
    if cls in _KNOWN:
        return _KNOWN[cls]
    hints = typing.get_type_hints(cls)
    found = {}
    for field in dataclasses.fields(cls):
        kind = _kind(hints[field.name], field.metadata.get("setting")) if field.init else None
        if kind is not None:
            found[field.name] = kind
        elif "setting" in field.metadata:
            raise TypeError(
                f"{cls.__name__}.{field.name}: {hints[field.name]} is no type of settings"
            )
    _KNOWN[cls] = found
    return found


def _kind(hint: Any, declared: Range | None) -> _Kind | None:
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    options = typing.get_args(hint) if union else (hint,)
    named = [o for o in options if typing.get_origin(o) is typing.Literal]
    plain = [o for o in options if o is not type(None) and o not in named]
    if len(named) > 1 or len(plain) + len(named) == 0 or len(plain) > 1:
        return None
    words = typing.get_args(named[0]) if named else ()
    target = plain[0] if plain else str
    if target not in _PARSERS:
        return None
    if declared is None:
        declared = Range()
    elif target is int and declared.at_most is None and declared.below is None:
        declared = dataclasses.replace(declared, at_most=LARGEST_COUNT)
    return _Kind(target, words, type(None) in options, declared)


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError(text)


_KNOWN: dict[type, dict[str, _Kind]] = {}
_PARSERS: dict[Any, Callable[[str], Any]] = {bool: _boolean, int: int, float: float, str: str}
