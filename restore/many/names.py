"""Where the results of a list of inputs go: a folder that mirrors their names, or names made by a template.

Called by the command line, before any work. OUT is a folder, or holds fields in braces:
`OUT/{folder}/{name}_restored.nii.gz`. Two results of one name are refused, and results among their sources.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from restore.datasets.atomic import check_name, name_suffix
from restore.errors import ConfigError, OutputError
from restore.many.inputs import Input, Listing

FIELDS = ("folder", "name", "file", "number")
"""Of every input: its folder as mirrored, its name without suffix and with it, its place in the list from 1."""


def is_template(out: Path) -> bool:
    """Whether a name has fields in braces."""
    return "{" in str(out)


def root_of(out: Path) -> Path:
    """The folder that all results lie below: OUT itself, of a template its part without fields."""
    while is_template(out):
        out = out.parent
    return out


def result_names(
    listing: Listing, out: Path, suffix: str, of_folders: str | None = None
) -> list[Path]:
    """Where each input's result goes, in their order.

    suffix: of the results in a folder OUT, such as ".nii.gz"; "" keeps the inputs' own names. of_folders: the same for
    inputs that are folders, where it is another. Raises ConfigError for a template that does not serve, OutputError for
    two results of one name and for a result that is a source.
    """
    if is_template(out):
        fields = _fields_of(out)
        names = [_filled(str(out), fields, entry, k) for k, entry in enumerate(listing.inputs, 1)]
    else:
        suffixes = {True: suffix if of_folders is None else of_folders, False: suffix}
        names = [out / _mirrored(e, suffixes[e.source.is_dir()]) for e in listing.inputs]
    _refuse_collisions(names, listing)
    return names


def check_root(root: Path, folder: Path) -> None:
    """Refuse a folder that cannot take results, or is the one that holds their sources (OutputError)."""
    if root.exists() and not root.is_dir():
        raise OutputError(f"{root}: is a file; results of several inputs need a folder")
    if not root.exists() and not root.parent.is_dir():
        raise OutputError(f"{root.parent}: there is no such folder; make it first")
    if root.resolve() == folder.resolve():
        raise OutputError(
            f"{root}: the results would lie among their sources; choose another folder"
        )


def _mirrored(entry: Input, suffix: str) -> Path:
    folder = entry.name.parent
    return folder / (f"{_stem(entry)}{suffix}" if suffix else _file(entry))


def _file(entry: Input) -> str:
    """The input's own name; of the folder that was given, which has none, its own."""
    return entry.name.name or entry.source.resolve().name


def _stem(entry: Input) -> str:
    name = _file(entry)
    return name if entry.source.is_dir() else name.removesuffix(name_suffix(Path(name)))


def _fields_of(out: Path) -> list[str]:
    try:
        parsed = list(string.Formatter().parse(str(out)))
    except ValueError as cause:
        raise ConfigError(
            f"{out}: no template ({cause}); fields are {{name}}, {{folder}}"
        ) from cause
    odd = [form or turned for _, _, form, turned in parsed if form or turned]
    if odd:
        raise ConfigError(f"{out}: fields are plain names such as {{name}}, got '{odd[0]}'")
    fields = [field for _, field, _, _ in parsed if field is not None]
    if not {"name", "file", "number"} & set(fields):
        raise ConfigError(
            f"{out}: needs {{name}}, {{file}} or {{number}}: one name would serve all"
        )
    return fields


def _filled(template: str, fields: Sequence[str], entry: Input, number: int) -> Path:
    folder = entry.name.parent.as_posix()
    known = dict(entry.entities) | {
        "folder": folder, "name": _stem(entry), "file": _file(entry), "number": f"{number:03d}"
    }  # fmt: skip
    missing = [field for field in fields if field not in known]
    if missing:
        told = ", ".join(known)
        raise ConfigError(f"{template}: {entry.name} has no '{missing[0]}'; it has {told}")
    path = Path(template.format_map(known))
    check_name(path)
    if ".." in path.relative_to(root_of(Path(template))).parts:
        raise ConfigError(f"{template}: '..' behind a field would leave the folder of the results")
    return path


def _refuse_collisions(names: Sequence[Path], listing: Listing) -> None:
    taken: dict[Path, Input] = {}
    sources = {entry.source.absolute() for entry in listing.inputs}
    for name, entry in zip(names, listing.inputs, strict=True):
        if name in taken:
            both = f"{taken[name].name} and {entry.name}"
            raise OutputError(
                f"{name}: would be the result of {both}; give one of them another name, or OUT as a template such as "
                "'OUT/{folder}/{file}.nii.gz'"
            )
        if name.absolute() in sources:
            raise OutputError(f"{name}: is one of the inputs; choose another folder")
        taken[name] = entry
