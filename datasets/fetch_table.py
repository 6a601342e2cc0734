"""What can be fetched by name: the table of this package and those of a site, checked entry by entry.

Used by `datasets/fetching.py`, the store of priors and `restore data fetch`. A table is YAML with the sections `data`
and `priors`; docs/fetching.md shows its form.
"""

from __future__ import annotations

import dataclasses
import os
import re
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from restore.config import did_you_mean
from restore.datasets.plain_yaml import Value, Word, read_plain_yaml
from restore.errors import InputError, NotFoundError

TABLES = "RESTORE_TABLES"
"""Environment variable: further tables, separated as in PATH; of two entries of one name the later wins."""
SECTIONS = ("data", "priors")
DEEPEST = 5
"""Levels: the file, a section, an entry, its list of files, one of them."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """One file: its name here, its address, its sha256 in hex and its size in bytes, None where the table has none."""

    name: str
    url: str
    sha256: str
    size: int | None


@dataclasses.dataclass(frozen=True)
class Entry:
    """What stands under a name of a section: a word on what it is, its licence, its files, the table it is from."""

    section: str
    name: str
    what: str
    licence: str
    files: tuple[RemoteFile, ...]
    table: Path


def entries(section: str) -> dict[str, Entry]:
    """Everything of a section, "data" or "priors", by name. Raises InputError, NotFoundError for a faulty table."""
    found: dict[str, Entry] = {}
    for path in _tables():
        values = read_plain_yaml(path, DEEPEST)
        for name in values:
            if name not in SECTIONS:
                raise InputError(path, f"'{name}' is no section{did_you_mean(name, SECTIONS)}")
        found |= {
            name: _entry(path, section, name, value)
            for name, value in _mapping(path, section, values.get(section, {})).items()
        }
    return found


def entry_of(section: str, name: str) -> Entry:
    """The entry of a name. Raises NotFoundError with the nearest name."""
    known = entries(section)
    if name not in known:
        names = f"; there are {', '.join(known)}" if known else "; the tables are empty"
        raise NotFoundError(
            f"no '{name}' in the table of {section}{did_you_mean(name, known)}{names}"
        )
    return known[name]


def _tables() -> list[Path]:
    own = Path(str(resources.files("restore"))) / "datasets" / "fetchable.yaml"
    return [own, *(Path(p) for p in os.environ.get(TABLES, "").split(os.pathsep) if p)]


def _entry(path: Path, section: str, name: str, value: Value) -> Entry:
    where = f"{section}: {name}"
    if not NAME.fullmatch(name):
        raise InputError(path, f"{where}: a name has letters, digits, dots, dashes and underscores")
    fields = _fields(path, where, value, {"what", "licence", "files"})
    listed = fields["files"]
    if not isinstance(listed, list) or not listed:
        raise InputError(path, f"{where}: files must be a list of at least one")
    files = tuple(_file(path, f"{where}: file {k}", one) for k, one in enumerate(listed, 1))
    if len({f.name for f in files}) < len(files):
        raise InputError(path, f"{where}: two files of one name")
    what, licence = (_text(path, f"{where}: {k}", fields[k]) for k in ("what", "licence"))
    return Entry(section, name, what, licence, files, path)


def _file(path: Path, where: str, value: Value) -> RemoteFile:
    fields = _fields(path, where, value, {"name", "url", "sha256"}, {"bytes"})
    name, url, sha256 = (_text(path, f"{where}: {k}", fields[k]) for k in ("name", "url", "sha256"))
    if not NAME.fullmatch(name):
        raise InputError(path, f"{where}: '{name}' is no plain file name")
    if not _is_address(url):
        raise InputError(path, f"{where}: '{url}' is no http or https address")
    if not SHA256.fullmatch(sha256.lower()):
        raise InputError(path, f"{where}: '{sha256}' is no sha256 of 64 hexadecimal digits")
    size = fields.get("bytes")
    if size is None:
        return RemoteFile(name, url, sha256.lower(), None)
    digits = _text(path, f"{where}: bytes", size)
    if not digits.isascii() or not digits.isdigit():
        raise InputError(path, f"{where}: bytes: '{digits}' is no whole number")
    return RemoteFile(name, url, sha256.lower(), int(digits))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # brackets that do not close, a port that is no number
        return False


def _fields(
    path: Path, where: str, value: Value, needed: set[str], more: set[str] = frozenset()  # type: ignore[assignment]
) -> dict[str, Value]:  # fmt: skip
    found = _mapping(path, where, value)
    for name in found:
        if name not in needed | more:
            near = did_you_mean(name, needed | more)
            raise InputError(path, f"{where}: '{name}' is unknown{near}")
    missing = sorted(needed - set(found))
    if missing:
        raise InputError(path, f"{where}: {', '.join(missing)} missing")
    return found


def _mapping(path: Path, where: str, value: Value) -> dict[str, Value]:
    if isinstance(value, Word) and value.kind == "none":
        return {}
    if not isinstance(value, dict):
        raise InputError(path, f"{where}: names with values were expected")
    return value


def _text(path: Path, where: str, value: Value) -> str:
    if not isinstance(value, Word) or value.kind == "none" or not value.text:
        raise InputError(path, f"{where}: a text was expected")
    return value.text
