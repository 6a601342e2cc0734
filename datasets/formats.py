"""The file formats that are read and written, one file each: what a format says of itself, and how they are found.

Whoever reads or writes files walks this list (`open`); nothing here imports a reader before it is asked for. Every
Python file in this folder and its rooms that assigns `FORMAT` at its top level is a format; other packages add theirs
through the entry-point group `restore.formats`. `described` reads the declarations without importing them.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import re
import typing
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from restore.datasets.content import Content
from restore.errors import ConfigError

Holds = Literal["volume", "scan", "picture"]

_ENTRY_POINTS = "restore.formats"
_DECLARES = re.compile(r"^FORMAT\b.*= Format\(", re.MULTILINE)
_TOLD = ("name", "holds", "files", "ways")


def _not_written(value: Any, path: Path, *, description: str = "") -> Path:
    raise ConfigError(f"{path}: files of this format are read, not written")


@dataclasses.dataclass(frozen=True)
class Format:
    """One kind of file.

    name: "NIfTI". holds: what opening it gives. files, ways: which files and what can be done with them, in words.
    claims(content): whether a file is of this format, by its content, quickly and without reading values; it may raise
    InputError for a file that is certainly damaged. open(path, **options): read it; anything wrong with the file is
    an InputError. options: the names that `open` takes. called: what messages call such a file, where its first bytes
    alone do not say ("a fastMRI scan"). rank: formats are asked in this order, the general ones late.

    suffixes: of names that mean this format when a result is written, "" for a folder whose name has none; none where
    it is not written. save(volume, path, description=...) -> path writes. beside: how the names of further files end
    that it writes with that name. read_back: whether `restore.read` opens what it writes. over_time: whether `save`
    writes a volume of several frames.
    """

    name: str
    holds: Holds
    files: str
    ways: str
    claims: Callable[[Content], bool]
    open: Callable[..., Any]
    options: tuple[str, ...] = ()
    called: str = ""
    rank: int = 50
    save: Callable[..., Path] = _not_written
    suffixes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    read_back: bool = True
    over_time: bool = False


@functools.cache
def known_formats() -> tuple[Format, ...]:
    """Every format, in the order in which they are asked. Raises ConfigError for a foreign one that is none."""
    found = [importlib.import_module(name).FORMAT for name in _modules()]
    for entry in metadata.entry_points(group=_ENTRY_POINTS):
        loaded = entry.load()
        if not isinstance(loaded, Format):
            raise ConfigError(
                f"entry point {entry.name} of {_ENTRY_POINTS} is no Format: {entry.value}"
            )
        found.append(loaded)
    return tuple(sorted(found, key=lambda f: (f.rank, f.name)))


def described() -> list[dict[str, Any]]:
    """name, holds, files and ways of every format: volumes, scans, pictures, foreign ones; no reader is imported."""
    own = [_declaration(path) for path in _modules().values()]
    foreign = [
        {"name": e.name, "holds": "", "files": "", "ways": f"from {e.value}"}
        for e in metadata.entry_points(group=_ENTRY_POINTS)
    ]
    kinds = typing.get_args(Holds)
    return sorted(own, key=lambda f: (kinds.index(f["holds"]), f["name"].lower())) + foreign


def _modules() -> dict[str, Path]:
    """Files that declare a format, by the names of their modules."""
    root = Path(__file__).parent
    return {
        ".".join(("restore.datasets", *path.relative_to(root).with_suffix("").parts)): path
        for path in sorted(root.rglob("*.py"))
        if _DECLARES.search(path.read_text(encoding="utf-8"))
    }


def _declaration(path: Path) -> dict[Any, Any]:
    """The literal values among the arguments of a file's `FORMAT = Format(...)`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    call = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "Format"
    )
    return {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in _TOLD}
