"""One member of an engine's crew: does the jobs that it is given, one after another, with weights that stay in memory.

An object of its own in the process of every member: `processes` talks to it in lines of JSON (this module's `main`),
`ray_actors` in calls. It says what a job printed together with its outcome, so that lines of members do not mix.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, TextIO

from restore.many import fraction
from restore.many.engines.plain import Plain, job_of, plain_outcome, work_named
from restore.many.runner import attempt
from restore.priors.kept import Spread, models_spread, weights_kept
from restore.priors.traits import Model

EVERY_S = 0.5
"""Between two words of a member on how far it is."""


class Member:
    """work: name of the function that does a job (`plain.name_of_work`)."""

    def __init__(self, work: str) -> None:
        self.work = work_named(work)
        self.weights: dict[str, Model] = {}

    def do(self, plain: Plain, spread: Spread | None = None) -> Plain:
        """Do a job; its plain outcome, and what it printed as `out` and `err`. spread: see `models_spread`."""
        job = job_of(plain)
        out, err = io.StringIO(), io.StringIO()
        fraction.tell(0.0)
        shared = contextlib.nullcontext() if spread is None else models_spread(spread)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), shared:
            with weights_kept(self.weights):
                outcome = attempt(job, self.work)
        fraction.tell(0.0)
        return {"outcome": plain_outcome(outcome), "out": out.getvalue(), "err": err.getvalue()}

    def far(self) -> float:
        """How far the job at work is, 0 to 1."""
        return fraction.heard()


def main(work: str, jobs: TextIO, replies: TextIO) -> None:
    """Do the jobs that come as lines, one reply each, and words on how far it is between them."""
    lock = threading.Lock()

    def reply(value: dict[str, Any]) -> None:
        with lock:
            replies.write(f"{json.dumps(value)}\n")
            replies.flush()

    member, busy, ended = Member(work), threading.Event(), threading.Event()

    def say_how_far() -> None:
        while not ended.wait(EVERY_S):
            if busy.is_set():
                with contextlib.suppress(OSError, ValueError):  # nobody listens any more
                    reply({"far": member.far()})

    threading.Thread(target=say_how_far, daemon=True).start()
    for line in jobs:
        busy.set()
        done = member.do(json.loads(line))
        busy.clear()
        reply(done)
    ended.set()


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main(sys.argv[1], sys.stdin, own)
