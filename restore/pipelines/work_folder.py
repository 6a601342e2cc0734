"""The hidden folder of one unfinished job beside its result: finished pieces, and results ready to be moved.

Used by `run_recon` only. Its name has the marks of OUT's name and of the job, so that the same command finds it again
and another one does not. It holds `slices-A-B.npy` with a small JSON each (the sha256 of the
array, the log, remarks), written through to the disk, and at the end the results and the record under names of its own
with `moves.json`, the list of what goes where. From then on the job only moves: whoever finds the list completes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from restore.datasets.atomic import PREFIX, atomic_file, flush, remove
from restore.datasets.content_hash import sha256_of
from restore.datasets.json_text import read_json, write_json
from restore.datasets.sidecar import check_record, output_record, sidecar_path, write_sidecar
from restore.errors import InputError, NotFoundError, OutputError
from restore.pipelines.scan_to_volume import Piece

try:
    import fcntl
except ImportError:  # Windows: two equal commands at once are not told apart there
    fcntl = None  # type: ignore[assignment]

MOVES, RECORD, LOCK = "moves.json", "record.json", "lock"
_TOLD = ("logs", "curve", "notes", "remarks")
"""What is kept of a piece beside its array, in the order of its fields."""
_logger = logging.getLogger(__name__)


class WorkFolder:
    """The unfinished state of a job; `locked` while a process works in it.

    out: the main result. fingerprint: hash of everything that shapes the result. surroundings: what may change its last
    bits, device and versions: pieces of others are not joined.
    """

    def __init__(self, out: Path, fingerprint: str, surroundings: Mapping[str, Any]) -> None:
        self.out = out
        mark = _hash(json.dumps(surroundings, sort_keys=True))
        self.folder = out.with_name(f"{_family(out)}{fingerprint[:16]}-{mark[:8]}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it; on leaving, remove it where it is of no further use.

        What other jobs with this OUT left is removed. Raises OutputError where another process holds it.
        """
        with _failures(self.out):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            lock = (self.folder / LOCK).open("ab")
        with lock:
            if not _held(lock):
                raise OutputError(
                    f"{self.out}: another process is at work on this very job; wait for it"
                )
            self._drop_others()
            try:
                yield
            except BaseException:
                self._leave()
                raise

    def get(self, which: range) -> Piece | None:
        """A finished piece, whole and unchanged, or None."""
        file = self._piece(which)
        try:
            told = read_json(file.with_suffix(".json"))
            if told.get("sha256") != sha256_of(file):
                return None
            stack = np.load(file, allow_pickle=False)
            return Piece(stack, *(told[name] for name in _TOLD))
        except (NotFoundError, InputError, OSError, ValueError, KeyError):
            return None  # what was cut short is done again

    def put(self, which: range, piece: Piece) -> None:
        """Keep a finished piece. Raises OutputError."""
        told = {name: getattr(piece, name) for name in _TOLD}
        if not _is_finite(told):
            return  # infinite figures would come back as text: this piece is done again
        file = self._piece(which)
        with atomic_file(file, piece.stack.nbytes) as partial, partial.open("wb") as stream:
            np.save(stream, piece.stack, allow_pickle=False)
        write_json(file.with_suffix(".json"), {**told, "sha256": sha256_of(file)})

    def pieces(self) -> int:
        """How many finished pieces lie there."""
        return sum(1 for _ in self.folder.glob("slices-*.json"))

    def ready(self) -> dict[Path, str]:
        """The results that only have to be moved, with their sha256: all there, here or in their places; else none."""
        return _ready(self.folder)

    def hold_ready(self, written: Mapping[Path, Path], record: Mapping[str, Any]) -> None:
        """Note that results are written: by their targets, the files or folders in this one. Raises OutputError.

        The record gets `made`, what it vouches for: name, sha256 and bytes of every result.
        """
        made = [output_record(path, target.name) for target, path in written.items()]
        write_sidecar(self.out, {**record, "made": made}, at=self.folder / RECORD)
        lies = {target.name: path.name for target, path in written.items()}
        write_json(self.folder / MOVES, {"results": made, "lies": lies})

    def move(self) -> dict[str, Any]:
        """Put results in their places, the record last, and remove this folder; returns the record.

        The record of what stood there before goes first, so that no record ever stands beside results that it does
        not vouch for. May be called again after any interruption. Raises OutputError.
        """
        check_record(self.out)
        record, lies = sidecar_path(self.out), read_json(self.folder / MOVES)["lies"]
        content = read_json(self.folder / RECORD) if (self.folder / RECORD).is_file() else None
        with _failures(self.out):
            if content is not None:
                record.unlink(missing_ok=True)
            for name, lying in lies.items():
                _move(self.folder / lying, self.out.with_name(name))
            flush(self.out.parent)
            if content is not None:
                (self.folder / RECORD).replace(record)
                flush(self.out.parent)
        remove(self.folder)
        return read_json(record) if content is None else content

    def tidy(self) -> None:
        """Remove what is left of a job that is done, unless a process is at its end right now."""
        with contextlib.suppress(OSError), (self.folder / LOCK).open("ab") as lock:
            if _held(lock):
                remove(self.folder)

    def _piece(self, which: range) -> Path:
        return self.folder / f"slices-{which.start}-{which.stop}.npy"

    def _leave(self) -> None:
        """After a failure: keep finished pieces and say so, else remove the folder."""
        count = self.pieces()
        if count == 0 and not self.ready():
            remove(self.folder)
            return
        _logger.warning("what is finished (%d pieces) is kept in %s: the same command goes on with it",
                        count, self.folder.name)  # fmt: skip

    def _drop_others(self) -> None:
        """Remove the folders of other jobs with this OUT, except those at work."""
        for other in self.out.parent.glob(f"{_family(self.out)}*"):
            if other == self.folder:
                continue
            with contextlib.suppress(OSError), (other / LOCK).open("ab") as lock:
                if _held(lock):
                    remove(other)


def unmoved(out: Path, fingerprint: str) -> dict[Path, str]:
    """The results of a job that were ready when it was killed, with their sha256; some may be in their places."""
    found: dict[Path, str] = {}
    for folder in out.parent.glob(f"{_family(out)}{fingerprint[:16]}-*"):
        found |= _ready(folder)
    return found


def _ready(folder: Path) -> dict[Path, str]:
    try:
        told = read_json(folder / MOVES)
        found = {folder.with_name(m["File"]): m["SHA256"] for m in told["results"]}
        lies = [folder / told["lies"][target.name] for target in found]
        for here, (target, wanted) in zip(lies, found.items(), strict=True):
            if sha256_of(here if os.path.lexists(here) else target) != wanted:
                return {}
        return found
    except (NotFoundError, InputError, KeyError, TypeError):
        return {}


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return all(map(_is_finite, items))
    return not isinstance(value, float | np.floating) or bool(np.isfinite(value))


def _family(out: Path) -> str:
    """What the names of all folders for one OUT begin with."""
    return f"{PREFIX}work-{_hash(os.fsencode(out.name))[:12]}-"


def _hash(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(raw).hexdigest()


def _move(prepared: Path, target: Path) -> None:
    """Put a result in its place; one that was moved already is let be."""
    if not os.path.lexists(prepared):
        return
    if target.is_dir():
        old = prepared.with_name(f"{prepared.name}-old")
        remove(old)
        target.replace(old)
    prepared.replace(target)


def _held(lock: IO[bytes]) -> bool:
    """Take the lock of an open file; True also where the file system has none. Goes with the open file."""
    if fcntl is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return True


@contextmanager
def _failures(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise OutputError(f"{out}: could not be written: {cause.strerror or cause}") from cause
