"""`restore data`: fetch open data by name; get and check measured data that may not be passed on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console, listing
from restore.errors import OutputError

if TYPE_CHECKING:
    from restore.datasets.fetch_table import Entry
    from restore.datasets.mri.fastmri_files.fastmri_check import FileReport

app = typer.Typer(help="Get and check measured data sets.", no_args_is_help=True)

_STEPS = (
    "fill in the form at https://fastmri.med.nyu.edu; a mail with links follows",
    "take knee_multicoil_val and brain_multicoil_val (or the singlecoil ones) to measure quality: "
    "only train and val hold a target; test and challenge files are undersampled and have none",
    "unpack the archives into one folder ROOT: ROOT/multicoil_val/file1000001.h5 and so on",
    "restore data fastmri ROOT checks them. Official checksums are not published here: those of "
    "your own copy go into a list by sha256sum, for --checksums",
    "without the data: restore simulate mri VOLUME --as fastmri -o ROOT/multicoil_val/"
    "file1000001.h5 writes stand-ins with the same layout",
)
"""What to do without ROOT, in order."""


@app.command("fastmri")
def fastmri(
    root: Annotated[
        Path | None,
        typer.Argument(help="Folder with multicoil_val and so on, or one of these, or .h5 files."),
    ] = None,
    checksums: Annotated[
        Path | None, typer.Option(help="List of lines 'sha256  name', as sha256sum writes it.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Check a folder of fastMRI files; without ROOT, say how to get them."""
    if root is None:
        _explain(json)
        return
    from restore.datasets.mri.fastmri_files.fastmri_check import check_folder
    from restore.errors import InputError

    with console.progress("checking", 1) as bar:
        reports = check_folder(root, checksums, lambda count, total: bar(count / total))
    if json:
        console.result_json([_record(r, root) for r in reports])
    else:
        _print(reports, root)
    bad = [r for r in reports if not r.ok]
    if bad:
        raise InputError(
            root, f"{len(bad)} of {len(reports)} files cannot be used as they are",
            "download or copy these again",
        )  # fmt: skip


@app.command("fetch")
def fetch(
    name: Annotated[
        str | None, typer.Argument(help="What to fetch; without it: what there is.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="Where to; default: the cache folder."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Get open data by name, checked by sha256; without NAME, say what there is (docs/fetching.md)."""
    from restore.datasets.fetch_table import entries, entry_of
    from restore.datasets.fetching import fetch as get

    if name is None:
        known = [_fetchable(entry) for entry in entries("data").values()]
        if json:
            console.result_json(known)
        else:
            console.table(
                [("name", "MB", "licence", "what"), *(tuple(map(str, r.values())) for r in known)]
            )
        return
    entry = entry_of("data", name)
    if out is not None and out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; name a folder")
    sizes = [f.size or 0 for f in entry.files]
    with console.progress(entry.name, total=sum(sizes)) as advance:
        paths = get(entry, out, advance)
    if json:
        console.result_json({"licence": entry.licence, "files": [str(p) for p in paths]})
        return
    console.say(f"licence: {entry.licence}")
    for path in paths:
        console.result(str(path))


def _fetchable(entry: Entry) -> dict[str, Any]:
    size = sum(f.size or 0 for f in entry.files)
    return {
        "name": entry.name,
        "megabytes": round(size / 1e6, 1) if all(f.size for f in entry.files) else None,
        "licence": entry.licence,
        "what": entry.what,
    }


def _explain(json: bool) -> None:
    known = next(r for r in listing.datasets() if r["name"] == "fastmri")
    if json:
        console.result_json({**known, "steps": list(_STEPS)})
        return
    console.result(f"fastMRI: {known['holds']}")
    console.result(f"  licence: {known['licence']}")
    console.result("  so nothing is downloaded here; to obtain the files:")
    for number, step in enumerate(_STEPS, 1):
        console.result(f"  {number}. {step}")


def _print(reports: list[FileReport], root: Path) -> None:
    rows = [("file", "coils", "k-space", "target", "acquisition", "R", "sha256", "")]
    for r in reports:
        rows.append(
            (
                _name(r, root), r.coils or "-", _size(r.shape), _size(r.target), r.acquisition or "-",
                "-" if r.acceleration is None else f"{r.acceleration:g}", r.sha256 or "-",
                "ok" if r.ok else "DAMAGED",
            )
        )  # fmt: skip
    console.table(rows)
    for r in reports:
        for text in (*r.problems, *r.notes):
            console.result(f"{_name(r, root)}: {text}")
    slices = sum(r.shape[0] for r in reports if r.shape)
    console.result(f"{len(reports)} files, {slices} slices")


def _record(report: FileReport, root: Path) -> dict[str, Any]:
    return {
        "file": _name(report, root), "ok": report.ok, "coils": report.coils or None,
        "shape": list(report.shape), "target": None if report.target is None else list(report.target),
        "acquisition": report.acquisition or None, "acceleration": report.acceleration,
        "sha256": report.sha256 or None, "problems": report.problems, "notes": report.notes,
    }  # fmt: skip


def _name(report: FileReport, root: Path) -> str:
    return report.path.relative_to(root).as_posix()


def _size(shape: tuple[int, ...] | None) -> str:
    return " x ".join(map(str, shape)) if shape else "-"
