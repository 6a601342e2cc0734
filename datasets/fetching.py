"""Files from the network by name into a cache: only what has the table's sha256 is ever kept.

May be called by the store of priors and the command line. pooch downloads to a hidden name in the folder of the
target and moves the file when its sha256 is right. A file that lies there already is checked and used without the
network.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from restore.datasets.atomic import check_space, check_writable
from restore.datasets.fetch_table import Entry, RemoteFile
from restore.errors import InputError, NotFoundError, OutputError

CACHE = "RESTORE_CACHE"
"""Environment variable: the folder for fetched files; by default restore/ in the cache folder (XDG_CACHE_HOME)."""
PATIENCE_S = 30.0  # without a byte from the server; a slow line is no fault
PIECE = 1 << 16
OnBytes = Callable[[int], None]


def cache_folder() -> Path:
    """The folder that fetched files go to; it need not exist."""
    import pooch

    chosen = os.environ.get(CACHE)
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("restore"))


def folder_of(entry: Entry) -> Path:
    """Where the files of an entry lie in the cache."""
    return cache_folder() / entry.section / entry.name


def fetch(
    entry: Entry, folder: Path | None = None, on_bytes: OnBytes = lambda count: None
) -> list[Path]:
    """The files of an entry, fetched where they are not there yet.

    folder: by default that of the entry in the cache. on_bytes: told how many bytes have come so far.
    Raises NotFoundError (no network, no such address; says where to put the file by hand), InputError (another content
    than the table's), OutputError.
    """
    target = folder_of(entry) if folder is None else folder
    missing = [f for f in entry.files if not _is_there(target / f.name, f)]
    if missing:
        _make(target)
        check_space(target, sum(f.size or 0 for f in missing))
        check_writable(target)
    before = 0
    for file in missing:
        _retrieve(entry, file, target, lambda count, before=before: on_bytes(before + count))  # type: ignore[misc]
        before += file.size or 0
    return [target / f.name for f in entry.files]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder}: could not be made ({error.strerror or error}); choose another with {CACHE}"
        ) from error


def _is_there(path: Path, file: RemoteFile) -> bool:
    import pooch

    return path.is_file() and pooch.file_hash(str(path)) == file.sha256


def _retrieve(entry: Entry, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> None:
    import pooch

    target = folder / file.name
    by_hand = (
        f"where this machine has no network, put the file with sha256 {file.sha256} at {target}"
    )
    if target.is_file():
        by_hand = f"what lies at {target} has another sha256; {by_hand}"
    counter = _Counter(file, on_bytes)
    downloader = pooch.HTTPDownloader(progressbar=counter, timeout=PATIENCE_S, chunk_size=PIECE)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(file.url, f"sha256:{file.sha256}", file.name, folder, downloader=downloader)
    except OSError as error:  # those of the network too
        if error.errno is not None:
            raise OutputError(f"{target}: could not be written ({error.strerror})") from error
        raise NotFoundError(
            f"{entry.name}: {file.url} could not be fetched ({_reason(error)}); {by_hand}"
        ) from error
    except ValueError as error:  # how pooch says it
        raise InputError(
            target, f"{file.url} gave another file than the table's: its sha256 is not {file.sha256}",
            f"nothing was kept; correct {entry.table.name}, or get the file elsewhere",
        ) from error  # fmt: skip
    finally:
        logger.setLevel(level)


def _reason(error: OSError) -> str:
    """The innermost cause in few words: the exceptions of the network wrap each other."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code}"
    return f"{type(error).__name__}: {error}"[:200]


class _Counter:
    """What pooch takes for a progress bar: tells how many bytes came, and ends a download beyond the table's size."""

    def __init__(self, file: RemoteFile, on_bytes: OnBytes) -> None:
        self.total, self.file, self.on_bytes, self.count = 0, file, on_bytes, 0

    def update(self, count: int) -> None:
        """Count a piece, the last one as if it were whole. Raises InputError beyond the size of the table."""
        self.count += count
        if self.file.size is not None and self.count >= self.file.size + PIECE:
            raise InputError(
                self.file.url, f"sends more than the {self.file.size} bytes of the table"
            )
        self.on_bytes(min(self.count, self.file.size or self.count))

    def reset(self) -> None:
        """At the end of a download; the whole size follows."""
        self.count = 0

    def close(self) -> None:
        """At the end of a download; nothing is open."""
