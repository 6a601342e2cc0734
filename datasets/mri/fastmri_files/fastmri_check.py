"""Check that fastMRI files are what they claim to be, before hours of work go into them.

May be called by the command line and the benchmark; reads the files it is given. The attribute
`patient_id` is never read. The checksums of the published files are not public, so none are kept
here: a list of one's own, as `sha256sum` writes it, may be given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from restore.datasets.content import DOWNLOAD_AGAIN
from restore.datasets.hdf5_guard import (
    attribute,
    find_dataset,
    find_text,
    names,
    open_hdf5,
)
from restore.datasets.mri.checks.axes import check_axes
from restore.datasets.mri.checks.kspace_order import order_of
from restore.datasets.mri.fastmri_files.fastmri_folder import find_files
from restore.datasets.mri.fastmri_files.fastmri_header import Header, parse_header
from restore.datasets.stack import LazyStack
from restore.errors import InputError, NotFoundError

ACQUISITIONS = (
    "CORPD_FBK", "CORPDFS_FBK", "AXT1", "AXT1PRE", "AXT1POST", "AXT2", "AXFLAIR", "SIMULATED",
)  # fmt: skip
TOLERANCE = 1e-5
"""How far the attribute `max` may lie from the target's maximum, relative."""

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")

Checksums = list[tuple[tuple[str, ...], str]]
"""Parts of a path, from the root or the last ones only, and the sha256 of that file."""


