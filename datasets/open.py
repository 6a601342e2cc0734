"""Any volume file in, any volume file out: `restore.read` and `restore.write`.

May be called by everybody above. Looks at the first bytes of a file, not at its name, and hands
over to the reader that fits; a file that no reader here fits is named for what it is.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from restore.datasets.atomic import name_suffix
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError, OutputError

SNIFFED_BYTES = 560
NIFTI_SUFFIXES = (".nii", ".nii.gz")

MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"NRRD", "an NRRD volume"),
    (b"%PDF", "a PDF document"),
    (b"MATLAB", "a MATLAB file"),
    (b"ObjectType", "a MetaImage header"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
)

ANALYZE = "an Analyze header, or NIfTI with a damaged one"
"""A header of 348 bytes without the NIfTI mark."""

WHAT_TO_DO = {
    "picture": "pictures are read by `restore image` and datasets.images.read_image",
    "HDF5": "k-space and sinograms are read by `restore recon`, not as volumes",
    "archive": "unpack it first",
    "volume": "convert it to NIfTI",
}


def read(
    path: str | Path,
    *,
    index: int | None = None,
    series: str = "",
    modality: str = "",
    repair: str = "",
) -> Volume:
    """Read a NIfTI file, a DICOM file or a folder with a DICOM series.

    index: which volume of a 4-D NIfTI; series: which DICOM series of a folder (number, UID or its
    end); modality: "MR" or "CT" of a NIfTI file, which does not say; repair: "zero" puts 0 for
    NIfTI voxels that are not finite. Raises NotFoundError, InputError, ConfigError.
    """
    source = Path(path)
    if not source.exists():
        raise NotFoundError(f"{source}: there is no such file or folder")
    kind = "DICOM" if source.is_dir() else sniff(source)
    if kind == "DICOM":
        if index is not None or modality or repair:
            raise ConfigError(f"{source}: index, modality and repair are for NIfTI, this is DICOM")
        from restore.datasets.volume import dicom

        return dicom.read(source, series=series)
    if kind != "NIfTI":
        hint = next((todo for word, todo in WHAT_TO_DO.items() if word in kind), "")
        raise InputError(source, f"{kind}, not a volume", hint or "expected NIfTI or DICOM")
    if series:
        raise ConfigError(f"{source}: series is for DICOM, this is NIfTI")
    from restore.datasets.volume import nifti

    return nifti.read(source, index=index, modality=modality, repair=repair)


def write(
    volume: Volume, path: str | Path, *, description: str = "", overwrite: bool = False
) -> Path:
    """Write `X.nii` or `X.nii.gz` (float32), or a derived DICOM series into a folder `X`.

    description: what was done, a few words for the file's own description. The source is never
    written over, and what exists is only with `overwrite`. Raises ConfigError (name), OutputError.
    """
    target = Path(path)
    suffix = name_suffix(target).lower()
    if suffix not in NIFTI_SUFFIXES and suffix and not target.is_dir():
        raise ConfigError(
            f"{target}: volumes are written as .nii, .nii.gz, or DICOM into a folder whose name "
            "has no suffix"
        )
    refuse_source(target, volume.source)
    filled = any(target.iterdir()) if target.is_dir() else target.exists()
    if filled and not overwrite:
        raise OutputError(f"{target}: exists already; choose another name or say overwrite")
    if suffix in NIFTI_SUFFIXES and not target.is_dir():
        from restore.datasets.volume import nifti_write

        return nifti_write.write(volume, target, description=description)
    from restore.datasets.volume import dicom_write

    return dicom_write.write(volume, target, description=description)


def refuse_source(target: Path, source: Path | None) -> None:
    """Refuse a result that would replace its source or become part of it (OutputError)."""
    if source is None or not source.exists():
        return
    here, there = target.resolve(), source.resolve()
    same = target.exists() and target.samefile(source)
    inside = source.is_dir() and there in here.parents and not name_suffix(target)
    around = target.is_dir() and here in there.parents
    if same or here == there or inside or around:
        what = "is the source" if same or here == there else "lies within or around the source"
        raise OutputError(f"{target}: {what}; write elsewhere")


def sniff(file: Path) -> str:
    """Say what a file is by its first bytes: "NIfTI", "DICOM", or a few words for anything else.

    Raises InputError for a file that is empty or cannot be opened.
    """
    try:
        with file.open("rb") as stream:
            head = stream.read(SNIFFED_BYTES)
            if head[:2] == b"\x1f\x8b":
                stream.seek(0)
                return _inside_gzip(file, gzip.GzipFile(fileobj=stream))
    except OSError as cause:
        raise InputError(file, f"cannot be opened ({cause.strerror})") from cause
    if not head:
        raise InputError(file, "empty: 0 bytes", "fetch or export it again")
    return _kind(head)


def _inside_gzip(file: Path, stream: gzip.GzipFile) -> str:
    try:
        kind = _kind(stream.read(SNIFFED_BYTES))
    except (EOFError, gzip.BadGzipFile, zlib.error) as cause:
        why = "damaged: the compressed data ended early"
        raise InputError(file, why, "fetch or export it again") from cause
    return kind if kind in ("NIfTI", ANALYZE) else f"a gzip archive of {kind}"


def _kind(head: bytes) -> str:
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c"):
        return ANALYZE
    if head[128:132] == b"DICM":
        return "DICOM"
    for magic, name in MAGIC:
        if head.startswith(magic):
            return name
    if head.lstrip()[:1] == b"<":
        return "a web page (HTML or XML)"
    if head and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
        return "a text file"
    return "a file of unknown kind"
