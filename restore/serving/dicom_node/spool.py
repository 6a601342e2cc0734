"""The folder in which the node keeps what it must not lose: one folder a study, found again by the next process.

Made by the node, used by its parts. Touches its own folder only, which belongs to this user alone (mode 0700): images
with names of patients lie in it until they are processed and sent.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from restore.datasets.atomic import check_writable, make_folder, remove, sweep
from restore.datasets.locks import one_at_a_time
from restore.errors import InputError, NotFoundError, OutputError
from restore.serving.dicom_node.study import State, StudyRecord, load_study

REMEMBERED_S = 30 * 24 * 3600.0
"""Records of studies that are done are kept so long: late images of them are told from new studies."""


class Spool:
    """The studies of a folder, in the order in which they began."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.studies: list[StudyRecord] = []
        self._changing = threading.Lock()

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder for one process, and read what lies there.

        What an interrupted process had in work goes on from the state before. Raises OutputError (not to be written,
        another node at work), InputError (a record that is damaged).
        """
        make_folder(self.folder)
        if hasattr(os, "getuid") and self.folder.stat().st_uid != os.getuid():
            raise OutputError(f"{self.folder}: belongs to another user; choose another --spool")
        self.folder.chmod(0o700)
        check_writable(self.folder)
        with one_at_a_time(self.folder / "node"):
            self.studies = sorted(self._found(), key=lambda s: s.began)
            yield

    def new(self, mark: str, peer: str, now: float) -> StudyRecord:
        """Begin the record of a study. Raises OutputError."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        with self._changing:
            names = (f"{stamp}-{mark}" + f"-{k}" * (k > 1) for k in itertools.count(1))
            folder = next(f for f in map(self.folder.joinpath, names) if not f.exists())
            make_folder(folder)
            study = StudyRecord(folder, mark, peer, now)
            try:
                study.save()
            except OutputError:
                remove(folder)
                raise
            self.studies.append(study)
        return study

    def of_state(self, *states: State) -> list[StudyRecord]:
        """The studies in one of these states, in the order in which they began."""
        with self._changing:
            return [study for study in self.studies if study.state in states]

    def next(self, state: State, now: float) -> StudyRecord | None:
        """The first study in a state that is not to wait until later."""
        return next((study for study in self.of_state(state) if study.due <= now), None)

    def earlier(self, study: StudyRecord) -> list[StudyRecord]:
        """Other records of the same study that are complete or further."""
        with self._changing:
            return [
                s
                for s in self.studies
                if s.mark == study.mark and s is not study and s.state != "receiving"
            ]

    def free_bytes(self) -> int:
        """Room on the disk of the spool."""
        return shutil.disk_usage(self.folder).free

    def drop_images(self, study: StudyRecord) -> None:
        """Remove the images of a study; its record stays."""
        remove(study.folder / "in")
        remove(study.folder / "out")

    def _found(self) -> Iterator[StudyRecord]:
        """The studies that lie there, those that were in work put back; records that are done and old go."""
        for folder in sorted(self.folder.iterdir()):
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            try:
                study = load_study(folder)
            except NotFoundError:
                _refuse_filled(folder)
                continue
            if study.state == "done" and study.ended < time.time() - REMEMBERED_S:
                remove(folder)
                continue
            for inner in (folder, *(f for f in folder.rglob("*") if f.is_dir())):
                sweep(inner)
            if study.state == "working":
                study.state = "complete"
            study.due = 0.0
            yield study


def _refuse_filled(folder: Path) -> None:
    """Remove a folder that was only just begun; one with anything else in it is not the node's (InputError)."""
    if any(not f.name.startswith(".") for f in folder.iterdir()):
        raise InputError(
            folder, "no study of a node", "move it out of the spool, or choose another --spool"
        )
    remove(folder)
