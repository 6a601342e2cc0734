"""`restore recon` with optional packages: ASTRA's projector."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.open import read, write
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import ct_phantom
from restore.pipelines.evaluate import evaluate_volume


def test_astra_projects_a_sinogram(verb, tmp_path):
    """TV through either projector: the same image to the rounding of single precision, carried through 15 steps."""
    pytest.importorskip("astra")
    write(ct_phantom((1, 40, 40)), tmp_path / "ct.nii.gz")
    scan = tmp_path / "ct.h5"
    assert verb("simulate", "ct", tmp_path / "ct.nii.gz", "-o", scan, "--views", 30).exit_code == 0
    images = {}
    for projector in ("own", "astra"):
        out = tmp_path / f"{projector}.nii.gz"
        options = ["--sampler", "tv", "--steps", 15, "--projector", projector]
        result = verb("recon", scan, "-o", out, *options)
        assert result.exit_code == 0, result.stderr
        assert read_sidecar(out)["options"]["projector"] == projector
        images[projector] = read(out).data
    # 0.05 HU seen, of a range of some 2000.
    assert np.abs(images["astra"] - images["own"]).max() < 1
    assert not np.array_equal(images["astra"], images["own"])


def test_a_projector_that_cannot_be(scans, verb, tmp_path):
    for kind, projector, words in (
        ("mri", "astra", "projector='astra' means nothing for a MR scan"),
        ("ct", "astra", "ASTRA takes square pixels only"),
        ("ct", "gpu", "projector must be one of 'auto', 'own', 'astra', got 'gpu'"),
    ):
        out = tmp_path / "out.nii.gz"
        result = verb("recon", scans / f"{kind}.h5", "-o", out, "--projector", projector)
        assert result.exit_code == 2
        assert words in result.stderr
        assert not out.exists()


@pytest.mark.parametrize(
    "sampler", ["sigpy-wavelet", pytest.param("sigpy-jsense", marks=pytest.mark.slow)]
)
def test_sigpys_reconstructions_by_their_names(scans, verb, tmp_path, sampler):
    pytest.importorskip("sigpy")
    truth = read(scans / "mr.nii.gz", modality="MR")
    out = tmp_path / "out.nii.gz"
    options = ["--sampler", sampler, "--set", "max_iter=20", "--set", "lamda=0.002"]
    result = verb("recon", scans / "mri.h5", "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    record = read_sidecar(out)["sampler"]
    assert (record["name"], record["lamda"], record["max_iter"]) == (sampler, 0.002, 20)
    zero_filled = tmp_path / "zero.nii.gz"
    verb("recon", scans / "mri.h5", "-o", zero_filled, "--sampler", "zerofilled")
    better = evaluate_volume(read(out), truth).psnr - evaluate_volume(read(zero_filled), truth).psnr
    assert better > 0.5, better
    ct = verb("recon", scans / "ct.h5", "-o", tmp_path / "ct.nii.gz", "--sampler", sampler)
    assert ct.exit_code == 2
    assert f"{sampler}" in ct.stderr


def test_the_list_says_that_an_extra_is_needed(verb):
    shown = verb("list", "samplers").stdout
    for name in ("sigpy-wavelet", "sigpy-jsense"):
        (line,) = [line for line in shown.splitlines() if line.startswith(name)]
        assert "pip install 'restore[sigpy]'" in line
