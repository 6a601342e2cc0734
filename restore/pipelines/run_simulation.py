"""One simulated scan on its way to a file: slices are kept as soon as they are computed, the file appears whole.

Used by `restore simulate` only. A scan in HDF5 vouches for itself: group `restore` of the file holds `job`, the mark of
what it was made from and how, and `values_sha256` over the numbers in it. One of several files has a record beside it.
What holds this very job is not made twice; until it is whole its finished slices lie in a hidden folder beside it
(`work_folder`), where the same command finds them after any interruption.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from restore.datasets.atomic import check_writable, name_suffix
from restore.datasets.hdf5_guard import attribute, find_group, open_hdf5
from restore.datasets.hdf5_stack import written_hdf5
from restore.datasets.json_text import plain
from restore.datasets.scan import Scan
from restore.datasets.scan_record import GROUP
from restore.datasets.sidecar import environment, read_sidecar
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError, OutputError, RestoreError
from restore.pipelines.scan_to_volume import OnPiece
from restore.pipelines.vouching import is_done as vouched
from restore.pipelines.vouching import need_not_run
from restore.pipelines.work_folder import WorkFolder, tidy, unmoved
from restore.version import __version__

JOB, VALUES = "job", "values_sha256"
VERB = "simulate"
"""In the record of a simulation of several files."""

ROOM = 3
"""Times the measured samples that the disk must take: kept slices, the file, and what else stands in it."""

S = TypeVar("S", bound=Scan)


def job_of(volume: Volume, scan: Scan, **layout: Any) -> str:
    """The mark of a simulation: hash of the volume's values, of all settings and of the version.

    layout: names to values of what shapes the file besides the scan.
    """
    digest = hashlib.sha256(np.ascontiguousarray(volume.data).data)
    told = {
        "version": __version__, "dtype": volume.data.dtype.str, "volume": volume.data.shape,
        "slices": scan.slice_indices, "settings": scan.settings, "source": scan.source, "notes": scan.notes,
        "affine": scan.affine, "layout": layout,
    }  # fmt: skip
    digest.update(json.dumps(plain(told), sort_keys=True).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def has_job(out: Path) -> bool:
    """Whether a file is a scan that says which simulation it is of, whatever one, or has a record that does."""
    try:
        return bool(_told(out, JOB)) or read_sidecar(out).get("verb") == VERB
    except (InputError, NotFoundError):
        return False


def is_done(out: Path, job: str) -> bool:
    """Whether the scan of this job lies at OUT. Raises OutputError where its values have changed since."""
    if _told(out, JOB) != job:
        return False
    try:
        with open_hdf5(out) as file:
            same = _values(file) == _told(out, VALUES)
    except RestoreError:
        same = False
    if not same:
        raise OutputError(
            f"{out}: is not what it says: cut or changed since it was simulated; choose another name, or add "
            "--overwrite to do it again"
        )
    return True


def simulate(
    scan: S,
    out: Path,
    job: str,
    write: Callable[[S, Path], None],
    *,
    measured: str,
    overwrite: bool = False,
    files: Callable[[Path], Sequence[Path]] | None = None,
    on_piece: OnPiece = lambda finished, total: None,
) -> bool:
    """Compute what an interruption left of a scan and put it at OUT; False where it lies there already.

    scan: slices computed when read. job: `job_of`. write: writes such a scan to a path. measured: the name of its
    field with the measured samples. files: all that `write` makes for a path, of a scan that has a record beside it;
    None for one file of HDF5. Raises OutputError, ConfigError for samples that are not finite, and what computing and
    writing raise.
    """
    targets = (out,) if files is None else files(out)
    if need_not_run(
        overwrite, lambda: is_done(out, job) if files is None else vouched(out, job, targets)
    ):
        tidy(out, job)
        return False
    ready = unmoved(out, job)
    for target in targets:
        if target.exists() and not overwrite and target not in ready:
            raise OutputError(f"{target}: exists already; choose another name or add --overwrite")
    stack: LazyStack = getattr(scan, measured)
    check_writable(out.parent, 0 if ready else ROOM * 8 * math.prod(stack.shape))
    work = WorkFolder(out, job, environment(), overwrite)

    def make() -> tuple[dict[Path, Path], dict[str, Any] | None]:
        kept = LazyStack(stack.shape, lambda index: _kept(stack, index, work))
        for index in range(len(stack)):
            kept.load(index)
            on_piece(index + 1, len(stack))
        lying = work.folder / f"result-0{name_suffix(out)}"
        change: dict[str, Any] = {measured: kept}
        write(dataclasses.replace(scan, **change), lying)
        if files is None:
            _sign(lying, job)
            return {out: lying}, None
        record = {
            "status": "done", "verb": VERB, "fingerprint": job, "outputs": [path.name for path in targets],
            "settings": scan.settings, "source": scan.source, "noise_std": scan.noise_std,
            "environment": environment(), "notes": scan.notes,
        }  # fmt: skip
        return dict(zip(targets, files(lying), strict=True)), record

    work.complete(make)
    return True


def _kept(stack: LazyStack, index: int, work: WorkFolder) -> np.ndarray:
    """A slice as it was kept, else computed and kept."""
    which = range(index, index + 1)
    found = work.array(which)
    if found is not None:
        return found[0]
    with np.errstate(over="ignore"):
        values = np.asarray(stack.load(index))
    if not np.isfinite(values).all():
        raise ConfigError(
            f"slice {index} of the scan has numbers beyond single precision: the volume or its noise are too large"
        )
    work.keep(which, values, {})
    return values


def _sign(path: Path, job: str) -> None:
    """Write into our own file which job it is of and what its numbers are."""
    try:
        with written_hdf5(path, "r+") as file:
            file[GROUP].attrs.update({JOB: job, VALUES: _values(file)})
    except OSError as cause:
        raise OutputError(f"{path}: could not be written: {cause.strerror}") from cause


def _told(path: Path, name: str) -> str:
    """A text of the group `restore`, empty where there is none."""
    try:
        with open_hdf5(path) as file:
            group = find_group(file, GROUP)
            found = None if group is None else attribute(group, name)
    except RestoreError:
        return ""
    return found if isinstance(found, str) else ""


def _values(file: h5py.File) -> str:
    """SHA-256 over name, type, shape and numbers of every data set, in hex."""
    digest = hashlib.sha256()

    def add(name: str, item: h5py.HLObject) -> None:
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biufcV":
            return
        digest.update(f"{name} {item.dtype.str} {item.shape}".encode())
        if item.dtype.names:  # records, with numbers of any length among them
            for record in item:
                for field in item.dtype.names:
                    digest.update(np.ascontiguousarray(record[field]).tobytes())
            return
        for part in item if item.ndim > 1 else [item[()]]:
            digest.update(np.ascontiguousarray(part).data)

    file.visititems(add)
    return digest.hexdigest()
