"""Find fastMRI volumes in the folders as NYU ships them.

May be called by the command line and the benchmark; reads names, and the shape of `kspace` where a
folder's name does not tell the coils. `fastmri_check` looks into the files.

The layout: `singlecoil_train`, `multicoil_val`, `multicoil_test` and so on, perhaps with `knee_` or
`brain_` in front and `_v2`, `_full` or `_batch_0` behind; brain batches are nested, as in
`brain_multicoil_val_batch_0/multicoil_val/`. Folders up to `DEPTH` levels below the root are
searched, hidden files and folders left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from restore.datasets.hdf5_guard import find_dataset, open_hdf5
from restore.errors import ConfigError, InputError, NotFoundError

SPLITS = ("train", "val", "test", "challenge")
COILS = ("multicoil", "singlecoil")
DEPTH = 3
HOW_TO_GET = "`restore data fastmri` says how to get the data"

_FOLDER = re.compile(
    rf"(?:(?:knee|brain)_)?({'|'.join(COILS)})_({'|'.join(SPLITS)})"
    r"(?:_v2)?(?:_full)?(?:_batch_[0-9]+)?"
)


@dataclass(frozen=True)
class FastMRIFile:
    """One volume: its file, "multicoil" or "singlecoil", its split, and the file's name with .h5.

    split is "" where no folder's name tells it. The masks are drawn from `name`.
    """

    path: Path
    coils: str
    split: str
    name: str


def find_volumes(root: str | Path, split: str = "val", coils: str = "auto") -> list[FastMRIFile]:
    """The volumes of one split, sorted by name.

    root: the parent of the split folders, one split folder, or a folder of .h5 files whose names
    tell no split, which then count as the one that is asked for. coils: "multicoil", "singlecoil", or "auto": multicoil
    where both are there. Raises ConfigError for unknown names, NotFoundError for a missing folder
    or split, InputError where nothing is found at all, two volumes share a name, or a file whose
    coils must be looked up is damaged.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    if coils not in ("auto", *COILS):
        raise ConfigError(f"unknown coils {coils!r}; known: auto, {', '.join(COILS)}")
    root = Path(root)
    everything = find_files(root)
    # Beside split folders, files elsewhere are something else, such as reconstructions.
    asked = split if any(f.split for f in everything) else ""
    found = [f if f.coils else _looked_up(f) for f in everything if f.split == asked]
    wanted = coils if coils != "auto" else _preferred(found)
    chosen = sorted((f for f in found if f.coils == wanted), key=lambda f: f.name)
    if not chosen:
        there = sorted({f"{f.coils}_{f.split}".strip("_") for f in everything} - {""})
        kind = "" if coils == "auto" else f"{coils} "
        raise NotFoundError(
            f"{root}: no {kind}volumes of the split '{split}'; found: {', '.join(there) or '-'}"
        )
    for one, other in pairwise(chosen):
        if one.name == other.name:
            raise InputError(
                root, f"{one.name} is there twice: {one.path.parent} and {other.path.parent}",
                "give the folder of one data set: results are named after the file",
            )  # fmt: skip
    return chosen


def find_files(root: str | Path) -> list[FastMRIFile]:
    """All .h5 files under a folder, sorted by path; coils and split "" where no folder tells them.

    Nothing is opened. Raises NotFoundError for a missing folder, InputError where there are none.
    """
    root = Path(root)
    if not root.exists():
        raise NotFoundError(f"{root}: no such folder")
    if not root.is_dir():
        raise InputError(root, "is a file", "give the folder that holds the fastMRI files")
    coils, split = folder_kind(root.absolute().name) or ("", "")
    found = sorted(_walk(root, coils, split, DEPTH), key=lambda f: f.path)
    if not found:
        packed = sorted(p.name for p in root.iterdir() if ".tar" in p.name or p.suffix == ".xz")
        hint = f"unpack {packed[0]} first" if packed else HOW_TO_GET
        raise InputError(root, f"holds no .h5 files down to {DEPTH} levels", hint)
    return found


def folder_kind(name: str) -> tuple[str, str] | None:
    """(coils, split) of a folder's name, as ("multicoil", "val"), or None for any other name."""
    match = _FOLDER.fullmatch(name)
    return (match[1], match[2]) if match else None


def _walk(folder: Path, coils: str, split: str, depth: int) -> Iterator[FastMRIFile]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth:
            inner = folder_kind(path.name) or (coils, split)
            yield from _walk(path, *inner, depth - 1)
        elif path.suffix == ".h5" and path.is_file():
            yield FastMRIFile(path, coils, split, path.name)


def _looked_up(file: FastMRIFile) -> FastMRIFile:
    """The file with its coils told by the number of axes of k-space."""
    with open_hdf5(file.path) as opened:
        kspace = find_dataset(opened, "kspace")
        if kspace is None:
            raise InputError(file.path, "no data set 'kspace'", "not a fastMRI file: take it out")
        coils = "singlecoil" if kspace.ndim == 3 else "multicoil"
    return FastMRIFile(file.path, coils, file.split, file.name)


def _preferred(found: list[FastMRIFile]) -> str:
    return next((c for c in COILS if any(f.coils == c for f in found)), COILS[0])
