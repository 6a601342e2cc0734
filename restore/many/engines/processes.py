"""An engine of some processes on this machine, each with its own share of the threads.

Chosen by `--engine processes:N`. Members are started as they are needed and talk in lines of JSON (`member`).
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from restore.many.engines.crew import Lost, Show, spread
from restore.many.engines.plain import Plain, name_of_work
from restore.many.jobs import Job, Outcome
from restore.many.runner import Work

PATIENCE_S = 30.0
"""For a member that was asked to end: it tidies up what is half-written."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Processes:
    """A crew of `size` processes that do the work of that name."""

    def __init__(self, size: int, work: str) -> None:
        self.size, self.work = size, work
        self._members: dict[int, subprocess.Popen[str]] = {}
        self._words: queue.Queue[tuple[int, subprocess.Popen[str], Plain | None]] = queue.Queue()
        self._far: dict[int, float] = {}

    def give(self, member: int, job: Plain) -> None:
        """Write it to the member's input."""
        process = self._members.get(member) or self._started(member)
        assert process.stdin is not None  # noqa: S101  (for the type checker: it was asked for)
        with contextlib.suppress(OSError):  # a member that is gone: `next` says so
            process.stdin.write(f"{json.dumps(job)}\n")
            process.stdin.flush()

    def next(self, seconds: float) -> tuple[int, Plain | Lost] | None:
        """The next reply; words on how far a member is are kept."""
        while True:
            try:
                member, process, word = self._words.get(timeout=seconds)
            except queue.Empty:
                return None
            if word is None:
                del self._members[member]
                self._far.pop(member, None)
                return member, Lost(_ending(process))
            if "far" not in word:
                self._far.pop(member, None)
                return member, word
            self._far[member] = float(word["far"])

    def far(self) -> float:
        """Parts of jobs that are done."""
        return sum(self._far.values())

    def close(self) -> None:
        """End all; one that does not is killed."""
        for process in self._members.values():
            with contextlib.suppress(OSError):
                process.terminate()
        for process in self._members.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _started(self, member: int) -> subprocess.Popen[str]:
        share = str(max(1, (os.cpu_count() or 1) // self.size))
        process = subprocess.Popen(  # noqa: S603  (our own module)
            [sys.executable, "-m", "restore.many.engines.member", self.work],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            env=dict.fromkeys(THREADS, share) | os.environ,
        )  # fmt: skip
        self._members[member] = process
        threading.Thread(target=self._listen, args=(member, process), daemon=True).start()
        return process

    def _listen(self, member: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101  (for the type checker: it was asked for)
        for line in process.stdout:
            self._words.put((member, process, _read(line)))
        process.wait()
        self._words.put((member, process, None))


def _read(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # cut short by its end, which follows
        return {"far": 0.0}


def _ending(process: subprocess.Popen[str]) -> str:
    code = process.returncode
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


class ProcessEngine:
    """The engine of N processes. show: who sees what they do."""

    def __init__(self, size: int, show: Show) -> None:
        self.size, self.show = size, show

    def __call__(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        """Outcomes as they come."""
        crew = Processes(min(self.size, len(jobs)), name_of_work(work))
        return spread(jobs, crew, self.show)
