"""Scans of a small made-up head, shared by the tests of the verbs; nobody may change them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import read
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom

SHAPE = (8, 36, 30)
SLICES = slice(1, 8, 3)
CODES = (4, 1)
"""sform and qform code of the volumes."""

Verb = Callable[..., Any]


def tilted_affine() -> np.ndarray:
    """Voxels of 4 x 5 x 12 mm, turned about x and moved."""
    c, s = np.cos(0.3), np.sin(0.3)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.diag([-4.0, -5.0, 12.0])
    affine[:3, 3] = 70, 110, -30
    return affine


def saved(data: np.ndarray, path: Path) -> Path:
    """A volume (z, y, x) as NIfTI in the tilted place, its codes set."""
    image = nibabel.Nifti1Image(data.T, tilted_affine())
    image.header.set_xyzt_units("mm")
    image.set_sform(tilted_affine(), code=CODES[0])
    image.set_qform(tilted_affine(), code=CODES[1])
    nibabel.save(image, path)
    return path


def plain_head(shape: tuple[int, int, int], path: Path) -> Path:
    """A head (z, y, x) as NIfTI, slices of 8 mm at right angles to the patient."""
    data = head_phantom(shape).data.astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), np.diag([6.0, 6, 8, 1])), path)
    return path


@pytest.fixture(scope="session")
def small_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 8 slices of 24 x 24."""
    return plain_head((8, 24, 24), tmp_path_factory.mktemp("small") / "head.nii.gz")


@pytest.fixture(scope="session")
def wide_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 4 slices of 32 x 32."""
    return plain_head((4, 32, 32), tmp_path_factory.mktemp("wide") / "head.nii.gz")


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with mr.nii.gz and ct.nii.gz and scans of their slices 1, 4, 7: mri.h5 and ct.h5."""
    folder = tmp_path_factory.mktemp("scans")
    mr = read(saved(head_phantom(SHAPE).data, folder / "mr.nii.gz"), modality="MR")
    ct = read(saved(ct_phantom(SHAPE).data, folder / "ct.nii.gz"), modality="CT")
    settings = {"coils": 4, "acceleration": 2, "center_fraction": 0.2, "slices": SLICES, "seed": 7}
    write_fastmri(simulate_mri(mr, mask="equispaced", **settings), folder / "mri.h5")
    write_ct_measurement(simulate_ct(ct, views=40, slices=SLICES), folder / "ct.h5")
    return folder


@pytest.fixture(scope="session")
def verb() -> Verb:
    """Run a verb in this process; every argument becomes text."""

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run
