"""One process at a time on one result: a lock that goes with the process, however it ends.

May be called by everybody who writes; touches one hidden file beside the result, which is removed at the end. Where the
system or the file system knows no locks, nobody is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from restore.datasets.atomic import PREFIX, check_space
from restore.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: two equal commands at once are not told apart there
    fcntl = None  # type: ignore[assignment]


@contextmanager
def one_at_a_time(target: Path) -> Iterator[None]:
    """Hold the lock of a result while the block runs. Raises OutputError where another process holds it."""
    check_space(target.parent, 0)
    mark = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]
    path = target.with_name(f"{PREFIX}lock-{mark}")
    try:
        lock = path.open("ab")
    except OSError as cause:
        raise OutputError(
            f"{target.parent}: takes no files ({cause.strerror or cause}); write elsewhere"
        ) from cause
    with lock:
        if not holds(lock, path):
            raise OutputError(
                f"{target}: another process is at work on it; wait for it, or choose another name"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def holds(lock: IO[bytes], path: Path) -> bool:
    """Take the lock of an open file that lies at `path`; it goes when the file is closed.

    False where another process has it, or has just removed the file; True also where the file system has no locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except OSError:
        return False
