"""The results of a BIDS tree as a BIDS derivative: names, the tree's description, a sidecar for each image.

Called by `cli/bids.py`. Follows the Brain Imaging Data Structure (Gorgolewski et al. 2016), its derivatives of 1.10:
what is written passes the official validator (tests/cli/test_bids.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from restore.datasets.atomic import atomic_file, make_folder, name_suffix
from restore.datasets.json_text import read_json, write_json
from restore.errors import InputError, NotFoundError, OutputError
from restore.many.bids import DESCRIPTION, is_tree, no_tree
from restore.version import __version__

BIDS_VERSION = "1.10.0"
DESC = "restored"
RAW = "raw"
"""What the tree of the inputs is called in links."""

IGNORED = (
    "*_std.nii.gz",
    "*_interval.nii.gz",
    "*.restore.json",
    "restore-jobs*.jsonl",
    "*_report/",
)
"""What lies in the tree and BIDS has no name for: maps of several samples, records, the list of jobs, reports."""

README = (
    "Made by restore {version} (`restore bids`): {task} of the images of a BIDS tree.\n\nThe record of each image, "
    "with its settings, notes and checksums, lies beside it as *.restore.json.\nFor research only, not for diagnosis.\n"
)


def check_tree(folder: Path) -> None:
    """Refuse what is no BIDS tree of raw data. Raises NotFoundError, InputError."""
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: there is no such folder")
    if not is_tree(folder):
        raise InputError(folder, *no_tree(folder))
    path = folder / DESCRIPTION
    skip = "or skip this check by --skip-bids-validation"
    if not path.is_file():
        raise InputError(
            folder, f"holds no {DESCRIPTION}", f"write one with Name and BIDSVersion, {skip}"
        )
    found = read_json(path)
    missing = [key for key in ("Name", "BIDSVersion") if not isinstance(found.get(key), str)]
    if missing:
        raise InputError(path, f"lacks {' and '.join(missing)}", f"add {missing[0]}, {skip}")


def check_out(out: Path, raw: Path) -> None:
    """Refuse a place for a derivative that is a file, or the raw tree itself (OutputError)."""
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; a derivative is a folder")
    if out.resolve() == raw.resolve():
        raise OutputError(
            f"{out}: is the raw tree; choose another folder, such as {out}/derivatives/restore"
        )


def derivative_name(name: Path) -> Path:
    """Where the result of a raw image goes: sub-01/anat/sub-01_desc-restored_T1w.nii.gz. Raises InputError."""
    stem = name.name.removesuffix(name_suffix(name))
    *entities, suffix = stem.split("_")
    if not entities or not entities[0].startswith("sub-") or "-" in suffix:
        raise InputError(name, "is no BIDS name", "expected such as sub-01_T1w.nii.gz")
    kept = [entity for entity in entities if not entity.startswith("desc-")]
    return name.with_name("_".join([*kept, f"desc-{DESC}", suffix]) + ".nii.gz")


def start_tree(out: Path, raw: Path, task: str) -> None:
    """Make the folder of a derivative with its description, unless it is there. Raises OutputError, InputError."""
    make_folder(out)
    path = out / DESCRIPTION
    if path.is_file():
        made = read_json(path).get("GeneratedBy")
        names = (
            [m.get("Name") for m in made if isinstance(m, dict)] if isinstance(made, list) else []
        )
        if "restore" not in names:
            raise OutputError(
                f"{out}: is a BIDS tree that this program did not make; choose another folder, such as "
                f"{out}/derivatives/restore"
            )
        return
    write_json(path, {
        "Name": f"restore: {task}", "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "restore", "Version": __version__, "Description": f"restore bids, task {task}"}],
        "DatasetLinks": {RAW: Path(os.path.relpath(raw, out)).as_posix()},
        "SourceDatasets": [_source(raw)],
    })  # fmt: skip
    for name, text in (
        ("README.md", README.format(version=__version__, task=task)), (".bidsignore", "\n".join(IGNORED) + "\n"),
    ):  # fmt: skip
        if not (out / name).exists():
            with atomic_file(out / name) as partial:
                partial.write_text(text, encoding="utf-8")


def sidecar_of(source: Path, raw: Path, task: str) -> dict[str, Any]:
    """What BIDS wants to know of a result. source: the raw image within the tree `raw`."""
    told: Mapping[str, Any] = {}
    beside = source.with_name(source.name.removesuffix(name_suffix(source)) + ".json")
    if beside.is_file():
        told = read_json(beside)
    stripped = told.get("SkullStripped")
    return {
        "Description": f"{task} by restore {__version__}; for research only, not for diagnosis",
        "Sources": [f"bids:{RAW}:{source.relative_to(raw).as_posix()}"],
        # Raw images are not stripped, unless their own sidecar says so.
        "SkullStripped": stripped if isinstance(stripped, bool) else False,
    }


def _source(raw: Path) -> dict[str, str]:
    """What the tree of the inputs says of where it comes from."""
    path = raw / DESCRIPTION
    doi = read_json(path).get("DatasetDOI") if path.is_file() else None
    if isinstance(doi, str) and doi:
        return {"DOI": doi} if not doi.startswith(("http", "doi:")) else {"URL": doi}
    return {"URL": f"bids:{RAW}:"}