@dataclass
class FileReport:
    """What a file holds. problems: why it cannot be used as it is; notes: what to know of it.

    shape: of k-space (slices, coils, H, W), coils 1 for single coil; target: (slices, rows,
    columns) or None; sha256: "ok", "differs", or "" where no list names the file.
    """

    path: Path
    coils: str = ""
    shape: tuple[int, ...] = ()
    target: tuple[int, ...] | None = None
    acquisition: str = ""
    acceleration: float | None = None
    sha256: str = ""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against using the file."""
        return not self.problems


def check_folder(
    root: str | Path,
    checksums: str | Path | None = None,
    done: Callable[[int, int], None] = lambda count, total: None,
) -> list[FileReport]:
    """Check all .h5 files under a folder. checksums: a file as `read_checksums` takes it.

    done(count, total) is called after every file. Raises NotFoundError, InputError for a folder or
    a list that cannot be used; what is wrong with a volume stands in its report.
    """
    sums = None if checksums is None else read_checksums(checksums)
    files, reports = find_files(root), []
    for file in files:
        reports.append(check_file(file.path, sums))
        if reports[-1].coils and file.coils not in ("", reports[-1].coils):
            reports[-1].problems.append(f"{reports[-1].coils} k-space in a {file.coils} folder")
        done(len(reports), len(files))
    return reports


def check_file(path: str | Path, checksums: Checksums | None = None) -> FileReport:
    """Structure, target and attributes of one file, and some slices of its k-space.

    Damage is reported, not raised. Raises NotFoundError for a missing file.
    """
    path = Path(path)
    if not path.exists():
        raise NotFoundError(f"{path}: no such file")
    report = FileReport(path)
    try:
        if checksums is not None:
            _compare_checksum(report, checksums)
        with open_hdf5(path) as file:
            _check_kspace(file, report)
            header = _check_header(file, report)
            _check_target(file, report, header)
            _check_mask(file, report)
            _check_acquisition(file, report)
    except InputError as error:
        report.problems.append(error.why)
    return report


def read_checksums(path: str | Path) -> Checksums:
    """The list in a text file with lines "sha256  name", as `sha256sum` writes it.

    A name may have folders in front, which then must agree; blank lines and # comments are skipped.
    Raises NotFoundError, InputError.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"{path}: no such file")
    found: dict[tuple[str, ...], str] = {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(path, f"line {number} is not 'sha256  name'", "write it by sha256sum")
        parts = tuple(p for p in PurePosixPath(match[2]).parts if p != ".")
        if found.setdefault(parts, match[1].lower()) != match[1].lower():
            raise InputError(
                path, f"line {number} gives a second sha256 for {match[2]}",
                "write the folder in front of the name where two files share it",
            )  # fmt: skip
    return list(found.items())


def _compare_checksum(report: FileReport, checksums: Checksums) -> None:
    own = report.path.absolute().parts
    known = [(len(parts), value) for parts, value in checksums if own[-len(parts) :] == parts]
    if not known:
        report.notes.append("not in the list of checksums")
        return
    with report.path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    report.sha256 = "ok" if digest == max(known)[1] else "differs"
    if report.sha256 == "differs":
        report.problems.append(f"sha256 differs from the list ({DOWNLOAD_AGAIN})")


def _check_kspace(file: h5py.File, report: FileReport) -> None:
    kspace = find_dataset(file, "kspace")
    if kspace is None:
        raise InputError(report.path, f"no data set 'kspace'; the file holds {names(file)}")
    sizes = tuple(map(int, kspace.shape))
    if kspace.dtype.kind != "c" or kspace.ndim not in (3, 4) or 0 in sizes:
        raise InputError(
            report.path, f"'kspace' is {kspace.dtype} {sizes}, expected complex "
            "(slices, coils, H, W) or (slices, H, W)",
        )  # fmt: skip
    report.coils = "multicoil" if kspace.ndim == 4 else "singlecoil"
    report.shape = sizes if kspace.ndim == 4 else (sizes[0], 1, *sizes[1:])
    looked_at = {i: kspace[i] for i in sorted({0, sizes[0] // 2, sizes[0] - 1})}
    for index, values in looked_at.items():
        if not np.isfinite(values).all():
            report.problems.append(f"'kspace' holds NaN or infinite values in slice {index}")
        elif not values.any():
            report.notes.append(f"slice {index} of 'kspace' is zero everywhere")
    stack = np.stack(list(looked_at.values())).astype(np.complex64)
    stack = stack.reshape(len(stack), *report.shape[1:])
    lazy = LazyStack(stack.shape, lambda i: stack[i])
    try:
        check_axes(lazy, report.path, report.notes)
        order_of(lazy, "", report.path, report.notes)
    except InputError as error:
        report.problems.append(error.why)


def _check_header(file: h5py.File, report: FileReport) -> Header | None:
    text = find_text(file, "ismrmrd_header")
    if text is None:
        report.problems.append("no 'ismrmrd_header'")
        return None
    try:
        header = parse_header(text)
    except ValueError as error:
        report.problems.append(f"'ismrmrd_header': {error}")
        return None
    height, width = report.shape[-2:]
    if header.recon[0] > height or header.recon[1] > width:
        report.notes.append(
            f"the header's image {header.recon[0]} x {header.recon[1]} exceeds k-space "
            f"{height} x {width}: cut to it"
        )
    if header.encoded[:2] != (height, width):
        report.notes.append(
            f"the header's encoded size {header.encoded[0]} x {header.encoded[1]} is not that of "
            f"k-space, {height} x {width}"
        )
    elif header.columns is not None:
        first, end = max(header.columns[0], 0), min(header.columns[1], width)
        if end - first < width:
            report.notes.append(f"{width - max(end - first, 0)} zero-padded columns")
    return header


def _check_target(file: h5py.File, report: FileReport, header: Header | None) -> None:
    kinds = ("esc", "rss") if report.coils == "singlecoil" else ("rss",)
    found = ((k, find_dataset(file, f"reconstruction_{k}")) for k in kinds)
    key, target = next(((k, d) for k, d in found if d is not None), ("", None))
    if target is None:
        return
    if target.dtype.kind != "f" or target.ndim != 3 or target.shape[0] != report.shape[0]:
        report.problems.append(
            f"'reconstruction_{key}' is {target.dtype} {target.shape}, expected real "
            f"({report.shape[0]}, rows, columns)"
        )
        return
    report.target = tuple(map(int, target.shape))
    size = report.target[1:]
    if size[0] > report.shape[-2] or size[1] > report.shape[-1]:
        report.notes.append(
            f"the target {size[0]} x {size[1]} exceeds k-space {report.shape[-2]} x "
            f"{report.shape[-1]}: compare the part that both have"
        )
    if header is not None and header.recon[:2] != size:
        report.notes.append(
            f"the target {size[0]} x {size[1]} is not the header's image {header.recon[0]} x "
            f"{header.recon[1]}"
        )
    _check_maximum(file, report, [target[i] for i in range(report.target[0])])


def _check_maximum(file: h5py.File, report: FileReport, slices: list[Any]) -> None:
    if not all(np.isfinite(values).all() for values in slices):
        report.problems.append("the target holds NaN or infinite values")
        return
    largest = max(float(values.max()) for values in slices)
    stated = _number(file, "max", report)
    _number(file, "norm", report)
    if stated is not None and not abs(stated - largest) <= TOLERANCE * abs(largest):
        report.problems.append(
            f"attribute 'max' is {stated:.6g}, the target's maximum {largest:.6g}"
        )


def _check_mask(file: h5py.File, report: FileReport) -> None:
    dataset = find_dataset(file, "mask")
    if dataset is None:
        if report.target is None:
            report.notes.append("neither target nor mask")
        return
    width = report.shape[-1]
    values = np.asarray(dataset[()]).reshape(-1)
    if values.shape != (width,) or not np.isin(values, (0, 1)).all() or not values.any():
        report.problems.append(
            f"'mask' has shape {dataset.shape}; expected {width} values 0 or 1, not all 0"
        )
        return
    report.acceleration = _number(file, "acceleration", report)
    low = _number(file, "num_low_frequency", report)
    if low is not None and not 0 <= low <= values.sum():
        report.problems.append(f"attribute 'num_low_frequency' is {low:g} of {values.sum():g}")
    if np.asarray(file["kspace"][report.shape[0] // 2][..., values == 0]).any():
        report.notes.append("k-space is not zero outside 'mask'")


def _check_acquisition(file: h5py.File, report: FileReport) -> None:
    text = attribute(file, "acquisition")
    if text in ACQUISITIONS:
        report.acquisition = text
    else:
        # Free text of unknown origin is not repeated: it could tell who was scanned.
        state = "missing" if text is None else "none of the published ones"
        report.notes.append(f"attribute 'acquisition' is {state}")


def _number(file: h5py.File, name: str, report: FileReport) -> float | None:
    value = attribute(file, name)
    if value is None:
        report.notes.append(f"attribute '{name}' is missing")
        return None
    if not isinstance(value, int | float) or not np.isfinite(value):
        report.problems.append(f"attribute '{name}' is not a finite number")
        return None
    return float(value)
