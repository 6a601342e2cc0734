"""A list of jobs: in order, one failing aside, a setting that serves none ending it, weights read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from restore.errors import ConfigError, InputError, PartialFailure, RestoreError
from restore.many.jobs import Job
from restore.many.runner import in_process, raise_failures, run_jobs
from restore.priors import kept


def jobs(*names: str) -> list[Job]:
    return [Job("recon", name, Path(name), Path("out") / name, {"seed": 3}) for name in names]


def test_jobs_are_done_in_order_and_one_that_fails_is_aside():
    def work(job: Job) -> bool:
        if job.name == "b":
            raise InputError("b", "cut")
        if job.name == "d":
            raise ValueError("no such thing")
        return job.name != "c"

    heard: list[tuple[int, str]] = []
    found = run_jobs(
        jobs(*"abcd"), work, engine=in_process, tell=lambda n, o: heard.append((n, o.job.name))
    )
    assert [(o.job.name, o.state, o.exit_code) for o in found] == [
        ("a", "done", 0), ("b", "failed", 4), ("c", "done before", 0), ("d", "failed", 1)
    ]  # fmt: skip
    assert heard == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    assert "unexpected ValueError" in found[3].sentence
    with pytest.raises(PartialFailure, match="2 of 4 inputs failed: b, d; the others"):
        raise_failures(found)


def test_where_all_fail_the_last_ones_error_ends_the_list():
    def work(job: Job) -> bool:
        raise InputError(job.name, "cut")

    found = run_jobs(jobs("a", "b"), work, engine=in_process)
    with pytest.raises(RestoreError, match="b: cut") as raised:
        raise_failures(found)
    assert raised.value.exit_code == 4


def test_a_setting_that_serves_no_input_ends_the_list_after_three():
    tried: list[str] = []

    def work(job: Job) -> bool:
        tried.append(job.name)
        raise ConfigError("there is no sampler ddss")

    with pytest.raises(RestoreError, match="ddss") as raised:
        run_jobs(jobs(*"abcdef"), work, engine=in_process)
    assert raised.value.exit_code == 2
    assert len(tried) == 3


def test_an_interruption_passes():
    def work(job: Job) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs("a", "b"), work, engine=in_process)


def test_weights_are_read_once(monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(
        "restore.priors.store.load_prior", lambda name: read.append(name) or object()
    )

    def work(job: Job) -> bool:
        kept.loaded("medical")
        return True

    run_jobs(jobs(*"abc"), work, engine=in_process)
    assert read == ["medical"]
