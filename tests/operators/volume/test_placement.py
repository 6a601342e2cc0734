"""Placement: values against scipy, the transpose, nibabel's geometry, what is refused."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from nibabel.processing import resample_from_to
from scipy.ndimage import affine_transform

from restore.errors import ConfigError, ShapeError
from restore.operators.base import dense
from restore.operators.volume import placement
from restore.operators.volume.placement import Placement
from restore.operators.volume.slice_stacks import Grid
from tests.slab_ellipsoids import rotation

DOUBLE = 1e-12  # float64: places go to -1..1 and back, times differences of about 4; 1e-14 seen


def volume(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_values_are_scipys():
    """Where all eight neighbours are voxels; beyond, scipy's constant does not fade as ours does."""
    op = Placement.example(torch.Generator())
    x = volume(*op.in_shape)
    matrix = np.array(op.matrix)
    wanted = affine_transform(
        x.numpy(), matrix[:, :3], matrix[:, 3], op.size, order=1, mode="constant"
    )
    index = np.stack(np.meshgrid(*map(np.arange, op.size), indexing="ij"))
    at = np.einsum("ab,bkij->akij", matrix[:, :3], index) + matrix[:, 3, None, None, None]
    inside = ((at >= 0) & (at <= np.array(op.shape)[:, None, None, None] - 1)).all(0)
    assert 10 < inside.sum() < inside.size
    np.testing.assert_allclose(op(x).numpy()[inside], wanted[inside], atol=DOUBLE)


def test_the_adjoint_is_the_transpose_in_parts_too(monkeypatch: pytest.MonkeyPatch):
    op = Placement.example(torch.Generator())
    matrix = dense(op.to(torch.float64))
    eye = torch.eye(op(volume(*op.in_shape)).numel(), dtype=torch.float64)
    whole = op.adjoint(eye.reshape(-1, *op.out_shape)).reshape(len(eye), -1)
    monkeypatch.setattr(placement, "_POINTS_AT_ONCE", 31)  # one slice of 30 at a time
    x = volume(*op.in_shape)
    in_parts = op.adjoint(eye.reshape(-1, *op.out_shape)).reshape(len(eye), -1)
    np.testing.assert_allclose(whole.numpy(), matrix.numpy(), atol=1e-6)  # of float32 weights
    np.testing.assert_allclose(in_parts.numpy(), whole.numpy(), atol=DOUBLE)
    np.testing.assert_allclose(op(x).flatten().numpy(), (whole @ x.flatten()).numpy(), atol=DOUBLE)


def test_places_are_nibabels():
    """A turned, shifted, wider grid, both with affines: nibabel resamples to the same values."""
    x = volume(9, 8, 7)
    here = np.diag([1.1, 1.2, 1.3, 1.0])
    here[:3, 3] = (-4, -5, -6)
    there = np.eye(4)
    there[:3, :3] = rotation(0.2, -0.3, 0.4) * [1.4, 1.0, 0.9]
    there[:3, 3] = (-3, -4, -2.5)
    grid, seen = Grid(here, (9, 8, 7)), Grid(there, (6, 5, 4))
    rows = tuple(tuple(map(float, row)) for row in seen.to_index_of(grid))
    found = Placement(grid.shape, seen.shape, rows)(x).numpy()
    image = nibabel.Nifti1Image(x.numpy().T, here)
    wanted = resample_from_to(image, (seen.shape[::-1], there), order=1).get_fdata().T
    index = seen.to_index_of(grid) @ np.vstack(
        [np.indices(seen.shape).reshape(3, -1), np.ones(120)]
    )
    inside = (
        ((index >= 0) & (index <= np.array(grid.shape)[:, None] - 1)).all(0).reshape(seen.shape)
    )
    assert inside.sum() > 20
    np.testing.assert_allclose(found[inside], wanted[inside], atol=DOUBLE)


def test_refusals():
    good = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))
    with pytest.raises(ShapeError, match="two \\(D, H, W\\)"):
        Placement((3, 4), (3, 4, 5), good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="finite"):
        Placement((3, 4, 5), (3, 4, 5), (*good[:2], (0.0, 0.0, float("nan"), 0.0)))
