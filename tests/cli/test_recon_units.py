"""`restore recon` of CT into other units and into TIFF."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from restore.datasets.open import read

ONCE = ("--sampler", "fbp")
ROUNDED = 1e-4  # HU and 1/mm are float32: 1000 HU are a whole mu_water, to 1e-7 of a few thousand


def test_units_of_ct_and_a_stack_of_tiff(verb, scans, tmp_path):
    """HU of a water that is told, and 1/mm of which they are made, as NIfTI and as TIFF."""
    runs = {
        "hu.nii": ("--mu-water", 0.02), "mu.nii": ("--units", "1/mm"), "mu_too.tif": ("--units", "1/mm"),
    }  # fmt: skip
    for name, options in runs.items():
        done = verb("recon", scans / "ct.h5", "-o", tmp_path / name, *ONCE, *options)
        assert done.exit_code == 0, done.stderr
    hu, mu = (read(tmp_path / name, modality="CT") for name in ("hu.nii", "mu.nii"))
    np.testing.assert_allclose(hu.data, 1000 * (mu.data / 0.02 - 1), atol=1000 * ROUNDED)
    record = json.loads((tmp_path / "mu.json").read_text())
    assert record["image"]["units"] == "1/mm"
    np.testing.assert_allclose(record["image"]["affine"], mu.affine)
    with tifffile.TiffFile(tmp_path / "mu_too.tif") as stack:
        page = stack.pages[0]
        assert page.dtype == np.float32
        assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        np.testing.assert_allclose([10 / r for r in page.resolution], mu.spacing_mm[:2])
        told = json.loads(page.description)
        np.testing.assert_array_equal(stack.asarray(key=slice(None)), mu.data)
    assert told["units"] == "1/mm"
    np.testing.assert_allclose(told["spacing_mm"], mu.spacing_mm[::-1])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ct.h5", ("--units", "cm"), "units 'cm': images of CT come in HU or 1/mm"),
        ("ct.h5", ("--mu-water", -1), "mu_water is -1.0, expected"),
        ("mri.h5", ("--units", "HU"), "--units and --mu-water are for CT"),
        ("ct.h5", ("--grid", "9x9@1"), "grid is for"),
    ],
)
def test_units_that_mean_nothing_are_refused(verb, scans, tmp_path, name, options, words):
    refused = verb("recon", scans / name, "-o", tmp_path / "a.nii", *options)
    assert refused.exit_code == 2
    assert words in refused.stderr
