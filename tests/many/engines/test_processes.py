"""Jobs in processes of their own, one of which is killed at work."""

from __future__ import annotations

import logging
from pathlib import Path

import chores
import pytest

from restore.many.engines.crew import Show
from restore.many.engines.named import engine_named
from restore.many.jobs import Job
from restore.many.runner import run_jobs

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_jobs_of_two_processes_one_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(TESTS.parent)
    monkeypatch.setenv("PYTHONPATH", f"{root}:{TESTS}")
    marks = tmp_path / "marks"
    marks.mkdir()
    said = list[tuple[str, str]]()
    show = Show(lambda out, err: said.append((out, err)))
    more = {"a": {"dies": 1}, "b": {"fails": True}}
    jobs = [
        Job("x", n, Path(n), tmp_path / n, {"text": n * 3, "marks": marks} | more.get(n, {}))
        for n in "abcd"
    ]
    with caplog.at_level(logging.WARNING, "restore"):
        found = run_jobs(jobs, chores.write, engine=engine_named("processes:2", show=show))
    assert [(o.job.name, o.state, o.exit_code) for o in found] == [
        ("a", "done", 0), ("b", "failed", 4), ("c", "done", 0), ("d", "done", 0)
    ]  # fmt: skip
    assert found[1].sentence == "b: is no good (take another)"
    assert [(tmp_path / n).read_text() for n in "acd"] == ["aaa", "ccc", "ddd"]
    assert "a: its worker was lost (ended by SIGKILL): it is tried again" in caplog.text
    assert sorted(said) == [("", ""), *[(f"done {n}\n", f"note: {n}\n") for n in "acd"]]
    tries = {mark.name.split("-")[2] for mark in marks.glob("a-*")}
    assert len(tries) == 2  # the killed one, and another
