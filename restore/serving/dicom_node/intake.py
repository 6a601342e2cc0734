"""What comes in: images kept on the disk before they are acknowledged, and the question whether a study is complete.

Called by the listener (`keep`, `hear`, `hang_up`, from the threads of associations) and by the node (`settle`). Knows
nothing of networks: an association is any hashable thing. An image is acknowledged when it lies on the disk under its
name; until then it is the peer's to send again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from restore.datasets.atomic import atomic_file
from restore.errors import OutputError
from restore.serving.dicom_node.completeness import judge
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import SeriesRecord, StudyRecord, mark_of

TAKEN = 0x0000
NO_ROOM = 0xA700
NOT_UNDERSTOOD = 0xC000
"""Statuses of C-STORE (DICOM PS3.4, B.2.3): success, out of resources, cannot understand."""

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_TOLD = ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")
_UID = re.compile(r"[0-9.]{1,64}")


@dataclass
class _Arriving:
    """A study that is coming in. images: size of each by series and mark; last: when a word of it came last;
    calls: open associations that have brought some of it; broken: one broke off, and none has begun since.
    """

    study: StudyRecord
    last: float
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    calls: set[Hashable] = field(default_factory=set)
    broken: bool = False

    @property
    def size(self) -> int:
        return sum(sum(sizes.values()) for sizes in self.images.values())

    @property
    def count(self) -> int:
        return sum(map(len, self.images.values()))


class Intake:
    """The studies that are coming in.

    tell: takes sentences for the log.
    """

    def __init__(self, spool: Spool, limits: Limits, tell: Callable[[str], None]) -> None:
        self.spool, self.limits, self.tell = spool, limits, tell
        self._arriving: dict[str, _Arriving] = {}
        self._lock = threading.Lock()

    def recover(self, now: float) -> None:
        """Go on with what was coming in when the last process ended; it waits as long as if it had just come."""
        for study in self.spool.of_state("receiving"):
            arriving = _Arriving(study, now)
            for series in study.series.values():
                files = study.source(series).glob("*.dcm")
                arriving.images[series.mark] = {f.stem: f.stat().st_size for f in files}
            self._arriving[study.mark] = arriving
            self.tell(f"{study.name}: {arriving.count} images lie there from before the restart")

    def keep(self, call: Hashable, peer: str, encoded: bytes, now: float) -> int:
        """Put one image on the disk; the status for the peer.

        call: the association; peer: AE title of who sends; encoded: a DICOM file, with its head.
        """
        header = _header(encoded)
        if header is None:
            self.tell(
                f"an image from {peer} was refused: it is no DICOM data set with the UIDs of one"
            )
            return NOT_UNDERSTOOD
        study_mark, series_mark, mark = (mark_of(str(header[uid].value)) for uid in _UIDS)
        with self._lock:
            try:
                arriving = self._arriving_of(study_mark, peer, now)
                if arriving is None:
                    return NO_ROOM
                arriving.last = now
                self._pick_up(arriving, call)
                series = self._series_of(arriving, series_mark, header)
                why = self._refusal(arriving, series, mark, len(encoded))
                if why:
                    self._refuse(arriving, why)
                    return NO_ROOM
                self._write(arriving, series, mark, encoded)
            except (OutputError, OSError) as cause:
                self._fault(study_mark, mark, cause)
                return NO_ROOM
        return TAKEN

    def hear(self, call: Hashable, now: float) -> None:
        """Note that an association is alive: part of an image has come."""
        with self._lock:
            for arriving in self._arriving.values():
                if call in arriving.calls:
                    arriving.last = now

    def hang_up(self, call: Hashable, whole: bool, now: float) -> None:
        """Note the end of an association. whole: it was released, not broken off."""
        with self._lock:
            for arriving in self._arriving.values():
                if call not in arriving.calls:
                    continue
                arriving.calls.discard(call)
                arriving.broken |= not whole
                study = arriving.study
                if not whole:
                    self.tell(
                        f"{study.name}: {study.peer} broke off in the middle; {arriving.count} images came so far"
                    )
                elif not arriving.calls and not arriving.broken:
                    study.cut = False
                    self._note(study)

    def settle(self, now: float) -> None:
        """Say of each study that is coming in whether it is complete, or will never be."""
        with self._lock:
            for mark, arriving in list(self._arriving.items()):
                if arriving.calls:
                    continue  # the listener ends an association that is silent
                counts = {m: len(images) for m, images in arriving.images.items()}
                verdict = judge(arriving.study, counts, now - arriving.last, self.limits)
                if verdict is not None and self._close(arriving, verdict, now):
                    del self._arriving[mark]

    def _arriving_of(self, mark: str, peer: str, now: float) -> _Arriving | None:
        found = self._arriving.get(mark)
        if found is None:
            if len(self._arriving) >= self.limits.studies:
                self.tell(
                    f"an image from {peer} was refused: {len(self._arriving)} studies are coming in already"
                )
                return None
            found = self._arriving[mark] = _Arriving(self.spool.new(mark, peer, now), now)
            self.tell(f"{found.study.name}: begun by {peer}")
        return found

    def _pick_up(self, arriving: _Arriving, call: Hashable) -> None:
        """Note that an association brings images of a study, which is cut until the association is released."""
        if call in arriving.calls:
            return
        arriving.calls.add(call)
        arriving.broken = False
        if not arriving.study.cut:
            arriving.study.cut = True
            arriving.study.save()

    def _series_of(self, arriving: _Arriving, mark: str, header: Dataset) -> SeriesRecord:
        """The record of a series, begun with its first image; a number of images that a header tells is noted."""
        study, (of_study, of_series) = arriving.study, (_count(header, tag) for tag in _TOLD)
        series = study.series.get(mark)
        if series is None or (study.told, series.told) != (
            of_study or study.told,
            of_series or series.told,
        ):
            series = study.series.setdefault(mark, SeriesRecord(mark))
            study.told, series.told = of_study or study.told, of_series or series.told
            study.source(series).mkdir(parents=True, exist_ok=True)
            study.save()
        arriving.images.setdefault(mark, {})
        return series

    def _refusal(self, arriving: _Arriving, series: SeriesRecord, mark: str, size: int) -> str:
        """Why an image is not taken, or nothing."""
        limits = self.limits
        before = arriving.images[series.mark].get(mark)
        if size > limits.instance_bytes:
            return f"an image of {_mb(size)}, over the limit of {_mb(limits.instance_bytes)}"
        if before is None and arriving.count >= limits.study_images:
            return f"more than {limits.study_images} images"
        if arriving.size - (before or 0) + size > limits.study_bytes:
            return f"more than {_mb(limits.study_bytes)}"
        return ""

    def _refuse(self, arriving: _Arriving, why: str) -> None:
        if not arriving.study.too_large:
            arriving.study.too_large = why
            self.tell(f"{arriving.study.name}: {why}; no more of it is taken")
            arriving.study.save()

    def _write(self, arriving: _Arriving, series: SeriesRecord, mark: str, encoded: bytes) -> None:
        free, wanted = self.spool.free_bytes(), len(encoded) + self.limits.free_bytes
        if free < wanted:
            raise OutputError(
                f"the disk has {_mb(free)} free, {_mb(self.limits.free_bytes)} are to stay free"
            )
        with atomic_file(arriving.study.source(series) / f"{mark}.dcm") as partial:
            partial.write_bytes(encoded)
        arriving.images[series.mark][mark] = len(encoded)
        if mark in arriving.study.refused:
            arriving.study.refused.remove(mark)
            arriving.study.save()

    def _fault(self, study_mark: str, mark: str, cause: Exception) -> None:
        """Note an image that could not be written, so that the study is not taken for complete without it."""
        arriving = self._arriving.get(study_mark)
        if arriving is None:
            self.tell("an image was refused: the spool takes no more")
            return
        if not arriving.study.refused:
            self.tell(
                f"{arriving.study.name}: images are refused, {_reason(cause)}; make room on the spool's disk"
            )
        if mark not in arriving.study.refused:
            arriving.study.refused.append(mark)
            self._note(arriving.study)

    def _close(self, arriving: _Arriving, verdict: tuple[bool, str], now: float) -> bool:
        """End the receiving of a study; False where the disk does not take its record, and it is tried again."""
        study, (complete, text) = arriving.study, verdict
        for mark, series in study.series.items():
            series.instances = sorted(arriving.images.get(mark, {}))
            series.images = len(series.instances)
        study.text, study.ended = text, 0.0 if complete else now
        try:
            study.enter("complete" if complete else "failed")
        except OutputError as cause:
            self.tell(f"{study.name}: its record could not be written, {_reason(cause)}")
            return False
        said = (
            f"complete, {study.images} images in {len(study.series)} series"
            if complete
            else f"failed: {text}"
        )
        self.tell(f"{study.name}: {said}")
        return True

    def _note(self, study: StudyRecord) -> None:
        """Write a record where the disk takes it; what it says holds for this process anyway."""
        with suppress(OutputError):
            study.save()


def _header(encoded: bytes) -> Dataset | None:
    """The tags that say where an image belongs; None where they are not there or no UIDs."""
    try:
        header = pydicom.dcmread(
            BytesIO(encoded), stop_before_pixels=True, specific_tags=[*_UIDS, *_TOLD]
        )
        return header if all(_UID.fullmatch(str(header[uid].value)) for uid in _UIDS) else None
    except Exception:  # whatever pydicom raises for bytes from outside: the caller refuses them
        return None


def _count(header: Dataset, keyword: str) -> int:
    """A number of images that a header tells, 0 where it tells none or nonsense."""
    try:
        return max(0, int(header.get(keyword) or 0))
    except (ValueError, TypeError, OverflowError):
        return 0


def _mb(size: int) -> str:
    return f"{size / 1e6:.4g} MB"


def _reason(cause: Exception) -> str:
    """The fault of a disk in words without names of files."""
    inner = cause.__cause__ if isinstance(cause.__cause__, OSError) else cause
    return str(getattr(inner, "strerror", None) or inner)
