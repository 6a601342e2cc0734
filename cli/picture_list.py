"""What `restore image` has beside the work itself: marks of finished pictures, masks by name, the contact sheet.

Used by `restore image` alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.cli import console
from restore.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from restore.many.jobs import Outcome

SHEET = "contact_sheet"
_NOT_OF_THE_RESULT = ("photo", "out", "mask", "prior", "overwrite", "json")


def result_name(photo: Path, out: Path) -> Path:
    """OUT, or where that is a folder the picture's own name in it."""
    return out / photo.name if out.is_dir() else out


def fingerprint(options: dict[str, Any]) -> str:
    """A mark of everything that shapes a result: options, version, source, mask and weight file by content."""
    from restore.datasets.content_hash import sha256_of
    from restore.starts import bundled_starts
    from restore.version import __version__

    told = {k: v for k, v in options.items() if k not in _NOT_OF_THE_RESULT}
    samples = options["sampling"].samples
    told["intervals"] = told["intervals"].options(samples).mark() if samples > 1 else None
    told = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in told.items()}  # type: ignore[arg-type]
    if options["sampling"].time_limit is None:
        del told["sampling"]["time_limit"]  # as in marks of versions that knew of none
    second = told["sampling"].pop("second_prior")
    if second:  # likewise
        file = Path(second)
        told["second_prior"] = sha256_of(file) if file.is_file() else second
    if told.get("precision") == "auto":
        del told["precision"]  # likewise
    if told.get("start") == "drawn":
        del told["start"]  # likewise
    elif "start" in told:
        table = bundled_starts() if told["start"] == "best-of" else Path(told["start"])
        told["start"] = sha256_of(table) if table.is_file() else told["start"]
    for name in ("photo", "mask", "prior", "kernel"):
        file, mark, more = _file_and_options(name, str(options.get(name) or ""))
        told[name] = sha256_of(file) + mark + more if file.is_file() else str(options.get(name))
    words = json.dumps(told | {"version": __version__}, sort_keys=True, default=str)
    return hashlib.sha256(words.encode("utf-8", "surrogateescape")).hexdigest()


def _file_and_options(name: str, text: str) -> tuple[Path, str, str]:
    """What may be a file, and the options of a prior's network that follow it, with the mark between."""
    from restore.priors.network_options import MARK, split_options

    bare, options = split_options(text) if name == "prior" else (text, None)
    return (Path(bare), "", "") if options is None else (Path(bare), MARK, options.text())


def mask_of(mask: Path | None, file: Path) -> Path | None:
    """The mask of one picture where --mask is a folder: the one of the same name, whatever its suffix.

    Raises NotFoundError.
    """
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


def draw_sheet_of(outcomes: Sequence[Outcome], options: dict[str, Any]) -> None:
    """Draw the contact sheet of those pictures that are restored, where one of them has changed or it is missing."""
    from restore.many.names import root_of
    from restore.pipelines.contact_sheet import draw_sheet, is_contact_sheet

    done = [(o.job.name, o.job.source, o.job.out) for o in outcomes if o.ok and o.job.out]
    if not done:
        return
    sheet = root_of(options["out"]) / f"{SHEET}.png"
    while sheet in [after for _, _, after in done] or (
        sheet.exists() and not is_contact_sheet(sheet)
    ):
        sheet = sheet.with_name(f"{sheet.stem}_.png")
    if any(o.state == "done" for o in outcomes) or not sheet.exists():
        shown = draw_sheet(done, sheet)
        left = f" (the first {shown} of {len(done)})" if shown < len(done) else ""
        console.result(f"{sheet}: before and after{left}")
