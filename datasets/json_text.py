"""JSON in and out, the same way for every record: cards, sidecars, runs, tuned values, cells of a table.

May be called by everybody; touches the one file it is given. What is read is untrusted: its size, depth and numbers are
bounded, a name may not stand twice, and every fault is one error. No numpy, so that listing stays quick.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from restore.datasets.atomic import atomic_file
from restore.errors import ConfigError, InputError, NotFoundError

LARGEST_BYTES = 1 << 24
DEEPEST = 64
"""Lists and objects within each other: records have a handful."""


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file, UTF-8 with or without a byte-order mark. Raises NotFoundError, InputError."""
    path = Path(path)
    if not path.is_file():
        if path.exists():
            raise InputError(path, "not a file", "expected a JSON file")
        raise NotFoundError(f"{path}: there is no such file")
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_BYTES + 1)
        if len(raw) > LARGEST_BYTES:
            raise InputError(path, f"over {LARGEST_BYTES >> 20} MB, too large for a record")
        value = parse_json(raw.decode("utf-8-sig"))
    except OSError as cause:
        raise InputError(path, f"cannot be read ({cause.strerror})") from cause
    except ValueError as cause:
        raise InputError(path, f"not JSON ({cause})") from cause
    if not isinstance(value, dict):
        raise InputError(path, f"a JSON {type(value).__name__}, expected an object")
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError, also for NaN and infinities, names that stand twice in an object, and deep nesting.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except RecursionError as cause:
        raise ValueError("nested too deeply") from cause
    level = [value]
    for _ in range(DEEPEST):
        level = [item for outer in level for item in _inside(outer)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def write_json(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as `plain` values, its names sorted: equal records give equal files. The file appears at once.

    Bytes of a file's name that are no UTF-8 (lone surrogates in Python) stand as JSON's own escapes, and come back as
    they were. Raises ConfigError for a value that cannot stand in JSON, OutputError.
    """
    text = json.dumps(plain(record), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    raw = (text + "\n").encode("utf-8", "backslashreplace")
    with atomic_file(path, expected_bytes=len(raw)) as partial:
        partial.write_bytes(raw)


def plain(value: Any, where: str = "record") -> Any:
    """A value as JSON types: numpy as numbers and lists, dataclasses as objects, a path as its last part.

    Numbers that are not finite become texts. Raises ConfigError naming the place of a value that cannot be.
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ConfigError(f"{where}: a {type(value).__name__} cannot stand in a JSON record")


def _inside(value: Any) -> list[Any]:
    """The lists and objects directly in one."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [item for item in items if isinstance(item, dict | list)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice[:40]}' stands twice in one object")
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value
