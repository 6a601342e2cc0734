"""The way back: derived series sent to their target by C-STORE, tried again where it does not answer.

Called by the node, from one thread. Every image that the target acknowledges is noted on the disk, so that the next
try, also one after a restart, sends the others alone. What cannot be sent in the end stays in the spool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from restore.datasets.volume.dicom_files import files_below, header_of
from restore.errors import OutputError, RestoreError
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.listener import load_network
from restore.serving.dicom_node.peers import Peer
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import SHOWN_DIGITS, SeriesRecord, StudyRecord, mark_of

WARNINGS = (0xB000, 0xB006, 0xB007)
"""Statuses of C-STORE under which an image was stored, with a remark (DICOM PS3.4, B.2.3)."""
LONGEST_CONNECT_S = 30.0


class _Unsent(RestoreError):
    """The target has not taken an image; the message says why."""


class Sender:
    """title: ours; target: where to; finish: ends a study, with the time; the others as in `Worker`."""

    def __init__(
        self, spool: Spool, title: str, target: Peer, limits: Limits, tell: Callable[[str], None],
        stopping: Callable[[], bool], finish: Callable[[StudyRecord, float], None],
    ) -> None:  # fmt: skip
        self.spool, self.title, self.target, self.limits = spool, title, target, limits
        self.tell, self.stopping, self.finish = tell, stopping, finish

    def step(self, now: float) -> bool:
        """Send the derived series of one study; whether there was one."""
        study = self.spool.next("sending", now)
        if study is None:
            return False
        try:
            for series in study.of_state("made"):
                if not self._one(study, series, now):
                    study.save()
                    return True
                study.save()
            self.finish(study, now)
        except (
            OutputError
        ) as cause:  # a record could not be written: an image is sent twice at most
            self.tell(f"{study.name}: {cause}")
            study.state, study.due = "sending", now + self.limits.longest_pause_s
        return True

    def _one(self, study: StudyRecord, series: SeriesRecord, now: float) -> bool:
        """Send a series; False where the study is to wait for a later time, or the node ends."""
        name = f"{study.name}, series {series.mark[:SHOWN_DIGITS]}"
        acknowledged = study.derived(series).with_suffix(".sent")
        files = {mark_of(str(header_of(f, stop_before_pixels=True).SOPInstanceUID)): f
                 for f in files_below(study.derived(series))}  # fmt: skip
        before = _lines(acknowledged)
        try:
            self._send({m: f for m, f in files.items() if m not in before}, acknowledged)
        except _Unsent as cause:
            sent = len(_lines(acknowledged) & set(files))
            study.tries = 1 if sent > len(before) else study.tries + 1
            series.text = f"{sent} of {len(files)} images were sent to {self.target}: {cause}"
            if study.tries < self.limits.tries:
                pause = self.limits.pause_after(study.tries)
                study.due = now + pause
                self.tell(f"{name}: {series.text}; tried again in {pause:.0f} s")
                return False
            series.state = "failed"
            self.tell(f"{name}: failed: {series.text}; it is kept")
            return True
        if self.stopping() and len(_lines(acknowledged)) < len(files):
            return False
        series.state, series.text = "sent", ""
        study.tries = 0
        self.tell(f"{name}: {len(files)} images sent to {self.target}")
        return True

    def _send(self, files: dict[str, Path], acknowledged: Path) -> None:
        """Send images by mark and note each that is acknowledged. Raises _Unsent at the first that is not."""
        if not files:
            return
        classes = {str(header_of(f, stop_before_pixels=True).SOPClassUID) for f in files.values()}
        with (
            self._association(classes) as association,
            acknowledged.open("a", encoding="ascii") as notes,
        ):
            for mark, file in files.items():
                if self.stopping():
                    return
                self._store(association, file)
                notes.write(f"{mark}\n")
                notes.flush()
                os.fsync(notes.fileno())

    def _store(self, association: Any, file: Path) -> None:
        try:
            answer = association.send_c_store(file)
        except (
            ValueError,
            RuntimeError,
        ) as cause:  # how pynetdicom says: no context for it, no association any more
            why = (
                "it takes no such images"
                if association.is_established
                else "it broke off in the middle"
            )
            raise _Unsent(why) from cause
        if "Status" not in answer:
            raise _Unsent("it broke off in the middle, or does not answer any more")
        if answer.Status and answer.Status not in WARNINGS:
            raise _Unsent(f"it refused an image with status 0x{answer.Status:04X}")

    @contextmanager
    def _association(self, classes: set[str]) -> Iterator[Any]:
        """An association with the target that is released at the end. Raises _Unsent."""
        network = load_network()
        entity = network.AE(self.title)
        entity.connection_timeout = min(self.limits.silence_s, LONGEST_CONNECT_S)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.limits.silence_s
        for kind in sorted(classes):
            for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
                entity.add_requested_context(kind, syntax)
        try:
            association = entity.associate(
                self.target.host, self.target.port, ae_title=self.target.title
            )
        except OSError as cause:
            raise _Unsent(f"its host has no address ({cause.strerror or cause})") from cause
        if not association.is_established:
            if association.is_rejected:
                why = association.acceptor.primitive.reason_str
                raise _Unsent(f"it refused the association ({why}); is {self.title} known there?")
            raise _Unsent("it does not answer")
        try:
            yield association
        finally:
            association.release()


def _lines(file: Path) -> set[str]:
    """The whole lines of a file; none where it is not there."""
    try:
        return {line for line in file.read_text("ascii").split("\n")[:-1]}
    except FileNotFoundError:
        return set()
