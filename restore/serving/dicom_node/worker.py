"""The node's work: a complete study's series, one after the other, through the task.

Called by the node, from one thread. What becomes of each series is written down as soon as it is known, so that a
restart does one series again at most.
"""

from __future__ import annotations

from collections.abc import Callable

from restore.datasets.atomic import make_folder, remove
from restore.errors import InputError, OutputError
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.screening import SINGLE_IMAGE, check_derived, not_a_volume
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import SHOWN_DIGITS, SeriesRecord, SeriesState, StudyRecord
from restore.serving.dicom_node.task import STOPPED, Task

NO_DISK = OutputError.exit_code


class Worker:
    """tell: takes sentences for the log; stopping: whether the node is to end; finish: ends a study, with the time."""

    def __init__(
        self, spool: Spool, task: Task, limits: Limits, tell: Callable[[str], None], stopping: Callable[[], bool],
        finish: Callable[[StudyRecord, float], None],
    ) -> None:  # fmt: skip
        self.spool, self.task, self.limits = spool, task, limits
        self.tell, self.stopping, self.finish = tell, stopping, finish

    def step(self, now: float) -> bool:
        """Work on one study; whether there was one."""
        study = self.spool.next("complete", now)
        if study is None:
            return False
        try:
            self._work(study, now)
        except (
            OutputError
        ) as cause:  # the record could not be written: nothing is lost, the work is done again
            self.tell(f"{study.name}: {cause}")
            self._put_back(study, now + self.limits.longest_pause_s)
        return True

    def _work(self, study: StudyRecord, now: float) -> None:
        study.enter("working")
        for series in study.of_state("waiting"):
            if not self._one(study, series, now):
                study.save()
                return
            study.save()
        study.tries = 0
        if study.of_state("made"):
            study.enter("sending")
        else:
            self.finish(study, now)

    def _one(self, study: StudyRecord, series: SeriesRecord, now: float) -> bool:
        """Do one series; False where the study is to wait for a later time."""
        name = f"{study.name}, series {series.mark[:SHOWN_DIGITS]}"
        left_out = not_a_volume(study.source(series))
        late = self._late(study, series) if left_out in ("", SINGLE_IMAGE) else ""
        if left_out or late:
            series.state, series.text = ("failed", late) if late else ("skipped", left_out)
            self.tell(f"{name}: {series.state}: {series.text}")
            return True
        self.tell(f"{name}: {self.task.name} on {series.images} images")
        make_folder(study.derived(series).parent)
        outcome = self.task.run(study.source(series), study.derived(series))
        if outcome.code == STOPPED or (outcome.code and self.stopping()):
            self._put_back(study, 0.0)
            return False
        if outcome.code == NO_DISK and study.tries + 1 < self.limits.tries:
            study.tries += 1
            pause = self.limits.pause_after(study.tries)
            self.tell(f"{name}: {outcome.text}; tried again in {pause:.0f} s")
            self._put_back(study, now + pause)
            return False
        if outcome.code:
            series.state, series.text = "failed", outcome.text
        else:
            series.state, series.text = self._checked(study, series)
        self.tell(f"{name}: {series.state}" + f": {series.text}" * bool(series.text))
        return True

    def _checked(self, study: StudyRecord, series: SeriesRecord) -> tuple[SeriesState, str]:
        """State and sentence of a series whose task was done."""
        try:
            check_derived(study.source(series), study.derived(series))
        except InputError as cause:
            remove(study.derived(series))
            return "failed", f"{cause.why}; nothing of it is sent"
        return "made", ""

    def _late(self, study: StudyRecord, series: SeriesRecord) -> str:
        """Why a part of a series that came after the rest is not taken for a series, or nothing."""
        if study.forced:
            return ""
        came = set(series.instances)
        for other in self.spool.earlier(study):
            before = other.series.get(series.mark)
            lacking = set() if before is None else set(before.instances) - came
            if before is not None and lacking:
                return (
                    f"{len(came)} images came after the series had been taken for complete with {before.images}; "
                    "send the whole series again, and have the node wait longer (--quiet)"
                )
        return ""

    def _put_back(self, study: StudyRecord, due: float) -> None:
        study.state, study.due = "complete", due
