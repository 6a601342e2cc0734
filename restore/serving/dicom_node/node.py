"""The node as a whole: a spool, a listener, and three threads that settle, work and send until it is told to end.

Used by the command line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from restore.serving.dicom_node.intake import Intake
from restore.serving.dicom_node.limits import Limits
from restore.serving.dicom_node.listener import Listener
from restore.serving.dicom_node.peers import Allowed, Peer
from restore.serving.dicom_node.sender import Sender
from restore.serving.dicom_node.spool import Spool
from restore.serving.dicom_node.study import StudyRecord
from restore.serving.dicom_node.task import Task
from restore.serving.dicom_node.worker import Worker

TICK_S = 0.1


@dataclass(frozen=True)
class NodeSettings:
    """title, host, port: where the node listens; allow: who may call; target: where derived series go; spool: folder;
    keep: whether images stay in the spool when their study is done; retry_failed: whether studies that failed are
    taken up again at the start, as they are.
    """

    title: str
    host: str
    port: int
    allow: tuple[Peer, ...]
    target: Peer
    spool: Path
    limits: Limits = field(default_factory=Limits)
    keep: bool = False
    retry_failed: bool = False


class Node:
    """A node that has one task done. tell: takes sentences for the log, without anything of a patient."""

    def __init__(self, settings: NodeSettings, task: Task, tell: Callable[[str], None]) -> None:
        self.settings, self.task, self.tell = settings, task, tell
        self.spool = Spool(settings.spool)
        self.port = settings.port
        self._ended = threading.Event()
        self._fault: BaseException | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve while the block runs; then take no more, and put away what is in work for the next start.

        Raises ConfigError (port taken, host without address, package missing), OutputError, InputError (the spool).
        """
        settings, limits = self.settings, self.settings.limits
        with self.spool.opened():
            for study in self.spool.of_state("done"):
                self._tidy(study)  # where the last process ended just before
            if settings.retry_failed:
                self._retry()
            intake = Intake(self.spool, limits, self.tell)
            intake.recover(time.time())
            listener = Listener(
                settings.title,
                settings.host,
                settings.port,
                Allowed(settings.allow),
                intake,
                limits,
                self.tell,
            )
            self.port = listener.port
            threads = [threading.Thread(target=self._repeat, args=(step,), daemon=True)
                       for step in self._steps(intake, listener)]  # fmt: skip
            listener.start()
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                listener.stop()
                self._ended.set()
                self.task.stop()
                for thread in threads:
                    thread.join()

    def wait(self) -> None:
        """Return never, but by an exception: that of a signal, or a fault of one of the threads."""
        while not self._ended.wait(TICK_S):
            pass
        if self._fault is not None:
            raise self._fault

    def waiting(self) -> int:
        """How many studies are neither done nor failed."""
        return len(self.spool.of_state("receiving", "complete", "working", "sending"))

    def _steps(self, intake: Intake, listener: Listener) -> list[Callable[[float], bool]]:
        """What the threads repeat: each does one thing and says whether there was one."""
        limits, stopping = self.settings.limits, self._ended.is_set
        worker = Worker(self.spool, self.task, limits, self.tell, stopping, self.finish)
        sender = Sender(
            self.spool,
            self.settings.title,
            self.settings.target,
            limits,
            self.tell,
            stopping,
            self.finish,
        )

        def settle(now: float) -> bool:
            listener.poll(now)
            intake.settle(now)
            return False

        return [settle, worker.step, sender.step]

    def _repeat(self, step: Callable[[float], bool]) -> None:
        try:
            while not self._ended.is_set():
                if not step(time.time()):
                    self._ended.wait(TICK_S)
        except BaseException as fault:  # handed to the main thread, which ends with it
            self._fault = fault
            self._ended.set()

    def finish(self, study: StudyRecord, now: float) -> None:
        """Close a study of which nothing is left to do. Raises OutputError."""
        failed, sent = study.of_state("failed"), study.of_state("sent")
        skipped = len(study.of_state("skipped"))
        texts = sorted({series.text for series in (failed or study.of_state("skipped"))})
        done = bool(sent) and not failed
        study.text = (
            f"{len(sent)} derived series sent, {skipped} series skipped, {len(failed)} failed"
        )
        if not done:
            study.text += ": " + ("; ".join(texts) or "it holds no images")
        study.ended = now
        study.enter("done" if done else "failed")
        self.tell(f"{study.name}: {study.state}: {study.text}")
        if done:
            self._tidy(study)

    def _tidy(self, study: StudyRecord) -> None:
        if not self.settings.keep:
            self.spool.drop_images(study)

    def _retry(self) -> None:
        """Take up studies that failed: what was made is sent, what was not is done, whether or not all came."""
        for study in self.spool.of_state("failed"):
            for series in study.of_state("failed"):
                series.state = "made" if study.derived(series).is_dir() else "waiting"
            if not study.of_state("waiting", "made"):
                continue
            study.forced, study.tries, study.due = True, 0, 0.0
            study.enter("complete" if study.of_state("waiting") else "sending")
            self.tell(f"{study.name}: taken up again")
