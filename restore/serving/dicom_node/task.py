"""What the node has done on a series: a verb of the command line in a process of its own.

The command line makes the `CommandTask` from the words of `--task`, which its own parser has checked; the worker runs
it. No shell is asked, and what is sent by peers appears nowhere but in the files of one folder. A process of its own
may run out of memory or be ended without taking the node along, and what it has finished it keeps for the next try.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

STOPPED = 128 + signal.SIGTERM
LONGEST_TEXT = 2000
STOP_S = 60.0
"""So long a process may take to put away what it has finished before it is killed."""
ERROR = "restore: error: "


@dataclass(frozen=True)
class Outcome:
    """code: exit code as in docs/exit-codes.md; text: the sentence that the run ended with, "" where it was done."""

    code: int
    text: str = ""


class Task(Protocol):
    """What is done on each series; `name` stands in messages."""

    name: str

    def run(self, source: Path, out: Path) -> Outcome:
        """Make the derived series `out` (a folder that appears whole or not at all) of the series in `source`."""

    def stop(self) -> None:
        """End a run that another thread waits for; it may be begun again later."""


class CommandTask:
    """A verb with its options, such as volume and --task denoise, run as `VERB IN -o OUT OPTIONS`."""

    def __init__(self, name: str, verb: str, options: Sequence[str]) -> None:
        self.name, self.verb, self.options = name, verb, tuple(options)
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, source: Path, out: Path) -> Outcome:
        """See Task."""
        command = (
            sys.executable, "-m", "restore.cli", self.verb, str(source), "-o", str(out), "--overwrite", *self.options
        )  # fmt: skip
        with self._lock:
            if self._stopped:
                return Outcome(STOPPED)
            # A session of its own: Ctrl-C at the terminal reaches the node alone, which ends this one in order.
            process = self._process = subprocess.Popen(  # noqa: S603 (a fixed program, checked words, no shell)
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                errors="backslashreplace", start_new_session=True,
            )  # fmt: skip
        _, told = process.communicate()
        with self._lock:
            self._process = None
        if process.returncode == 0:
            return Outcome(0)
        text = next((line for line in reversed(told.splitlines()) if line.startswith(ERROR)), "")
        text = (
            text.removeprefix(ERROR)
            .replace(str(source), "the series")
            .replace(str(out), "the result")
        )
        if process.returncode < 0:
            text = f"the process was ended by {signal.Signals(-process.returncode).name}, perhaps for want of memory"
        return Outcome(process.returncode, text[:LONGEST_TEXT] or f"exit code {process.returncode}")

    def stop(self) -> None:
        """See Task."""
        with self._lock:
            self._stopped = True
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
