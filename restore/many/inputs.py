"""What folders, globs and several names hold for a verb: its inputs, one by one, with the names that results mirror.

Called by `cli/many.py`. Files are known by their content, pictures by their names; hidden ones are passed over, and so
is the folder that results go to. A file that is named like an input and damaged is an input too: it fails by itself,
with its sentence, and not in silence.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from restore.datasets.atomic import name_suffix
from restore.datasets.content import DICOM, Content, look_at
from restore.datasets.formats import Format, known_formats
from restore.datasets.picture.images import SUFFIXES
from restore.datasets.volume.dicom_listing import series_of
from restore.errors import InputError, NotFoundError, RestoreError
from restore.many import bids

Holds = Literal["scan", "volume", "picture", "result", "run"]
"""A result is a volume or a picture."""

NAMED_LIKE = {
    "picture": tuple(SUFFIXES),
    "scan": (".h5", ".hdf5", ".mrd", ".dat", ".cfl"),
    "volume": (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"),
    "result": (".nii", ".nii.gz", *SUFFIXES),
    "run": (),
}
"""Suffixes of files that are inputs whatever they hold."""
SECOND_HALVES = {".hdr": ".cfl", ".img": ".hdr"}
"""Files that go with another one of their name."""
RUN = "run*.json"
BESIDE = re.compile(r"(.+)_(std|interval|degraded)|contact_sheet_*")
"""Stems of files beside results that are no results themselves."""
SHOWN = 5
"""Kinds of files in a note or a refusal."""


@dataclasses.dataclass(frozen=True)
class Input:
    """A file or folder for one job. name: as results mirror it, folders and all. series: which of DICOM's, by its UID.
    entities: of its BIDS name, with `datatype`."""

    source: Path
    name: Path
    series: str = ""
    entities: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Listing:
    """The inputs in the order of their names. folder: what the names are relative to. notes: on what was left out."""

    inputs: tuple[Input, ...]
    folder: Path
    notes: tuple[str, ...] = ()


class NothingFoundError(InputError):
    """What was given holds no input."""


def is_glob(word: str | Path) -> bool:
    """Whether a name has wildcards and is not the name of something that is there."""
    return glob.has_magic(str(word)) and not os.path.lexists(word)


def list_inputs(
    words: Sequence[Path], holds: Holds, *, avoid: Path | None = None, wanted: bids.Wanted
) -> Listing:
    """The inputs that files, folders and globs stand for.

    holds: what the verb reads. avoid: a folder whose content is no input. wanted: which files of BIDS trees. Raises
    NotFoundError, InputError for nothing found, ConfigError for choices that BIDS trees alone have.
    """
    starts = [start for word in words for start in _matches(word)]
    folder = common_folder(words)
    walk = _Walk(holds, None if avoid is None else avoid.resolve())
    found = [entry for start in dict.fromkeys(starts) for entry in walk.of(start, wanted)]
    unique = {(entry.source, entry.series): entry for entry in found}
    named = [dataclasses.replace(e, name=_relative(e.name, folder)) for e in unique.values()]
    if wanted.asks:
        named = [e for e in named if wanted.fits(dict(e.entities))]
    if not named:
        where = words[0] if len(words) == 1 else folder
        raise NothingFoundError(where, *_nothing(walk, holds, wanted))
    named.sort(key=lambda e: (str(e.name), e.series))
    return Listing(tuple(named), folder, tuple(walk.told()))


def _matches(word: Path) -> list[Path]:
    if not is_glob(word):
        if not word.exists():
            raise NotFoundError(f"{word}: no such file or folder")
        return [word]
    base = _without_wildcards(word)
    found = sorted(
        path for path in base.glob(str(word.relative_to(base)))
        if not any(part.startswith(".") for part in path.relative_to(base).parts)
    )  # fmt: skip
    if not found:
        raise NotFoundError(f"{word}: nothing there matches; quote it, and try it with `ls`")
    return found


def common_folder(words: Sequence[Path]) -> Path:
    """The folder that names are relative to: the one that was given, of a glob its part without wildcards."""
    if len(words) == 1 and not is_glob(words[0]):
        return words[0] if words[0].is_dir() else words[0].parent
    bases = [_without_wildcards(word) if is_glob(word) else word.parent for word in words]
    return Path(os.path.commonpath([base.absolute() for base in bases]))


def _without_wildcards(word: Path) -> Path:
    while is_glob(word):
        word = word.parent
    return word


def _relative(path: Path, folder: Path) -> Path:
    """A path within the folder that names are relative to."""
    return Path(os.path.relpath(path.absolute(), folder.absolute()))


class _Walk:
    """One walk through what was given: what is an input, and what was left out."""

    def __init__(self, holds: Holds, avoid: Path | None) -> None:
        self.holds, self.avoid = holds, avoid
        self.left: list[Path] = []
        self.notes: list[str] = []
        self.seen = 0

    def of(self, start: Path, wanted: bids.Wanted) -> Iterator[Input]:
        """The inputs of a file or a folder; names are still whole paths."""
        if not start.is_dir():
            yield from self._of_files([start], given=True)
            return
        if self.avoid is not None and start.resolve().is_relative_to(self.avoid):
            return
        whole = next((f for f in self._folders(start) if f == start), None)
        if whole is not None:
            yield Input(start, start)
            return
        tree = bids.is_tree(start)
        if wanted.asks and not tree:
            raise InputError(start, *bids.no_tree(start))
        skip = bids.NOT_RAW if tree else ()
        files: list[Path] = []
        for folder, inside in _folders_below(start, self.avoid, skip):
            if folder != start and next(self._folders(folder), None) is not None:
                yield Input(folder, folder)
                continue
            files += inside
        for entry in self._of_files(files):
            yield (
                dataclasses.replace(entry, entities=bids.entities(entry.source)) if tree else entry
            )

    def told(self) -> list[str]:
        """Notes on what was left out."""
        if not self.left:
            return self.notes
        kinds = ", ".join(_kinds(self.left))
        what = {"picture": "whose names say no PNG, JPEG or TIFF"}.get(
            self.holds, f"which hold no {self.holds}"
        )
        return [f"left out: {len(self.left)} of {self.seen} files, {what} ({kinds})", *self.notes]

    def _folders(self, folder: Path) -> Iterator[Path]:
        """The folder itself where it is one input as a whole."""
        if self.holds == "run" and any(folder.glob(RUN)):
            yield folder
        if self.holds == "scan" and any(
            f.claims(Content(folder, is_folder=True)) for f in _formats("scan")
        ):
            yield folder

    def _of_files(self, files: Sequence[Path], given: bool = False) -> Iterator[Input]:
        """given: named by the user, hence an input whatever it is."""
        self.seen += len(files)
        if self.holds == "result" and not given:
            files = [file for file in files if not _is_beside(file, files)]
        dicom: list[Path] = []
        for file in _without_halves(files):
            if given:
                yield Input(file, file)
                continue
            kind = self._judged(file)
            if kind == "dicom":
                dicom.append(file)
            elif kind == "input":
                yield Input(file, file)
            else:
                self.left.append(file)
        if dicom:
            yield from self._of_dicom(dicom)

    def _judged(self, file: Path) -> Literal["input", "dicom", "other"]:
        alike = file.name.lower().endswith(NAMED_LIKE[self.holds]) and bool(NAMED_LIKE[self.holds])
        if self.holds in ("picture", "run"):
            return "input" if alike else "other"
        try:
            content = look_at(file)
            if content.kind == DICOM and self.holds in ("volume", "result"):
                return "dicom"
            if any(form.claims(content) for form in _formats(self.holds)):
                return "input"
            other = any(form.claims(content) for form in known_formats())
        except (RestoreError, OSError):
            other = False  # damaged or not to be opened: its own job says so
        return "input" if alike and not other else "other"

    def _of_dicom(self, files: Sequence[Path]) -> Iterator[Input]:
        found, notes, stray = series_of(files)
        self.notes += notes
        names = [s.folder if s.alone else s.folder / s.label for s in found]
        for series, name in zip(found, names, strict=True):
            if names.count(name) > 1:
                name = name.with_name(f"{name.name}_{series.uid[-8:].replace('.', '-')}")
            yield Input(series.folder, name, "" if series.alone else series.uid)
        yield from (Input(file, file) for file in stray)


def _formats(holds: Holds) -> list[Format]:
    kinds = ("volume", "picture") if holds == "result" else (holds,)
    return [form for form in known_formats() if form.holds in kinds]


def _is_beside(file: Path, files: Sequence[Path]) -> bool:
    """Whether a file stands beside a result of the same folder: its deviation, its interval, a sheet of all."""
    suffix = name_suffix(file)
    found = BESIDE.fullmatch(file.name.removesuffix(suffix))
    return found is not None and (found[1] is None or file.with_name(found[1] + suffix) in files)


def _folders_below(
    start: Path, avoid: Path | None, skip: Sequence[str]
) -> Iterator[tuple[Path, list[Path]]]:
    """A folder and those below it with their files, in the order of their names. skip: names in the first level."""
    for folder, names, files in os.walk(start):
        here = Path(folder)
        names[:] = sorted(
            n for n in names
            if not n.startswith(".") and not (here == start and n in skip)
            and not (avoid is not None and (here / n).resolve().is_relative_to(avoid))
        )  # fmt: skip
        yield here, [here / n for n in sorted(files) if not n.startswith(".")]


def _without_halves(files: Sequence[Path]) -> list[Path]:
    there = set(files)

    def is_second(file: Path) -> bool:
        first = SECOND_HALVES.get(file.suffix.lower())
        return first is not None and file.with_suffix(first) in there

    return [file for file in files if not is_second(file)]


def _kinds(files: Sequence[Path]) -> list[str]:
    return sorted({file.suffix.lower() or file.name for file in files})[: 2 * SHOWN]


def _nothing(walk: _Walk, holds: Holds, wanted: bids.Wanted) -> tuple[str, str]:
    """Why nothing was found, and what to do."""
    if wanted.asks:
        return f"a BIDS tree without a {holds} for {wanted}", "look at its names with `find`"
    kinds = f", such as {', '.join(_kinds(walk.left)[:SHOWN])}" if walk.left else ""
    names = ", ".join(NAMED_LIKE[holds]) or "the folder of `restore bench -o`"
    return f"holds no {holds} ({walk.seen} files{kinds})", f"expected {names}"
