"""The text files that scanners leave beside their projections: sections of `name=value`, and tables of angles.

Called by the readers of such scanners (`skyscan`, `nikon`); reads the one file it is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from restore.datasets.content import DOWNLOAD_AGAIN
from restore.errors import InputError

_LARGEST_BYTES = 1 << 24


@dataclasses.dataclass(frozen=True)
class ScannerLog:
    """Names in small letters to values, those of all sections together: the later wins; sections in small letters."""

    path: Path
    values: Mapping[str, str]
    sections: frozenset[str]

    def text(self, name: str) -> str:
        """The value, "" where it is missing."""
        return self.values.get(name.lower(), "")

    def number(self, name: str, usual: float | None = None) -> float:
        """A finite number. Raises InputError where it is none, or missing and nothing is usual."""
        text = self.text(name)
        if not text and usual is not None:
            return usual
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            what = f"'{name}' is {text!r}" if text else f"it tells no '{name}'"
            raise InputError(
                self.path, what, "expected a number: is this the file of the scan itself?"
            )
        return found

    def positive(self, name: str) -> float:
        """A number above 0. Raises InputError."""
        found = self.number(name)
        if found <= 0:
            raise InputError(self.path, f"'{name}' is {found:g}", "expected a number above 0")
        return found

    def count(self, name: str) -> int:
        """A whole number from 1 on. Raises InputError."""
        found = self.positive(name)
        if found % 1:
            raise InputError(self.path, f"'{name}' is {found:g}", "expected a whole number")
        return int(found)


def read_log(path: Path) -> ScannerLog:
    """The names and values of a file. Raises InputError for one that is no such text."""
    values: dict[str, str] = {}
    sections = set()
    for line in _lines(path):
        if line.startswith("[") and line.endswith("]"):
            sections.add(line[1:-1].strip().lower())
        elif "=" in line and not line.startswith((";", "#")):
            name, _, value = line.partition("=")
            values[name.strip().lower()] = value.strip()
    return ScannerLog(path, values, frozenset(sections))


def read_angle_table(path: Path) -> list[float]:
    """The second number of each line (number, angle, ...) behind the last line that is none: those above are headings.

    Raises InputError for an angle that is not finite.
    """
    found: list[float] = []
    for line in _lines(path):
        words = line.replace(",", " ").replace(":", " ").split()
        try:
            _, angle = int(words[0]), float(words[1])
        except (ValueError, IndexError):
            if line:
                found = []
            continue
        if not math.isfinite(angle):
            raise InputError(path, f"the line '{line[:40]}' holds no angle", "leave this view out")
        found.append(angle)
    return found


def numbered(
    path: Path, folder: Path, prefix: str, suffixes: Sequence[str], wanted: int
) -> list[Path]:
    """The files `prefix`NUMBER of a folder by their numbers, exactly `wanted` without a gap.

    path: of the log, for messages. Raises InputError for views that are missing and for more than there should be.
    """
    found: dict[int, Path] = {}
    for file in folder.iterdir():
        middle = file.stem[len(prefix) :].lstrip("_-")
        if (
            file.is_file()
            and file.suffix.lower() in suffixes
            and file.stem.lower().startswith(prefix.lower())
            and middle.isdecimal()
        ):
            found[int(middle)] = file
    if not found:
        raise InputError(
            path, f"no projections '{prefix}NUMBER' ({', '.join(suffixes)}) in {folder.name or folder}",
            "keep this file beside its projections",
        )  # fmt: skip
    first = min(found)
    lacking = [n for n in range(first, first + wanted) if n not in found]
    if lacking or len(found) != wanted:
        named = ", ".join(map(str, lacking[:8])) + (", ..." if len(lacking) > 8 else "")
        gap = f", without the numbers {named}" if lacking else ""
        raise InputError(
            path, f"it tells {wanted} projections, and there are {len(found)}{gap}",
            "copy the missing ones, or leave these views out of the file's number of projections at its end",
        )  # fmt: skip
    return [found[n] for n in sorted(found)]


def _lines(path: Path) -> list[str]:
    if path.stat().st_size > _LARGEST_BYTES:
        raise InputError(path, f"too large for such a text: {path.stat().st_size} bytes")
    content = path.read_bytes()
    if b"\0" in content:
        raise InputError(path, "no text: it holds zero bytes", DOWNLOAD_AGAIN)
    return [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
