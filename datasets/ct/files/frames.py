"""Frames of a detector as people store them: TIFF or raw files, one a view, or TIFF files of many pages.

Called by the readers of projections and of their flats and darks; opens the files it is given. One frame at a time is
held. What is wrong with a file, or differs between files, is an InputError that names it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.content import DOWNLOAD_AGAIN
from restore.datasets.picture import tiff_lzw
from restore.datasets.stack import LazyStack
from restore.errors import InputError, NotFoundError, RestoreError

TIFF_SUFFIXES = (".tif", ".tiff")
_BLACK_IS_ZERO = 1
_MOST_FRAMES = 1 << 20
_BYTES_A_VALUE = 24  # as stored, as float64 and a copy


@dataclasses.dataclass(frozen=True)
class RawLayout:
    """Of files that are values and nothing else: one frame of `shape` (rows, columns) behind header_bytes."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    header_bytes: int = 0


def frame_files(where: Path, suffixes: Sequence[str] = TIFF_SUFFIXES) -> list[Path]:
    """The files of a folder with one of the suffixes, those of a pattern, or the file itself; numbers in names count.

    Raises NotFoundError where there are none.
    """
    if any(c in where.name for c in "*?["):
        found = [p for p in where.parent.glob(where.name) if p.is_file()]
    elif where.is_dir():
        inside = [p for p in where.iterdir() if p.is_file() and not p.name.startswith(".")]
        found = [p for p in inside if p.suffix.lower() in suffixes]
    else:
        found = [where] if where.is_file() else []
    if not found:
        raise NotFoundError(f"{where}: no files of frames ({', '.join(suffixes)}) there")
    return sorted(found, key=_as_counted)


def _as_counted(path: Path) -> list[tuple[int, str]]:
    """The parts of a name, numbers by their value: view 2 before view 10."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def frames_of(files: Sequence[Path], raw: RawLayout | None = None) -> LazyStack:
    """All frames of the files in their order, (frames, rows, columns) float64, read when asked for.

    raw: how files that are no TIFF are laid out. Raises InputError for damaged files and for frames of other sizes, and
    when a frame is read for values that are not finite.
    """
    pages: list[tuple[Path, int]] = []
    size: tuple[int, int] | None = None
    for file in files:
        count, shape = _measured(file, raw)
        if size is not None and shape != size:
            raise InputError(
                file, f"its frames are {shape[0]} x {shape[1]}, those of {files[0].name} {size[0]} x {size[1]}",
                "keep the frames of one detector setting",
            )  # fmt: skip
        size = shape
        pages += [(file, k) for k in range(count)]
        if len(pages) > _MOST_FRAMES:
            raise InputError(file, f"more than {_MOST_FRAMES} frames", "keep one scan")
    if size is None:
        raise InputError(files[0].parent if files else Path(), "no frames")
    check_budget(size[0] * size[1] * _BYTES_A_VALUE, files[0])

    def load(index: int) -> NDArray[Any]:
        file, page = pages[index]
        values = _raw(file, raw) if raw is not None and not _is_tiff(file) else _page(file, page)
        if values.shape != size:
            raise InputError(
                file, f"its frame is {values.shape}, and was {size}", "do not change it"
            )
        if not np.isfinite(values).all():
            raise InputError(file, "holds NaN or infinite values", "leave this view out")
        return values.astype(np.float64)

    return LazyStack((len(pages), *size), load)


def mean_of(frames: LazyStack, panel: tuple[int, int], what: Path) -> NDArray[np.float64]:
    """The mean frame, (rows, columns). Raises InputError where frames are not of the panel's size."""
    if frames.shape[1:] != panel:
        raise InputError(
            what, f"its frames are {frames.shape[1]} x {frames.shape[2]}, the projections {panel[0]} x {panel[1]}",
            "keep the frames of one detector setting",
        )  # fmt: skip
    total = np.zeros(panel)
    for k in range(len(frames)):
        total += frames[k]
    return total / len(frames)


def _is_tiff(file: Path) -> bool:
    return file.suffix.lower() in TIFF_SUFFIXES


def _measured(file: Path, raw: RawLayout | None) -> tuple[int, tuple[int, int]]:
    """How many frames a file holds, and their (rows, columns)."""
    if not _is_tiff(file):
        if raw is None:
            raise InputError(
                file, "is no TIFF file, and nothing says how it is laid out", "say `raw`"
            )
        return 1, _fits(file, raw)
    with _opened(file) as pages:
        first = pages.pages.first
        _check_page(file, first)
        told = int((pages.imagej_metadata or {}).get("images", 1))
        if told > len(pages.pages):
            raise InputError(
                file, f"a stack of ImageJ with one header for {told} frames", "save it as one TIFF file a view"
            )  # fmt: skip
        return len(pages.pages), (int(first.imagelength), int(first.imagewidth))


def _fits(file: Path, raw: RawLayout) -> tuple[int, int]:
    wanted = raw.header_bytes + raw.shape[0] * raw.shape[1] * raw.dtype.itemsize
    found = file.stat().st_size
    if found != wanted:
        raise InputError(
            file, f"holds {found} bytes, and {raw.shape[0]} x {raw.shape[1]} {raw.dtype} with their header {wanted}",
            "check shape, type and header_bytes; files that differ are of another detector setting, or cut",
        )  # fmt: skip
    return raw.shape


def _raw(file: Path, raw: RawLayout) -> NDArray[Any]:
    _fits(file, raw)
    return np.fromfile(file, raw.dtype, offset=raw.header_bytes).reshape(raw.shape)


def _check_page(file: Path, page: tifffile.TiffPage) -> None:
    kind = page.dtype
    if kind is None or kind.kind not in "uif" or page.samplesperpixel != 1 or page.imagedepth != 1:
        raise InputError(
            file, f"a picture of {page.samplesperpixel} channels of {kind}", "expected grey frames of numbers"
        )  # fmt: skip
    if int(page.photometric) != _BLACK_IS_ZERO:
        raise InputError(
            file, f"its photometric interpretation is {int(page.photometric)}",
            "expected 1, grey levels that grow with the light",
        )  # fmt: skip
    check_budget(int(page.imagelength) * int(page.imagewidth) * _BYTES_A_VALUE, file)


class _opened:
    """A TIFF file whose every failure leaves as one RestoreError: nothing else escapes."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> tifffile.TiffFile:
        try:
            self.pages = tifffile.TiffFile(self.file)
        except Exception as cause:
            raise self._told(cause) from cause
        return self.pages

    def __exit__(self, kind: Any, cause: BaseException | None, trace: Any) -> None:
        self.pages.close()
        if isinstance(cause, Exception) and not isinstance(cause, RestoreError):
            raise self._told(cause) from cause

    def _told(self, cause: Exception) -> InputError:
        why = f"damaged or unusual TIFF file ({type(cause).__name__}: {cause})"
        return InputError(self.file, why, DOWNLOAD_AGAIN)


def _page(file: Path, index: int) -> NDArray[Any]:
    with _opened(file) as pages:
        page = pages.pages[index]
        whole = page if isinstance(page, tifffile.TiffPage) else page.aspage()
        _check_page(file, whole)
        lzw = tiff_lzw.is_lzw(whole)
        values = tiff_lzw.unpacked(file, whole)[..., 0] if lzw else whole.asarray()
        found: NDArray[Any] = np.asarray(values)
        return found
