"""`--time-limit` from command to record: the step is told, the result calls itself unrepeatable, nothing is left out.

Limits of a nanosecond, which every clock passes within the first step.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from restore.datasets.open import read
from restore.datasets.picture.images import write_image
from restore.datasets.sidecar import read_sidecar
from restore.report.from_recon import chunks_table

SOON = ("--time-limit", "1e-9")


def told(text: str) -> str:
    return " ".join(text.split())


def test_a_scan(scans: Path, verb, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "o.nii.gz"
    how = ("recon", scans / "ct.h5", "-o", out, "--steps", 6, "--prior", "medical")
    done = verb(*how, *SOON)
    assert done.exit_code == 0, done.stderr
    assert "ended dds" in told(done.stderr)
    assert "of 6, with the estimate of then" in told(done.stderr)
    record = read_sidecar(out)
    chunks = record["chunks"]
    assert {tuple(chunk["ended_after"]) for chunk in chunks} == {(1, 6)}
    assert sum(len(chunk["slices"]) for chunk in chunks) == read(out, modality="CT").n_slices
    assert record["time_limit"] == {
        "seconds": 1e-9, "ended": len(chunks), "of": len(chunks), "repeatable": False,
    }  # fmt: skip
    assert chunks_table(record).rows[0][-1].text == "1 of 6"
    again = verb(*how, *SOON)
    assert "already done" in again.stdout
    other = verb(*how)
    assert other.exit_code == 5  # without a limit it is another job
    monkeypatch.chdir(scans)  # where the record's files are looked for: not every folder beside is
    repeated = verb("recon", "--config", tmp_path / "o.json", "-o", tmp_path / "p.nii.gz")
    assert repeated.exit_code == 0, repeated.stderr
    assert "may end elsewhere" in told(repeated.stderr)
    assert read_sidecar(tmp_path / "p.nii.gz")["time_limit"]["ended"] == len(chunks)


def test_a_limit_that_ends_nothing_need_not_be_repeated(scans: Path, verb, tmp_path: Path) -> None:
    out = tmp_path / "o.nii.gz"
    done = verb("recon", scans / "ct.h5", "-o", out, "--sampler", "fbp", "--time-limit", 100_000)
    assert done.exit_code == 0, done.stderr
    assert "time limit" not in done.stderr
    record = read_sidecar(out)
    assert record["time_limit"]["repeatable"] is True
    assert "time-limit" not in record["run"]


def test_a_picture_and_its_interval(verb, tmp_path: Path) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "o.png"
    write_image(np.linspace(0.2, 0.8, 256, dtype=np.float32).reshape(1, 16, 16), photo)
    how = ("--task", "superres", "--factor", 2, "--noise", 0.02, "--samples", 4)
    done = verb("image", photo, "-o", out, *how, *SOON)
    assert done.exit_code == 0, done.stderr
    record = read_sidecar(out)
    assert record["time_limit"]["ended"] == 4
    assert record["interval"]["calibrated"] is False
    assert record["run"]["time-limit"] == 1e-9
    assert "ended split in 4 of 4 runs after step 1 of" in told(done.stderr)


def test_a_volume(small_head: Path, verb, tmp_path: Path) -> None:
    out = tmp_path / "o.nii.gz"
    how = ("--task", "denoise", "--sampler", "dds", "--steps", 4, "--modality", "MR")
    done = verb("volume", small_head, "-o", out, *how, *SOON)
    assert done.exit_code == 0, done.stderr
    record = read_sidecar(out)
    assert record["time_limit"]["repeatable"] is False
    assert record["chunks"][0]["ended_after"] == [1, 4]
    assert "after step 1 of 4" in told(done.stderr)


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "inf"])
def test_what_is_no_time(scans: Path, verb, tmp_path: Path, seconds: str) -> None:
    done = verb("recon", scans / "ct.h5", "-o", tmp_path / "o.nii.gz", "--time-limit", seconds)
    assert done.exit_code == 2
    assert "time" in done.stderr
