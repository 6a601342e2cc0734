"""The JSON record beside a result: what it was made from, how, and by which versions.

May be called by the pipelines and the command line. Writes one file beside the result and reads
files to hash them. A record holds no patient data: files appear by name without their folders, and
nothing of a source's header goes in.

`X.nii.gz` and `X.png` have `X.json`; a folder `X` (a DICOM series) has `X.json` beside it, so that
the folder holds DICOM only. Where that name is taken by a JSON file of somebody else (a BIDS sidecar, a card of
weights) or by the record of another result, the record is `X.nii.gz.restore.json`, and the other stays as it is.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from restore.datasets.atomic import LONGEST_NAME, name_suffix
from restore.datasets.content_hash import sha256_of
from restore.datasets.json_text import read_json, write_json
from restore.errors import InputError, NotFoundError, OutputError
from restore.version import __version__

INTENDED_USE = "Research use only, not for diagnosis."
OWN_SUFFIX = ".restore.json"
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "pydicom", "h5py", "pillow")


def sidecar_path(result: str | Path) -> Path:
    """Return where the record of a result file or folder stands, or will stand once it is written.

    Looks at the JSON files beside the result.
    """
    path = Path(result)
    usual, own = _usual_path(path), _own_path(path)
    if _fits(usual) and not own.is_file() and (not _is_there(usual) or _is_record_of(usual, path)):
        return usual
    return own


def foreign_note(result: str | Path) -> str:
    """A remark where the record has a name of its own because the usual one is taken; else nothing."""
    path = Path(result)
    usual, record = _usual_path(path), sidecar_path(path)
    if record == usual or not (_fits(usual) and _is_there(usual)):
        return ""
    return f"{usual.name} is not the record of {path.name} and stays as it is; the record is {record.name}"


def check_record(result: str | Path) -> None:
    """Refuse a result whose record's every name is taken by something else (OutputError)."""
    path = Path(result)
    record = sidecar_path(path)
    if _is_there(record) and not _is_record_of(record, path):
        raise OutputError(
            f"{record}: is not a record of this program and stands where that of {path.name} goes; move it away"
        )


def write_sidecar(result: str | Path, record: Mapping[str, Any], at: Path | None = None) -> Path:
    """Write the record of a result and return the record's path.

    record: names to values as `json_text.plain` takes them; of paths the last part is written. at: another place,
    from where the caller moves it. Raises ConfigError for a value that cannot stand in a record, OutputError.
    """
    check_record(result)
    target = sidecar_path(result) if at is None else at
    write_json(target, {**record, "IntendedUse": INTENDED_USE})
    return target


def read_sidecar(result: str | Path) -> dict[str, Any]:
    """Return the record of a result, also by the record's own path.

    Raises NotFoundError, InputError.
    """
    path = Path(result)
    if path.suffix == ".json":
        return read_json(path)
    record, usual = sidecar_path(path), _usual_path(path)
    if not _is_there(record) and _fits(usual) and _is_there(usual):
        read_json(usual)  # a damaged one says so
        raise NotFoundError(f"{usual}: is not the record of {path.name}")
    return read_json(record)


def source_record(path: str | Path) -> dict[str, str]:
    """Return the name (without its folder) and the SHA-256 of a source, as a record's entry."""
    return {"File": Path(path).name, "SHA256": sha256_of(path)}


def output_record(path: Path, name: str = "") -> dict[str, Any]:
    """Return name (by default its own), bytes and SHA-256 of a result, by which a record vouches for it."""
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    size = sum(p.stat().st_size for p in files)
    return {"File": name or path.name, "SHA256": sha256_of(path), "Bytes": size}


def name_bytes(name: str) -> bytes:
    """A file's name as it stands on the disk: in another locale Python has other characters for the same bytes."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no name of a file, but a JSON text may say so
        return name.encode("utf-8", "surrogatepass")


def environment(device: str = "cpu") -> dict[str, Any]:
    """Return versions of this program, Python and the packages that matter, and the device."""
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "restore": __version__,
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}",
        "Packages": versions,
        "Device": device,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _usual_path(path: Path) -> Path:
    suffix = "" if path.is_dir() else name_suffix(path)
    return path.with_name(path.name.removesuffix(suffix) + ".json")


def _own_path(path: Path) -> Path:
    """The name that no other result's record can have, shortened where a file system would not take it."""
    own = path.with_name(path.name + OWN_SUFFIX)
    if _fits(own):
        return own
    mark = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return path.with_name(f"{path.name[:40]}-{mark}{OWN_SUFFIX}")


def _fits(path: Path) -> bool:
    return len(os.fsencode(path.name)) <= LONGEST_NAME


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)


def _is_record_of(record: Path, result: Path) -> bool:
    """Whether a JSON file is a record of this program that names the result, or names none."""
    try:
        content = read_json(record)
    except (InputError, NotFoundError):
        return False
    outputs = content.get("outputs")
    names = [name for name in outputs if isinstance(name, str)] if isinstance(outputs, list) else []
    named = not isinstance(outputs, list) or name_bytes(result.name) in map(name_bytes, names)
    return content.get("IntendedUse") == INTENDED_USE and named
