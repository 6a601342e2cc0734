"""`restore recon` of a scanner's files: what is read beside the named file counts, and where the result lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from restore.datasets.open import read

DATA = Path(__file__).parents[1] / "data"
FEW = ("--sampler", "cgls", "--set", "n_steps=4", "--grid", "6x10x8@3")
ROUNDED = 0.51  # of a step of the 16 bits that DICOM stores


@pytest.fixture
def rtk(tmp_path: Path) -> tuple[Path, ...]:
    """A geometry and its projections, which may be changed."""
    names = ("rtk_circle.xml", "rtk_circle.mha")
    return tuple(Path(shutil.copy(DATA / name, tmp_path)) for name in names)


def test_a_cone_lies_in_the_scanners_axes_whatever_the_format(verb, rtk, tmp_path):
    """The sphere at (2, 3, 1) in x, y, z, by NIfTI and by DICOM."""
    found = []
    for out in (tmp_path / "a.nii", tmp_path / "series"):
        done = verb("recon", rtk[0], "--projections", rtk[1], "-o", out, *FEW)
        assert done.exit_code == 0, done.stderr
        volume = read(out, modality="CT") if out.is_file() else read(out)
        weight = np.maximum(volume.data + 1000, 0)
        weight[weight < 0.5 * weight.max()] = 0
        index = np.stack(np.meshgrid(*map(np.arange, volume.data.shape), indexing="ij"), -1)[
            ..., ::-1
        ]
        middle = (index * weight[..., None]).sum((0, 1, 2)) / weight.sum()
        place = volume.affine @ [*middle, 1]
        np.testing.assert_allclose(place[:3], (2, 3, 1), atol=1.5)  # half a voxel of 3 mm
        found.append(volume)
    nifti, dicom = found
    assert dicom.units == "HU"
    np.testing.assert_allclose(sorted(dicom.spacing_mm), sorted(nifti.spacing_mm))
    step = np.ptp(nifti.data) / 65534
    np.testing.assert_allclose(
        np.sort(dicom.data, None), np.sort(nifti.data, None), atol=ROUNDED * step
    )


def test_other_projections_are_another_job(verb, rtk, tmp_path):
    words = ("recon", rtk[0], "--projections", rtk[1], "-o", tmp_path / "a.nii", "--sampler", "fdk")
    assert verb(*words).exit_code == 0
    assert "already done" in verb(*words).stdout
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["beside"]["Files"] == 1
    assert {s["Option"]: s["File"] for s in record["sources"]}["projections"] == rtk[1].name
    shutil.copy(DATA / "rtk_free.mha", rtk[1])
    refused = verb(*words)
    assert refused.exit_code != 0
    assert "is not the result of this job" in refused.stderr


def test_projections_are_for_a_geometry(verb, rtk, scans, tmp_path):
    refused = verb("recon", scans / "ct.h5", "--projections", rtk[1], "-o", tmp_path / "a.nii")
    assert refused.exit_code == 2
    assert "projections is for RTK geometry" in refused.stderr
