"""The JSON record beside a result: what it was made from, how, and by which versions.

May be called by the pipelines and the command line. Writes one file beside the result and reads
files to hash them. A record holds no patient data: files appear by name without their folders, and
nothing of a source's header goes in.

`X.nii.gz` and `X.png` have `X.json`; a folder `X` (a DICOM series) has `X.json` beside it, so that
the folder holds DICOM only.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from restore.datasets.atomic import name_suffix
from restore.datasets.content_hash import sha256_of
from restore.datasets.json_text import read_json, write_json
from restore.version import __version__

INTENDED_USE = "Research use only, not for diagnosis."
PACKAGES = ("torch", "numpy", "scipy", "nibabel", "pydicom", "h5py", "pillow")


def sidecar_path(result: str | Path) -> Path:
    """Return where the record of a result file or folder stands."""
    path = Path(result)
    suffix = "" if path.is_dir() else name_suffix(path)
    return path.with_name(path.name.removesuffix(suffix) + ".json")


def write_sidecar(result: str | Path, record: Mapping[str, Any]) -> Path:
    """Write the record of a result and return the record's path.

    record: names to values as `json_text.plain` takes them; of paths the last part is written. Raises ConfigError for
    anything else, OutputError.
    """
    target = sidecar_path(result)
    write_json(target, {**record, "IntendedUse": INTENDED_USE})
    return target


def read_sidecar(result: str | Path) -> dict[str, Any]:
    """Return the record of a result, also by the record's own path.

    Raises NotFoundError, InputError.
    """
    path = Path(result)
    path = path if path.suffix == ".json" else sidecar_path(path)
    return read_json(path)


def source_record(path: str | Path) -> dict[str, str]:
    """Return the name (without its folder) and the SHA-256 of a source, as a record's entry."""
    return {"File": Path(path).name, "SHA256": sha256_of(path)}


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
