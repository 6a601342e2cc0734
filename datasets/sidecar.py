"""The JSON record beside a result: what it was made from, how, and by which versions.

May be called by the pipelines and the command line. Writes one file beside the result and reads
files to hash them. A record holds no patient data: files appear by name without their folders, and
nothing of a source's header goes in.

`X.nii.gz` and `X.png` have `X.json`; a folder `X` (a DICOM series) has `X.json` beside it, so that
the folder holds DICOM only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from restore.datasets.atomic import atomic_file, name_suffix
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError
from restore.version import __version__

INTENDED_USE = "Research use only, not for diagnosis."
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "pydicom", "h5py", "pillow")
BLOCK_BYTES = 1 << 20
LARGEST_SIDECAR = 1 << 24


def sidecar_path(result: str | Path) -> Path:
    """Return where the record of a result file or folder stands."""
    path = Path(result)
    suffix = "" if path.is_dir() else name_suffix(path)
    return path.with_name(path.name.removesuffix(suffix) + ".json")


def write_sidecar(result: str | Path, record: Mapping[str, Any]) -> Path:
    """Write the record of a result and return the record's path.

    record: names to numbers, texts, truth values, None, paths (their last part is written), arrays,
    dataclasses, and lists and mappings of those; numbers that are not finite become texts. Keys are
    sorted: equal records give equal files. Raises ConfigError for anything else, OutputError.
    """
    content = {**_plain(record, "record"), "IntendedUse": INTENDED_USE}
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    target = sidecar_path(result)
    with atomic_file(target, expected_bytes=len(text)) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
    return target


def read_sidecar(result: str | Path) -> dict[str, Any]:
    """Return the record of a result, also by the record's own path.

    Raises NotFoundError, InputError.
    """
    path = Path(result)
    path = path if path.suffix == ".json" else sidecar_path(path)
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    if path.stat().st_size > LARGEST_SIDECAR:
        raise InputError(path, "too large for a record of a result")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as cause:
        raise InputError(path, f"not JSON ({type(cause).__name__})") from cause
    if not isinstance(record, dict):
        raise InputError(path, f"a JSON {type(record).__name__}, expected an object")
    return record


def source_record(path: str | Path) -> dict[str, str]:
    """Return the name (without its folder) and the SHA-256 of a source, as a record's entry."""
    return {"File": Path(path).name, "SHA256": sha256_of(path)}


def volume_record(volume: Volume) -> dict[str, Any]:
    """Return what may be told about a volume: its grid, kind and the reader's notes."""
    return {
        "Shape": list(volume.data.shape),
        "SpacingMm": list(volume.spacing_mm),
        "Modality": volume.modality,
        "Units": volume.units,
        "Notes": list(volume.notes),
    }


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


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files: that of their sorted hashes, in hex.

    A folder's is over its DICOM files, over all where it has none, hidden ones left out; names and
    order play no part. Raises NotFoundError.
    """
    source = Path(path)
    if source.is_dir():
        files = [f for f in source.rglob("*") if f.is_file() and not f.name.startswith(".")]
        hashes = {f: _hash(f) for f in files}
        dicom = [digest for digest, is_dicom in hashes.values() if is_dicom]
        chosen = dicom or [digest for digest, _ in hashes.values()]
        return hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest()
    if not source.is_file():
        raise NotFoundError(f"{source}: there is no such file")
    return _hash(source)[0]


def _hash(file: Path) -> tuple[str, bool]:
    """Return the hash and whether the file carries the DICOM mark."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            head = stream.read(BLOCK_BYTES)
            digest.update(head)
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    except OSError as cause:
        raise InputError(file, f"cannot be read ({cause.strerror})") from cause
    return digest.hexdigest(), head[128:132] == b"DICM"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _plain(value: Any, where: str) -> Any:
    """Return a value as JSON types. Raises ConfigError naming the place of one that cannot be."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Path):
        return value.name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise ConfigError(f"{where}: a {type(value).__name__} cannot stand in a JSON record")
