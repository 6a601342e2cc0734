"""Files and folders that appear whole or not at all.

May be called by every writer. What is written goes to a hidden name in the folder of the target, is
flushed to the disk and then renamed; on any failure, an interruption included, the hidden file or
folder is removed and the target is as it was before. What a killed process could not remove bears its number and is
removed by `sweep` at the next start in that folder.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from restore.errors import OutputError

PREFIX = ".restore-"
LONGEST_NAME = 255
"""Bytes of a file's name on all common file systems."""
LONGEST_SUFFIX = 16
"""Characters of a suffix that a hidden name keeps: formats are told by shorter ones."""
STALE_SECONDS = 7 * 24 * 3600
"""After this time what another machine left is taken for dead: no file is written for a week."""

_HIDDEN = re.compile(r"\.restore-([0-9a-f]{8})-(\d+)-[0-9a-f]{12}(\..*)?")


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
            flush(partial)
            partial.replace(target)
            flush(target.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, expected_bytes: int = 0) -> Iterator[Path]:
    """Give an empty temporary folder; on leaving, rename it to the target.

    A folder that stands at the target is replaced as a whole, so the caller decides beforehand
    whether that may happen. Raises OutputError.
    """
    target = Path(path)
    if target.is_symlink():
        raise OutputError(f"{target}: is a link; name the folder itself, {target.resolve()}")
    check_space(target.parent, expected_bytes)
    partial, old = _hidden_name(target), _hidden_name(target)
    try:
        with _failures_of(target):
            partial.mkdir()
            yield partial
            for file in (*partial.rglob("*"), partial):
                flush(file)
            _swap(partial, target, old)
            flush(target.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def hidden_folder(beside: str | Path) -> Iterator[Path]:
    """Give an empty hidden folder beside a file that is being written, and remove it on leaving.

    For libraries that make files of their own on the way: what a kill leaves of them is swept with the folder. Raises
    OSError where none can be made.
    """
    folder = _hidden_name(Path(beside))
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


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


def check_writable(folder: Path, nbytes: int = 0) -> None:
    """Make and remove a hidden file, so that a folder that takes none is known before the work (OutputError).

    nbytes: that must be free there. What dead processes of ours left in the folder is removed.
    """
    sweep(folder)
    check_space(folder, nbytes)
    probe = _hidden_name(folder / "probe")
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as cause:
        raise OutputError(
            f"{folder}: takes no files ({cause.strerror or cause}); write elsewhere"
        ) from cause


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing (OutputError)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise OutputError(
            f"{folder}: could not be made ({cause.strerror or cause}); write elsewhere"
        ) from cause


def check_name(path: Path) -> None:
    """Refuse a name that no file system takes (OutputError)."""
    if not path.name:
        raise OutputError(f"{path}: names no file or folder to write; give it a name")
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME or "\0" in str(path):
        why = f"has {length} bytes, file systems take {LONGEST_NAME}"
        raise OutputError(
            f"{path}: the name {why if length > LONGEST_NAME else 'holds a NUL'}; choose a shorter one"
        )


def sweep(folder: Path) -> None:
    """Remove hidden files and folders of ours whose process is dead; what cannot be removed stays."""
    try:
        found = [p for p in folder.iterdir() if p.name.startswith(PREFIX)]
    except OSError:
        return  # a folder that cannot be listed is told of by whoever writes into it
    for path in found:
        match = _HIDDEN.fullmatch(path.name)
        if match and _is_dead(path, match[1], int(match[2])):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder if it is there; what cannot be removed stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def name_suffix(path: Path) -> str:
    """Return the suffix of a file's name, with .nii.gz counted as one."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix


def _hidden_name(target: Path) -> Path:
    suffix = name_suffix(target) if len(name_suffix(target)) <= LONGEST_SUFFIX else ""
    return target.parent / f"{PREFIX}{_machine()}-{os.getpid()}-{secrets.token_hex(6)}{suffix}"


@functools.cache
def _machine() -> str:
    """Which machine's, or container's, process numbers are meant."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no file lies behind this link)
    except OSError:
        space = ""
    return hashlib.sha256(f"{platform.node()}/{space}".encode()).hexdigest()[:8]


def _is_dead(path: Path, machine: str, process: int) -> bool:
    """Whether nobody writes to a hidden name any more."""
    try:
        if machine != _machine() or os.name == "nt":  # there, signal 0 is no question but Ctrl-C
            return path.lstat().st_mtime < time.time() - STALE_SECONDS
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


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
    remove(old)


def flush(path: Path) -> None:
    """Have the system put a file or a folder's list on the disk (OSError)."""
    if path.is_dir() and os.name == "nt":  # a folder cannot be opened, hence not flushed, there
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
