"""The option --engine of verbs: who does the inputs, what is told of it, the same bits whoever it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.many.engines import named, processes
from restore.many.engines.crew import Show
from restore.many.engines.member import Member
from restore.many.engines.plain import job_of, name_of_work, outcome_of, plain_job
from restore.many.jobs import Job, Outcome
from restore.many.runner import Work

QUICK = ["--sampler", "zerofilled"]
SAME = 5e-5
"""Of the largest value: processes may have other numbers of threads, which round otherwise; the promise."""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for seed, name in enumerate("ab"):
        scan = simulate_mri(
            head_phantom((2, 32, 32)), coils=2, acceleration=2, center_fraction=0.3, seed=seed
        )
        write_fastmri(scan, folder / f"{name}.h5")
    return folder


class OneMember:
    """An engine like that of processes, its only member in this one."""

    def __init__(self, size: int, show: Show) -> None:
        self.size, self.show = size, show

    def __call__(self, jobs: Sequence[Job], work: Work) -> Iterator[Outcome]:
        member = Member(name_of_work(work))
        for job in jobs:
            told = member.do(plain_job(job_of(plain_job(job))))
            self.show.said(told["out"], told["err"])
            yield outcome_of(told["outcome"], job)


def test_inputs_are_done_by_the_engine_that_is_named(scans, verb, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ProcessEngine", OneMember)
    there, here = tmp_path / "there", tmp_path / "here"
    run = verb("recon", scans, "-o", there, *QUICK, "--engine", "processes:2")
    assert run.exit_code == 0, run.stderr
    assert "a.nii.gz: 2 slices by zerofilled" in run.stdout
    assert "[2/2] b.h5: done" in run.stderr
    assert verb("recon", scans, "-o", here, *QUICK).exit_code == 0
    for name in "ab":
        assert (there / f"{name}.nii.gz").read_bytes() == (here / f"{name}.nii.gz").read_bytes()
    alone = verb("recon", scans / "a.h5", "-o", tmp_path / "c.nii.gz", *QUICK, "--engine", "processes:2")  # fmt: skip
    assert alone.exit_code == 0, alone.stderr
    assert "c.nii.gz: 2 slices by zerofilled" in alone.stdout
    refused = verb("recon", scans / "a.h5", "-o", tmp_path / "d.nii.gz", "--engine", "processes:2",
                   "--sampler", "fbp")  # fmt: skip
    assert refused.exit_code == 2
    assert "fbp" in refused.stderr


def test_words_of_engines_are_checked_before_any_work(scans, verb, tmp_path):
    run = verb("recon", scans, "-o", tmp_path / "x", *QUICK, "--engine", "slurm")
    assert (run.exit_code, named.WORDS in run.stderr) == (2, True)
    run = verb("recon", scans / "a.h5", "-o", tmp_path / "x.nii.gz", *QUICK, "--address", "a:1")
    assert (run.exit_code, "add --engine ray" in run.stderr) == (2, True)
    assert not list(tmp_path.glob("x*/*"))


@pytest.mark.slow
def test_two_processes_make_the_same_images(scans, verb, tmp_path):
    noisy = ["--sampler", "dds", "--steps", 2, "--seed", 5, "--precision", "float32"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert verb("recon", scans, "-o", here, *noisy).exit_code == 0
    run = verb("recon", scans, "-o", there, *noisy, "--engine", "processes:2")
    assert run.exit_code == 0, run.stderr
    for name in "ab":
        one, other = (read(folder / f"{name}.nii.gz").data for folder in (here, there))
        assert np.abs(one - other).max() <= SAME * np.abs(one).max()
