"""`restore recon --trajectory-map`: a file beside OUT, in record and report, replaced and repeated as others."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from restore.datasets.open import read
from restore.datasets.sidecar import read_sidecar


def test_a_map_beside_the_result(scans: Path, verb, tmp_path: Path, monkeypatch) -> None:
    out, moved = tmp_path / "o.nii.gz", tmp_path / "o_trajectory.nii.gz"
    how = ("recon", scans / "ct.h5", "-o", out, "--sampler", "tv", "--steps", 6)
    done = verb(*how, "--trajectory-map", "--report")
    assert done.exit_code == 0, done.stderr
    image, found = read(out, modality="CT"), read(moved, modality="CT")
    np.testing.assert_array_equal(image.affine, found.affine)
    assert found.data.min() >= 0
    assert found.data.max() > 0
    assert read_sidecar(out)["outputs"] == ["o.nii.gz", "o_trajectory.nii.gz"]
    page = next((tmp_path / "o_report").glob("**/index.html")).read_text(encoding="utf-8")
    assert "trajectory map" in page
    assert list((tmp_path / "o_report").glob("**/*-trajectory.png"))
    monkeypatch.chdir(scans)  # where the record's files are looked for: not every folder beside is
    repeated = verb("recon", "--config", tmp_path / "o.json", "-o", tmp_path / "p.nii.gz")
    assert repeated.exit_code == 0, repeated.stderr
    assert (tmp_path / "p_trajectory.nii.gz").read_bytes() == moved.read_bytes()
    without = verb(*how, "--overwrite")
    assert "o_trajectory.nii.gz, of the earlier job, was removed" in without.stderr
    assert not moved.exists()
