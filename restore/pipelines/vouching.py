"""Whether the results of a job lie there as its record says.

Used by the jobs that write a record; reads the record and the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from restore.datasets.content_hash import sha256_of
from restore.datasets.open import is_filled
from restore.datasets.sidecar import name_bytes, read_sidecar
from restore.errors import InputError, NotFoundError, OutputError

_kept: ContextVar[bool] = ContextVar("_kept", default=False)


@contextmanager
def results_kept() -> Iterator[None]:
    """Inside, what is done stays also where results may be replaced: a list of jobs goes on where it ended."""
    token = _kept.set(True)
    try:
        yield
    finally:
        _kept.reset(token)


def said_of_done(out: Path) -> str:
    """What is said of a job that need not run; of a list, `--overwrite` does nothing again that this list has done."""
    again = "" if _kept.get() else "; --overwrite does it again"
    return f"{out}: already done with these settings{again}"


def need_not_run(overwrite: bool, done: Callable[[], bool]) -> bool:
    """Whether a job is left alone. overwrite: results may be replaced, and a single job is then done again in any case.

    done: whether its results lie there; may raise OutputError for results that have changed since, which passes where
    they may not be replaced.
    """
    if not overwrite:
        return done()
    try:
        return _kept.get() and done()
    except OutputError:
        return False


def is_done(out: Path, fingerprint: str, files: Sequence[Path]) -> bool:
    """Whether the record of OUT is of this job and all of its files lie there.

    Raises OutputError where one of them is not as the record says.
    """
    try:
        record = read_sidecar(out)
    except (InputError, NotFoundError):
        return False
    same = record.get("status") == "done" and record.get("fingerprint") == fingerprint
    if not same or not all(map(is_filled, files)):
        return False
    vouched = _vouched(record)
    for path in files:
        if vouched.get(name_bytes(path.name)) != sha256_of(path):
            raise OutputError(
                f"{path}: is not what its record vouches for (another sha256): cut, changed or replaced since; choose "
                "another name, or add --overwrite to do it again"
            )
    return True


def _vouched(record: Mapping[str, Any]) -> dict[bytes, Any]:
    """sha256 by name of the results of a record; records of earlier versions have none."""
    made = record.get("made")
    entries = made if isinstance(made, list) else []
    told = [e for e in entries if isinstance(e, dict) and isinstance(e.get("File"), str)]
    return {name_bytes(e["File"]): e.get("SHA256") for e in told}
