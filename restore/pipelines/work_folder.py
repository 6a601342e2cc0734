"""The hidden folder of one unfinished job beside its result: finished pieces, and results ready to be moved.

Used by `run_recon`, `run_simulation` and `restore image`. Its name has the marks of OUT's name and of the job, so that
the same command finds it again and another one does not. It holds `slices-A-B.npy` with a small JSON each (the sha256
of the array, the log, remarks), written through to the disk, and at the end the results and the record under names of
its own with `moves.json`, the list of what goes where. From then on the job only moves: whoever finds the list
completes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.atomic import PREFIX, atomic_file, flush, remove
from restore.datasets.content_hash import sha256_of
from restore.datasets.json_text import read_json, write_json
from restore.datasets.locks import holds
from restore.datasets.open import is_filled
from restore.datasets.sidecar import (
    check_record,
    environment,
    name_bytes,
    output_record,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from restore.errors import InputError, NotFoundError, OutputError
from restore.pipelines.pieces import MAPS, Piece
from restore.precision import resolve, word_of

MOVES, RECORD, LOCK = "moves.json", "record.json", "lock"
_TOLD = ("logs", "curve", "notes", "remarks")
"""What is kept of a piece beside its array, in the order of its fields."""
_logger = logging.getLogger(__name__)


def surroundings(device: torch.device, precision: str) -> dict[str, Any]:
    """What may change the last bits of a job beside its fingerprint: device, versions, the precision of networks there.

    precision: a word of `restore.precision`. Raises ConfigError for another.
    """
    chosen = word_of(resolve(precision, device))
    return environment(str(device)) | {"precision": chosen}


class WorkFolder:
    """The unfinished state of a job; `locked` while a process works in it.

    out: the main result. fingerprint: hash of everything that shapes the result. surroundings: what may change its last
    bits, device and versions: pieces of others are not joined. overwrite: whether other results may be replaced.
    """

    def __init__(
        self, out: Path, fingerprint: str, surroundings: Mapping[str, Any], overwrite: bool = False
    ) -> None:
        self.out, self.overwrite = out, overwrite
        mark = _hash(json.dumps(surroundings, sort_keys=True))
        self.folder = out.with_name(f"{_family(out)}{fingerprint[:16]}-{mark[:8]}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it; on leaving, remove it where it is of no further use.

        What other jobs with this OUT left is removed. Raises OutputError where another process holds it.
        """
        try:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            _check_owner(self.folder)
            lock = (self.folder / LOCK).open("ab")
        except OSError as cause:
            raise OutputError(
                f"{self.folder}: cannot hold the unfinished work ({cause.strerror or cause}); remove what stands "
                "there, or write elsewhere"
            ) from cause
        with lock:
            if not holds(lock, self.folder / LOCK):
                raise OutputError(
                    f"{self.out}: another process is at work on this very job; wait for it"
                )
            try:
                self._drop_others()
                yield
            except BaseException:
                self._leave()
                raise

    def complete(
        self,
        make: Callable[[], tuple[Mapping[Path, Path], Mapping[str, Any] | None]],
        outdated: Sequence[Path] = (),
    ) -> dict[str, Any]:
        """Hold the folder, make the results unless that is done, and put them in their places; returns the record.

        make: writes the results into the folder and gives what `hold_ready` takes.
        """
        with self.locked():
            if not self.ready():
                self.hold_ready(*make(), outdated)
            return self.move()

    def get(self, which: range) -> Piece | None:
        """A finished piece, whole and unchanged, or None."""
        found = self.array(which)
        if found is None or any(name not in found[1] for name in _TOLD):
            return None
        stack, told = found
        rest = {name: told[name] for name in _TOLD}
        names = [name for name in MAPS if told.get(name)]
        samples = len(stack) - len(names)
        return Piece(stack[:samples], **rest, **dict(zip(names, stack[samples:], strict=True)))

    def put(self, which: range, piece: Piece) -> bool:
        """Keep a finished piece; whether it is there now. Raises OutputError."""
        told = {name: getattr(piece, name) for name in _TOLD}
        maps = piece.maps
        if not maps:
            return self.keep(which, piece.stack, told)
        stack = np.concatenate([piece.stack, *(plane[None] for plane in maps.values())])
        return self.keep(which, stack, told | dict.fromkeys(maps, True))  # behind the samples

    def array(self, which: range) -> tuple[NDArray[Any], dict[str, Any]] | None:
        """A kept array, whole and unchanged, and what was told with it, or None."""
        file = self._piece(which)
        try:
            told = read_json(file.with_suffix(".json"))
            if told.get("sha256") != sha256_of(file):
                return None
            return np.load(file, allow_pickle=False), told
        except (NotFoundError, InputError, OSError, ValueError):
            return None  # what was cut short is done again

    def keep(self, which: range, array: NDArray[Any], told: Mapping[str, Any]) -> bool:
        """Keep an array and what is told with it; whether it is there now. Raises OutputError."""
        if not _is_finite(told):
            return False  # infinite figures would come back as text: this piece is done again
        file = self._piece(which)
        with atomic_file(file, array.nbytes) as partial, partial.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
        write_json(file.with_suffix(".json"), {**told, "sha256": sha256_of(file)})
        return True

    def pieces(self) -> int:
        """How many finished pieces lie there."""
        return sum(1 for _ in self.folder.glob("slices-*.json"))

    def ready(self) -> dict[Path, str]:
        """The results that only have to be moved, with their sha256: all there, here or in their places; else none."""
        return _ready(self.folder)

    def hold_ready(
        self,
        written: Mapping[Path, Path],
        record: Mapping[str, Any] | None,
        outdated: Sequence[Path] = (),
    ) -> None:
        """Note that results are written: by their targets, the files or folders in this one. Raises OutputError.

        record: gets `made`, what it vouches for: name, sha256 and bytes of every result; None for results without
        one. outdated: results of the job before that this one has none of: removed when the new ones are moved.
        """
        made = [output_record(path, target.name) for target, path in written.items()]
        if record is not None:
            write_sidecar(self.out, {**record, "made": made}, at=self.folder / RECORD)
        lies = {target.name: path.name for target, path in written.items()}
        write_json(self.folder / MOVES, {
            "results": made, "lies": lies, "recorded": record is not None, "outdated": [p.name for p in outdated],
        })  # fmt: skip

    def move(self) -> dict[str, Any]:
        """Put results in their places, the record last, and remove this folder; returns the record, if there is one.

        The record of what stood there before goes first, so that no record ever stands beside results that it does
        not vouch for. May be called again after any interruption. Raises OutputError, also for results of others that
        have appeared in their places since the job began.
        """
        moves = read_json(self.folder / MOVES)
        lies, recorded = moves["lies"], moves.get("recorded", True)
        self._check_places(moves)
        if recorded:
            check_record(self.out)
        record = sidecar_path(self.out)
        content = read_json(self.folder / RECORD) if (self.folder / RECORD).is_file() else None
        with _failures(self.out):
            if content is not None:
                record.unlink(missing_ok=True)
            for name, lying in lies.items():
                _move(self.folder / lying, self.out.with_name(name))
            for name in moves.get("outdated", ()):
                remove(self.out.with_name(name))
            flush(self.out.parent)
            if content is not None:
                (self.folder / RECORD).replace(record)
                flush(self.out.parent)
        remove(self.folder)
        return content if content is not None else read_json(record) if recorded else {}

    def _check_places(self, moves: Mapping[str, Any]) -> None:
        """Refuse to replace what nobody allowed to be replaced (OutputError)."""
        if self.overwrite:
            return
        wanted = {m["File"]: m["SHA256"] for m in moves["results"]}
        for name, lying in moves["lies"].items():
            target = self.out.with_name(name)
            if not os.path.lexists(self.folder / lying) or not is_filled(target):
                continue
            if sha256_of(target) != wanted[name]:
                raise OutputError(
                    f"{target}: has appeared since this job began; the same command with --overwrite replaces it"
                )

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
        """Remove the folders of other jobs with this OUT. Raises OutputError where one of them is at work."""
        for other in self.out.parent.glob(f"{_family(self.out)}*"):
            if other == self.folder:
                continue
            free = True
            with contextlib.suppress(OSError), (other / LOCK).open("ab") as lock:
                free = holds(lock, other / LOCK)
                if free:
                    remove(other)
            if not free:
                raise OutputError(
                    f"{self.out}: another job with this name is at work; wait for it, or choose another name"
                )


