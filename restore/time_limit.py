"""A limit on the time that work may take: how its parts share what is left, and what is said where it ended a sampler.

Used by `restore.draining`, which asks after every step, and by the pipelines, which go part by part. Reads a clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from restore.errors import ConfigError

Clock = Callable[[], float]
"""Seconds since some moment, never fewer than before."""

REPEATED = "another run, or another machine, may end at another step: this result cannot be repeated to the bit"


@dataclass(frozen=True)
class TimeLimit:
    """seconds: of the whole work, as told. end: the moment on the clock when this part of it should be done."""

    seconds: float
    end: float
    clock: Clock

    @classmethod
    def starting(cls, seconds: float, clock: Clock = time.monotonic) -> TimeLimit:
        """A limit whose time begins now. Raises ConfigError for what is no positive, finite number."""
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 < seconds < math.inf:
            raise ConfigError(
                f"the time limit must be a number of seconds above 0, got {seconds!r}"
            )
        return cls(float(seconds), clock() + seconds, clock)

    @classmethod
    def of(cls, told: float | TimeLimit | None) -> TimeLimit | None:
        """What a caller says: seconds from now, a limit that has begun, or none. Raises ConfigError."""
        return told if told is None or isinstance(told, TimeLimit) else cls.starting(told)

    def share(self, part: float, of: float) -> TimeLimit:
        """The limit of one part of all that is still to do: as large a part of the time that is left."""
        now = self.clock()
        return TimeLimit(self.seconds, now + max(0.0, self.end - now) * part / of, self.clock)


class Pace:
    """Whether there is time for another step, judged by the quickest so far; the first, which has the set-up of a
    sampler in it, does not count."""

    def __init__(self, limit: TimeLimit) -> None:
        self.limit, self.before, self.quickest = limit, math.nan, math.inf

    def over(self) -> bool:
        """To be asked after every step."""
        now = self.limit.clock()
        if not math.isnan(self.before):
            self.quickest = min(self.quickest, now - self.before)
        self.before = now
        needed = 0.0 if math.isinf(self.quickest) else self.quickest
        return now >= self.limit.end or now + needed > self.limit.end


def was_ended(ends: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a limit ended one of the runs. ends: `Reconstruction.ends`, or the chunks of a record."""
    return any(name in end for end in ends for name in ENDED)


def limit_record(seconds: float, ends: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry "time_limit" of a record: how many of its runs it ended, and whether they can be repeated."""
    ended = sum(was_ended([end]) for end in ends)
    return {"seconds": seconds, "ended": ended, "of": len(ends), "repeatable": not ended}


def limit_notes(
    seconds: float, sampler: str, settings: Mapping[str, Any], ends: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a user must know where a limit ended runs of a sampler early: where, and what of it. settings: its own."""
    said = [
        _where(whose.format(sampler), [end[name] for end in ends if name in end], len(ends))
        for name, whose in ENDED.items()
        if any(name in end for end in ends)
    ]
    if not said:
        return []
    own = [end[OWN] for end in ends if OWN in end]
    fewest = min(done for done, _ in own) if own else 0
    if fewest > 1 and settings.get("n_steps") == own[0][1]:
        said.append(f"a whole run of n_steps={fewest} takes about as long and is usually better")
    return [f"the time limit of {seconds:g} s ended {'; '.join(said)}; {REPEATED}"]


OWN = "ended_after"
ENDED = {OWN: "{}", "centre_ended_after": "the runs whose mean is taken"}
"""Entries of a run's last record that a limit ended, [steps done, of how many], and whose steps they are."""


def _where(whose: str, stops: Sequence[Sequence[int]], runs: int) -> str:
    done = sorted({int(step) for step, _ in stops})
    steps = f"step {done[0]}" if len(done) == 1 else f"steps {done[0]} to {done[-1]}"
    share = "" if runs == 1 else f" in {len(stops)} of {runs} runs"
    return f"{whose}{share} after {steps} of {max(int(n) for _, n in stops)}, with the estimate of then"
