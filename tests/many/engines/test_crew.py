"""How jobs are given out, whoever does them; values that travel; the words that name engines."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import chores
import pytest

from restore.errors import ConfigError
from restore.many.engines.crew import MOST_TRIES, Lost, Show, spread
from restore.many.engines.named import engine_named
from restore.many.engines.plain import (
    Plain,
    job_of,
    name_of_work,
    outcome_of,
    plain_job,
    plain_outcome,
    work_named,
)
from restore.many.jobs import Job, Outcome
from restore.many.runner import in_process


def job(name: str, **options: Any) -> Job:
    return Job("recon", name, Path("in") / name, Path("out") / name, options)


class Scripted:
    """A crew whose members do as the script says: of each job by name, for each try, done or lost."""

    size = 2

    def __init__(self, **script: list[str]) -> None:
        self.script = {name: deque(words) for name, words in script.items()}
        self.at: deque[tuple[int, Plain]] = deque()
        self.given: list[str] = []
        self.closed = False

    def give(self, member: int, job: Plain) -> None:
        assert member not in [m for m, _ in self.at]
        self.given.append(job["name"])
        self.at.append((member, job))

    def next(self, seconds: float) -> tuple[int, Plain | Lost] | None:
        member, job = self.at.popleft()
        if self.script.get(job["name"], deque(["done"])).popleft() == "lost":
            return member, Lost("ended by SIGKILL")
        outcome = plain_outcome(Outcome(job_of(job), "done", 1.5))
        return member, {"outcome": outcome, "out": job["name"], "err": ""}

    def far(self) -> float:
        return 0.25 * len(self.at)

    def close(self) -> None:
        self.closed = True


def test_every_job_is_done_once_and_told() -> None:
    crew, said, far = Scripted(), list[str](), list[float]()
    show = Show(lambda out, err: said.append(out), far.append)
    found = list(spread([job("a"), job("b"), job("c")], crew, show))
    assert [(o.job.name, o.state, o.seconds) for o in found] == [
        (name, "done", 1.5) for name in "abc"
    ]
    assert said == ["a", "b", "c"]
    assert far == [0.25, 1.25, 2.0]
    assert crew.closed


def test_the_job_of_a_lost_member_is_tried_again_and_given_up_in_the_end() -> None:
    crew = Scripted(a=["lost", "done"], b=["lost"] * MOST_TRIES)
    found = {o.job.name: o for o in spread([job("a"), job("b"), job("c")], crew, Show())}
    assert [crew.given.count(name) for name in "abc"] == [2, MOST_TRIES, 1]
    assert (found["a"].ok, found["c"].ok, found["b"].ok) == (True, True, False)
    assert found["b"].exit_code == 1
    assert "lost 3 times (the last ended by SIGKILL)" in found["b"].sentence


def test_what_is_closed_early_lets_its_members_go() -> None:
    crew = Scripted()
    outcomes = spread([job("a"), job("b"), job("c")], crew, Show())
    next(iter(outcomes))
    outcomes.close()  # type: ignore[attr-defined]
    assert crew.closed
    assert crew.given == ["a", "b"]


def test_jobs_travel_as_plain_values() -> None:
    told = job("a", n=3, x=0.5, words=["a", "b"], pair=(1, Path("p")), none=None, sets={"k": True})
    there = plain_job(told)
    assert there["options"]["pair"] == {"tuple:": [1, {"path:": "p"}]}
    assert job_of(there) == told
    failed = Outcome(told, "failed", 2.0, 4, "no good")
    assert outcome_of(plain_outcome(failed), told) == failed
    with pytest.raises(ConfigError, match="no plain value"):
        plain_job(job("a", odd=object()))


def test_work_is_found_by_its_name() -> None:
    assert work_named(name_of_work(chores.write)) is chores.write
    with pytest.raises(ConfigError, match="no function of a module"):
        name_of_work(lambda job: True)


@pytest.mark.parametrize(
    ("word", "address", "says"),
    [
        ("slurm", "", "--engine is here, processes:N"),
        ("processes", "", "needs a number"),
        ("processes:0", "", "got 'processes:0'"),
        ("ray:", "", "got 'ray:'"),
        ("here:2", "", "this process alone"),
        ("here", "host:6379", "add --engine ray"),
    ],
)
def test_words_that_name_no_engine_are_refused(word: str, address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        engine_named(word, address)


def test_the_engine_that_needs_nothing_is_this_process() -> None:
    assert engine_named("here") is in_process