def outdated(out: Path, beside: Sequence[Path], overwrite: bool) -> tuple[list[Path], list[str]]:
    """What lies where this job makes nothing: results of an earlier job, by OUT's record, and notes on all of it.

    Results of the earlier job go when OUT is replaced; files of others stay. Raises OutputError for results of an
    earlier job that may not be replaced.
    """
    there = [path for path in beside if os.path.lexists(path) and is_filled(path)]
    try:
        named = read_sidecar(out).get("outputs") if there else None
    except (InputError, NotFoundError):
        named = None
    names = [name_bytes(n) for n in named if isinstance(n, str)] if isinstance(named, list) else []
    own = [path for path in there if name_bytes(path.name) in names]
    if own and not overwrite:
        raise OutputError(
            f"{own[0]}: is of an earlier job with the same OUT, and this one makes none; choose another name, or add "
            "--overwrite, which removes it"
        )
    return own, [
        f"{path.name}, of the earlier job, was removed: this one makes none" if path in own
        else f"{path.name} lies there and is not of this job"
        for path in there
    ]  # fmt: skip


def tidy(out: Path, fingerprint: str) -> None:
    """Remove what a kill at its very end left of a job that is done, unless a process is there right now."""
    for folder in out.parent.glob(f"{_family(out)}{fingerprint[:16]}-*"):
        with contextlib.suppress(OSError), (folder / LOCK).open("ab") as lock:
            if holds(lock, folder / LOCK):
                remove(folder)


def unmoved(out: Path, fingerprint: str) -> dict[Path, str]:
    """The results of a job that were ready when it was killed, with their sha256; some may be in their places."""
    found: dict[Path, str] = {}
    for folder in out.parent.glob(f"{_family(out)}{fingerprint[:16]}-*"):
        found |= _ready(folder)
    return found


def _ready(folder: Path) -> dict[Path, str]:
    try:
        told = read_json(folder / MOVES)
        names = [*told["lies"], *told["lies"].values(), *told.get("outdated", ())]
        if not all(name and Path(name).name == name for name in names):
            return {}  # none of ours: nothing outside the two folders is ever moved
        found = {folder.with_name(m["File"]): m["SHA256"] for m in told["results"]}
        lies = [folder / told["lies"][target.name] for target in found]
        for here, (target, wanted) in zip(lies, found.items(), strict=True):
            if sha256_of(here if os.path.lexists(here) else target) != wanted:
                return {}
        return found
    except (NotFoundError, InputError, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _check_owner(folder: Path) -> None:
    """Refuse a folder that another user has put there: what lies in it would be moved in this one's name."""
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise OutputError(f"{folder}: belongs to another user; remove it, or write elsewhere")


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


@contextmanager
def _failures(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as cause:
        raise OutputError(f"{out}: could not be written: {cause.strerror or cause}") from cause
