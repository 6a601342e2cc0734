"""`restore recon --report` of scans that tell no place, and of results in other formats than NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.datasets.open import open_scan, read
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.phantom import head_phantom
from restore.operators.mri.fourier import fft2c
from restore.pipelines.recon_options import ReconOptions
from restore.report.from_recon import study_of_recon


@pytest.fixture
def unplaced(tmp_path: Path) -> Path:
    """K-space of two slices as an array, which tells nothing of the patient."""
    head = torch.from_numpy(head_phantom((4, 24, 20)).data[1:3].astype(np.float32))
    kspace = fft2c(head[:, None] * torch.from_numpy(birdcage((24, 20), 3)))
    np.save(tmp_path / "k.npy", kspace.numpy().astype(np.complex64))
    return tmp_path / "k.npy"


@pytest.mark.parametrize("name", ["a.nii.gz", "series"])
def test_a_result_without_a_place_is_shown_voxel_by_voxel(unplaced, verb, tmp_path, name):
    out = tmp_path / name
    done = verb("recon", unplaced, "-o", out, "--sampler", "cgsense", "--report")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / f"{name.removesuffix('.nii.gz')}_report" / "index.html").is_file()
    study = study_of_recon(open_scan(unplaced), out, read_sidecar(out), ReconOptions())
    images = study.pages[0].load()
    shown = next(layer.image for layer in images.layers if layer.role == "method")
    np.testing.assert_array_equal(shown, read(out).data)
    assert images.affine is None


def test_a_placed_result_as_dicom_has_a_report(scans, verb, tmp_path):
    words = ("--sampler", "fbp", "--report")
    done = verb("recon", scans / "ct.h5", "-o", tmp_path / "series", *words)
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "series_report" / "index.html").is_file()


def test_a_stack_of_tiff_pages_is_refused_before_the_work(unplaced, verb, tmp_path):
    refused = verb("recon", unplaced, "-o", tmp_path / "a.tif", "--report")
    assert refused.exit_code == 2
    assert "--report reads the result back" in refused.stderr
    assert not (tmp_path / "a.tif").exists()
