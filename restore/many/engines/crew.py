"""The one contract between a list of jobs and whoever does them elsewhere, and the way jobs are given out.

`processes` and `ray_actors` are crews; `spread` is what makes an engine of one. A job whose member was lost is given to
another, a few times; what a member finished before it was lost is found done.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from restore.many.engines.plain import Plain, outcome_of, plain_job
from restore.many.jobs import Job, Outcome

MOST_TRIES = 3
"""Of a job whose members are lost: what kills three of them is the job."""

GIVEN_UP = 1
"""Exit code of such a job: nobody foresaw it (docs/exit-codes.md)."""

WAIT_S = 0.5
"""For a member's word, between two looks at how far all are."""

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Lost:
    """A member that is no more. why: in words, such as "ended by SIGKILL"."""

    why: str


class Crew(Protocol):
    """Members by number, 0 to size - 1."""

    size: int

    def give(self, member: int, job: Plain) -> None:
        """Let a member do a job; one that was lost is replaced first."""

    def next(self, seconds: float) -> tuple[int, Plain | Lost] | None:
        """The member that is first to have done its job, with what `Member.do` gives, or that is lost; None in time."""

    def far(self) -> float:
        """How far all members are with the jobs that they have, added up."""

    def close(self) -> None:
        """Let all go, what they are at included."""


@dataclasses.dataclass(frozen=True)
class Show:
    """Who sees what members do.

    said: what a job printed, on stdout and stderr. far: how many jobs are done, parts of them counted.
    """

    said: Callable[[str, str], None] = lambda out, err: None
    far: Callable[[float], None] = lambda jobs: None


SILENT = Show()


def spread(jobs: Sequence[Job], crew: Crew, show: Show) -> Iterator[Outcome]:
    """Outcomes as they come. Raises ConfigError for jobs that do not travel."""
    waiting, idle = deque(jobs), list(range(crew.size))
    tries, at, done = Counter[str](), dict[int, Job](), 0
    try:
        while waiting or at:
            while waiting and idle:
                member, job = idle.pop(0), waiting.popleft()
                tries[job.name] += 1
                crew.give(member, plain_job(job))
                at[member] = job
            came = crew.next(WAIT_S)
            show.far(done + crew.far())
            if came is None:
                continue
            member, found = came
            if member not in at:
                continue  # lost while it had nothing to do: replaced when it is given something
            job = at.pop(member)
            idle.append(member)
            if isinstance(found, Lost):
                if tries[job.name] < MOST_TRIES:
                    _logger.warning(
                        "%s: its worker was lost (%s): it is tried again", job.name, found.why
                    )
                    waiting.appendleft(job)
                    continue
                outcome = _given_up(job, found)
            else:
                show.said(found["out"], found["err"])
                outcome = outcome_of(found["outcome"], job)
            done += 1
            yield outcome
    finally:
        crew.close()


def _given_up(job: Job, lost: Lost) -> Outcome:
    sentence = (
        f"its worker was lost {MOST_TRIES} times (the last {lost.why}): memory may be short there; --dry-run says "
        "what the job needs"
    )
    return Outcome(job, "failed", exit_code=GIVEN_UP, sentence=sentence)
