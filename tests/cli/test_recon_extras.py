"""`restore recon` with optional packages: ASTRA's projector."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.open import read, write
from restore.datasets.sidecar import read_sidecar
from restore.datasets.simulate.phantom import ct_phantom


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
