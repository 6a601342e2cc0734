"""Time limits with a clock of the test's own: where runs end, how samples share, what is said of it."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.diagonal import Identity
from restore.priors.base import Denoiser
from restore.problem import Step
from restore.samplers.dds import DDS
from restore.samplers.split import Split
from restore.time_limit import Pace, TimeLimit, limit_notes, limit_record, was_ended

SIDE = 8
ONE = Identity((SIDE, SIDE))
Y = torch.linspace(0, 1, SIDE * SIDE).reshape(SIDE, SIDE)
TEN = DDS(n_steps=10)


@dataclasses.dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(Denoiser):
    """A network that takes a second, and is not tried before the work."""

    foreign = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.clock.now += 1
        return 0.9 * x


def limited(seconds: float, **how):
    clock = Clock()
    limit = TimeLimit.starting(seconds, clock)
    return solve(Y, ONE, noise=0.1, prior=Slow(clock), time_limit=limit, **how), clock.now


def test_parts_share_what_is_left():
    clock = Clock(5)
    limit = TimeLimit.starting(12, clock)
    assert limit.end == 17
    clock.now = 8
    assert limit.share(1, 3) == TimeLimit(12, 11, clock)
    clock.now = 20
    assert limit.share(1, 2).end == 20


def test_the_quickest_step_says_whether_another_would_be_done():
    clock = Clock()
    pace = Pace(TimeLimit.starting(10, clock))
    found = []
    for taken in (6, 1, 2, 0.5):  # set-up in the first
        clock.now += taken
        found.append(pace.over())
    assert found == [False, False, False, False]
    clock.now += 0.1
    assert not pace.over()
    clock.now += 0.35
    assert pace.over()


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, True, "3"])
def test_a_limit_is_a_number_above_zero(seconds):
    with pytest.raises(ConfigError, match="seconds above 0"):
        solve(Y, ONE, noise=0.1, prior=None, sampler="nlm", time_limit=seconds)


def test_a_run_ends_with_the_estimate_of_then():
    seen: list[Step] = []
    result, took = limited(4.5, sampler=TEN, on_step=seen.append)
    assert (took, len(seen)) == (4, 4)
    assert torch.equal(result.image, seen[-1].x0)
    assert result.ends[0]["ended_after"] == [4, 10]
    [note] = [n for n in result.notes if "time limit" in n]
    assert "4.5 s ended dds after step 4 of 10" in note
    assert "n_steps=4" in note
    assert "cannot be repeated" in note
    assert result.provenance["time_limit"] == {
        "seconds": 4.5, "ended": 1, "of": 1, "repeatable": False,
    }  # fmt: skip


def test_enough_time_changes_nothing():
    result, _ = limited(10.5, sampler=TEN)
    plain = solve(Y, ONE, noise=0.1, prior=Slow(Clock()), sampler=TEN)
    assert torch.equal(result.image, plain.image)
    assert result.notes == plain.notes
    assert result.provenance["time_limit"]["repeatable"] is True
    assert "time_limit" not in plain.provenance


def test_no_time_leaves_the_first_step_of_every_sample():
    result, took = limited(1e-9, sampler=TEN, samples=3)
    assert took == 3
    assert [end["ended_after"] for end in result.ends] == [[1, 10]] * 3


def test_samples_share_the_time():
    """What one leaves, the others get: 12.5 s are 4.17, then 8.5 / 2, then 4.5 seconds."""
    result, took = limited(12.5, sampler=TEN, samples=3)
    assert took == 12
    assert [end["ended_after"] for end in result.ends] == [[4, 10]] * 3


def test_runs_for_the_mean_have_their_share_and_are_told():
    result, took = limited(9.5, sampler=Split(n_steps=5), samples=2)
    assert took <= 9.5
    assert [end["ended_after"] for end in result.ends] == [[3, 5]] * 2
    assert {tuple(end["centre_ended_after"]) for end in result.ends} == {(3, 30)}
    [note] = [n for n in result.notes if "time limit" in n]
    assert "split in 2 of 2 runs after step 3 of 5" in note
    assert "the runs whose mean is taken" in note


def test_what_is_said_of_many_parts():
    ends = [{"ended_after": [3, 9]}, {}, {"ended_after": [5, 9]}]
    assert was_ended(ends)
    assert not was_ended(ends[1:2])
    assert limit_record(7.0, ends) == {"seconds": 7.0, "ended": 2, "of": 3, "repeatable": False}
    [note] = limit_notes(7.0, "dds", {"n_steps": 9}, ends)
    assert "dds in 2 of 3 runs after steps 3 to 5 of 9" in note
    assert limit_notes(7.0, "dds", {"n_steps": 9}, ends[1:2]) == []
