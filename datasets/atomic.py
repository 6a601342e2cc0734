"""Files and folders that appear whole or not at all.

May be called by every writer. What is written goes to a hidden name in the folder of the target, is
flushed to the disk and then renamed; on any failure, an interruption included, the hidden file or
folder is removed and the target is as it was before.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restore.errors import OutputError

PREFIX = ".restore-"


@contextmanager
def atomic_file(path: str | Path, expected_bytes: int = 0) -> Iterator[Path]:
    """Give a temporary name with the target's suffix; on leaving, rename it to the target.

    expected_bytes: refused beforehand where the disk has less. The body writes to the name and
    nothing else: an OSError in it is taken for a failed write. Raises OutputError.
    """
    target = Path(path)
    check_space(target.parent, expected_bytes)
    partial = _hidden_name(target)
    try:
        with _failures_of(target):
            yield partial
            _flush(partial)
            partial.replace(target)
            _flush(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, expected_bytes: int = 0) -> Iterator[Path]:
    """Give an empty temporary folder; on leaving, rename it to the target.

    A folder that stands at the target is replaced as a whole, so the caller decides beforehand
    whether that may happen. Raises OutputError.
    """
    target = Path(path)
    check_space(target.parent, expected_bytes)
    partial, old = _hidden_name(target), _hidden_name(target)
    try:
        with _failures_of(target):
            partial.mkdir()
            yield partial
            for file in (*partial.rglob("*"), partial):
                _flush(file)
            _swap(partial, target, old)
            _flush(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_space(folder: Path, nbytes: int) -> None:
    """Refuse a folder that is missing or whose disk has less than `nbytes` free (OutputError)."""
    if not folder.is_dir():
        raise OutputError(f"{folder}: there is no such folder; make it first")
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise OutputError(
            f"{folder}: {nbytes / 1e6:.4g} MB to write, the disk has {free / 1e6:.4g} MB free; "
            "make room or write elsewhere"
        )


def check_writable(folder: Path) -> None:
    """Make and remove a hidden file, so that a folder that takes none is known before the work (OutputError)."""
    check_space(folder, 0)
    probe = _hidden_name(folder / "probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as cause:
        raise OutputError(
            f"{folder}: takes no files ({cause.strerror or cause}); write elsewhere"
        ) from cause


def name_suffix(path: Path) -> str:
    """Return the suffix of a file's name, with .nii.gz counted as one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix


def _hidden_name(target: Path) -> Path:
    return target.parent / f"{PREFIX}{secrets.token_hex(6)}{name_suffix(target)}"


@contextmanager
def _failures_of(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise OutputError(
            f"{target}: could not be written: {cause.strerror or cause}; nothing was left there"
        ) from cause


def _swap(partial: Path, target: Path, old: Path) -> None:
    if not target.exists():
        partial.replace(target)
        return
    target.replace(old)
    try:
        partial.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # a folder cannot be opened, hence not flushed, there
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
