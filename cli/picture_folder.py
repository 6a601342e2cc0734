"""`restore image FOLDER -o OUT`: every picture of a folder, one by one, names and subfolders mirrored.

Called by `restore image` alone. A picture whose record holds the same options, source and result is skipped, so that
the same command goes on after an interruption; one that cannot be restored is named at the end, the others are done.
A picture that a killed call had finished but not yet moved is only moved (`work_folder`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from restore.cli import console
from restore.datasets.atomic import make_folder
from restore.errors import (
    ConfigError,
    InputError,
    NotFoundError,
    OutputError,
    PartialFailure,
    RestoreError,
)

SHEET = "contact_sheet"
_NOT_OF_THE_RESULT = ("photo", "out", "mask", "prior", "overwrite", "json")
_NAMED = 10
"""Of the failed pictures in the last sentence; each has its own line before."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A picture and its result, by the name that the contact sheet shows."""

    name: str
    before: Path
    after: Path


def restore_folder(run: Callable[..., None], options: dict[str, Any]) -> None:
    """Restore every picture of options["photo"] into the folder options["out"], then draw the contact sheet.

    run: restores one picture, with the options that `restore image` has. Raises ConfigError for a setting that cannot
    work with any picture, InputError for a folder without pictures, OutputError, PartialFailure where some failed;
    where all did, the error of the last one.
    """
    from restore.priors.choosing import weights_kept

    folder, out = options["photo"], options["out"]
    _check(folder, out, options)
    files, others = _pictures(folder, out)
    make_folder(out)
    if others:
        kinds = ", ".join(sorted({p.suffix.lower() or p.name for p in others})[:_NAMED])
        console.say(
            f"note: left out: {len(others)} of the files in {folder}, whose names say no PNG, JPEG or TIFF ({kinds})"
        )
    pairs, failed, done = list[Pair](), dict[Path, RestoreError](), 0
    with weights_kept():
        for i, file in enumerate(files):
            name, target = file.relative_to(folder), out / file.relative_to(folder)
            try:
                state = _one(run, options, file, target)
            except RestoreError as error:
                if isinstance(error, ConfigError) and not done and file.name not in str(error):
                    raise
                failed[name] = error
                console.say(f"[{i + 1}/{len(files)}] {name}: failed: {error}")
                continue
            done += state == "done"
            pairs.append(Pair(str(name), file, target))
            console.say(f"[{i + 1}/{len(files)}] {name}: {state}")
    if pairs:
        _draw_sheet(pairs, out, bool(done))
    _tell_failures(failed, len(files))


def result_name(photo: Path, out: Path) -> Path:
    """OUT, or where that is a folder the picture's own name in it."""
    return out / photo.name if out.is_dir() else out


def fingerprint(options: dict[str, Any]) -> str:
    """A mark of everything that shapes a result: options, version, source, mask and weight file by content."""
    from restore.datasets.content_hash import sha256_of
    from restore.version import __version__

    told = {k: v for k, v in options.items() if k not in _NOT_OF_THE_RESULT}
    samples = options["sampling"].samples
    told["intervals"] = told["intervals"].options(samples).mark() if samples > 1 else None
    told = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in told.items()}  # type: ignore[arg-type]
    if told.get("precision") == "auto":
        del told["precision"]  # as in marks of versions that knew of no other
    for name in ("photo", "mask", "prior", "kernel"):
        file = Path(str(options.get(name) or ""))
        told[name] = sha256_of(file) if file.is_file() else str(options.get(name))
    words = json.dumps(told | {"version": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()


def _check(folder: Path, out: Path, options: dict[str, Any]) -> None:
    if options["json"]:
        raise ConfigError(
            "--json is for one picture; of a folder every result has its record beside it"
        )
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; the results of a folder need a folder")
    if out.resolve() == folder.resolve():
        raise OutputError(
            f"{out}: the results would lie among their sources; choose another folder"
        )
    if not out.parent.is_dir():
        raise OutputError(f"{out.parent}: there is no such folder; make it first")


def _pictures(folder: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """The pictures of a folder and those in it, and the files that are none; hidden ones and OUT left out."""
    from restore.datasets.picture.images import SUFFIXES

    inside = [
        p for p in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in p.relative_to(folder).parts)
        and not p.resolve().is_relative_to(out.resolve()) and not p.is_dir()
    ]  # fmt: skip
    found = [p for p in inside if p.suffix.lower() in SUFFIXES]
    if not found:
        names = ", ".join(SUFFIXES)
        raise InputError(
            folder, f"a folder without a picture ({len(inside)} files)", f"expected {names}"
        )
    return found, [p for p in inside if p.suffix.lower() not in SUFFIXES]


def _one(run: Callable[..., None], options: dict[str, Any], file: Path, target: Path) -> str:
    """Restore one picture unless that is done: "done" or "done before"."""
    from restore.pipelines.work_folder import tidy

    mine = options | {"photo": file, "out": target, "mask": _mask_of(options["mask"], file)}
    mark = fingerprint(mine)
    if is_done(target, mark):
        tidy(target, mark)
        return "done before"
    make_folder(target.parent)
    run(**mine)
    return "done"


def _mask_of(mask: Path | None, file: Path) -> Path | None:
    """The mask of one picture where --mask is a folder: the one of the same name, whatever its suffix."""
    if mask is None or not mask.is_dir():
        return mask
    found = sorted(p for p in mask.iterdir() if p.stem == file.stem)
    if not found:
        raise NotFoundError(f"{mask}: holds no mask of the name {file.stem}")
    return found[0]


def is_done(target: Path, wanted: str) -> bool:
    """Whether the record of a result has this mark and still tells the truth of every file it names."""
    from restore.datasets.content_hash import sha256_of
    from restore.datasets.sidecar import read_sidecar

    if not target.is_file():
        return False
    try:
        record = read_sidecar(target)
    except (InputError, NotFoundError):
        return False
    results = record.get("made")
    if record.get("fingerprint") != wanted or not isinstance(results, list) or not results:
        return False
    files = [(target.with_name(Path(str(r.get("File"))).name), r.get("SHA256")) for r in results]
    return all(file.is_file() and sha256_of(file) == mark for file, mark in files)


def _draw_sheet(pairs: list[Pair], out: Path, changed: bool) -> None:
    from restore.pipelines.contact_sheet import draw_sheet, is_contact_sheet

    sheet = out / f"{SHEET}.png"
    while sheet in [p.after for p in pairs] or (sheet.exists() and not is_contact_sheet(sheet)):
        sheet = sheet.with_name(f"{sheet.stem}_.png")
    if changed or not sheet.exists():
        shown = draw_sheet([(p.name, p.before, p.after) for p in pairs], sheet)
        left = f" (the first {shown} of {len(pairs)})" if shown < len(pairs) else ""
        console.result(f"{sheet}: before and after{left}")


def _tell_failures(failed: dict[Path, RestoreError], total: int) -> None:
    if not failed:
        return
    if len(failed) == total:
        raise list(failed.values())[-1]
    names = ", ".join(str(name) for name in list(failed)[:_NAMED])
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    raise PartialFailure(
        f"{len(failed)} of {total} pictures could not be restored: {names}{more}; the others are done, the same "
        "command tries these again"
    )
