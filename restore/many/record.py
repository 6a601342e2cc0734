"""The list of a folder's jobs and what became of them, for programs: one line of JSON a job.

Written by the command line into the folder of the results, each part its own file; nothing reads it here. It says what
is true of the list, not of one run: the same command on finished work leaves it as it is. Outputs are named from there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from restore.datasets.atomic import atomic_file
from restore.many.jobs import Job, Outcome
from restore.many.parts import Part

NAME = "restore-jobs{}.jsonl"
EVERY_S = 10.0
"""Between two writings while the work goes on."""


class Record:
    """One part's jobs in a folder; jobs that nothing is known of are "waiting"."""

    def __init__(self, folder: Path, jobs: Sequence[Job], part: Part) -> None:
        self.path, self.jobs = folder / NAME.format(part.suffix), jobs
        self.found: dict[str, Outcome] = {}
        self._written = time.monotonic()

    def put(self, outcome: Outcome) -> None:
        """Note an outcome, on the disk as well where some time has gone by. Raises OutputError."""
        self.found[outcome.job.name] = outcome
        if time.monotonic() - self._written >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Put the lines on the disk, whole, unless they stand there already. Raises OutputError."""
        self._written = time.monotonic()
        text = "".join(f"{json.dumps(self._line(job), ensure_ascii=True)}\n" for job in self.jobs)
        raw = text.encode("ascii")
        if self.path.is_file() and self.path.read_bytes() == raw:
            return
        with atomic_file(self.path, len(raw)) as partial:
            partial.write_bytes(raw)

    def _line(self, job: Job) -> dict[str, object]:
        found = self.found.get(job.name)
        state = "waiting" if found is None else "done" if found.ok else "failed"
        out = "" if job.out is None else os.path.relpath(job.out, self.path.parent)
        told: dict[str, object] = {
            "name": job.name, "verb": job.verb, "input": str(job.source), "output": out, "state": state
        }  # fmt: skip
        if found is not None and not found.ok:
            told |= {"exit_code": found.exit_code, "error": found.sentence}
        return told
