"""`restore simulate mri --trajectory` and `restore recon` of what it wrote, from files to files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("finufft")


@pytest.mark.parametrize(
    ("trajectory", "sampler", "slices"),
    [("radial:30", "cgsense", "1:3"), ("spiral:6", "zerofilled", "2"), ("stars:30", "cgsense", "0:4")],
)  # fmt: skip
def test_there_and_back(
    wide_head: Path, verb, tmp_path: Path, trajectory: str, sampler: str, slices: str
):
    scan, out = tmp_path / "scan.h5", tmp_path / "out.nii.gz"
    made = verb(
        "simulate", "mri", wide_head, "-o", scan, "--trajectory", trajectory, "--slices", slices
    )
    assert made.exit_code == 0, made.stderr
    assert trajectory in made.stdout
    done = verb("recon", scan, "-o", out, "--sampler", sampler)
    assert done.exit_code == 0, done.stderr
    found, truth = nibabel.load(out), nibabel.load(wide_head)
    first, _, last = slices.partition(":")
    wanted = truth.get_fdata()[..., int(first) : int(last or int(first) + 1)]
    error = np.linalg.norm(found.get_fdata() - wanted) / np.linalg.norm(wanted)
    # Corners of k-space that no spoke reaches hold the edges of a phantom: 0.1 to 0.2 seen.
    assert error < 0.35
    np.testing.assert_allclose(found.affine[:3, 3], truth.affine[:3, 3] + [0, 0, 8 * int(first)])


def test_options_that_go_with_lines_alone(wide_head: Path, verb, tmp_path: Path):
    scan = tmp_path / "scan.h5"
    for option in (("--acceleration", 4), ("--mask", "random"), ("--as", "fastmri")):
        done = verb("simulate", "mri", wide_head, "-o", scan, "--trajectory", "radial:9", *option)
        assert done.exit_code == 2
        assert f"{option[0]} is for Cartesian k-space" in done.stderr
