"""The made-up head: repeatable, plausible intensities, in one place whatever the number of voxels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from restore.datasets.simulate.phantom import SHAPE, ct_phantom, head_phantom
from restore.errors import ConfigError

TISSUE = 0.15  # the means over tissue and its smooth shading
CT_TISSUE = 15  # HU: the spread that the phantom gives brain tissue
SINGLE = 1e-4  # an affine in float32, of up to 100 mm
FIELD = 0.06  # the head's share of the field of view

SMALL = (12, 64, 56)


def test_the_seed_alone_decides():
    first = head_phantom(SMALL, seed=3)
    np.testing.assert_array_equal(first.data, head_phantom(SMALL, seed=3).data)
    other = head_phantom(SMALL, seed=4)
    assert 0.01 < np.mean(np.abs(first.data - other.data)) / np.mean(first.data) < 0.5


def test_mr_tissues():
    head = head_phantom()
    assert head.data.shape == SHAPE
    assert head.data.dtype == np.float32
    assert head.modality == "MR"
    assert head.data.min() >= 0
    assert head.data[:, :8].max() < 30
    white = head.data[10, 88:92, 46:50]
    assert white.mean() == pytest.approx(690, rel=TISSUE)
    # Fluid, grey and white matter make up the middle; none is missing.
    middle = head.data[9, 40:120, 45:115]
    shares = [np.mean((middle > a) & (middle < b)) for a, b in ((80, 250), (380, 580), (600, 850))]
    assert min(shares) > 0.03


def test_ct_tissues():
    head = ct_phantom(SMALL)
    assert (head.modality, head.units) == ("CT", "HU")
    assert head.data.min() == -1000
    assert np.median(head.data[:, :3]) == -1000
    assert 1000 < head.data.max() < 2000
    assert head.data[4, 28:36, 24:32].mean() == pytest.approx(32, abs=CT_TISSUE)


def test_more_voxels_show_the_same_field():
    for shape in (SMALL, (24, 128, 112)):
        head = head_phantom(shape)
        spacing = np.array(head.spacing_mm) * shape[::-1]
        np.testing.assert_allclose(spacing, (208, 208, 112))
        inside = head.data > 100
        assert inside.mean() == pytest.approx(0.34, abs=FIELD)
        middle = head.affine[:3] @ [(shape[2] - 1) / 2, (shape[1] - 1) / 2, 0, 1]
        np.testing.assert_allclose(middle, (0, 0, -14), atol=SINGLE)


def test_neighbouring_slices_belong_together():
    data = head_phantom(SHAPE).data[6:14]
    for a, b in pairwise(data):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.85


@pytest.mark.parametrize("shape", [(4, 5), (0, 8, 8), (1, 2, 3, 4)])
def test_shapes_that_cannot_be(shape):
    with pytest.raises(ConfigError, match="phantom"):
        head_phantom(shape)
    with pytest.raises(ConfigError, match="phantom"):
        ct_phantom(shape)


def test_one_slice():
    assert head_phantom((1, 32, 32)).data.shape == (1, 32, 32)
    assert np.isfinite(ct_phantom((1, 32, 32)).data).all()
