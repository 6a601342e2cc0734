"""Volumes: selection of slices, and matching of two by where their voxels lie."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from restore.datasets.volume.volume import GeometryError, Volume, align_to
from restore.errors import ConfigError, ShapeError

AFFINE = np.array([[-1.2, 0.05, 0, 90], [0.04, 1.5, 0.1, -126], [0, -0.1, 2, -72], [0, 0, 0, 1.0]])


def volume(shape=(7, 6, 5), affine=AFFINE, **rest) -> Volume:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(data, affine, **rest)


def permuted(v: Volume, order, flips) -> Volume:
    """The same voxels with exchanged and reversed axes, as another program may store them.

    order: for each new axis (x, y, z) the old one.
    """
    by_axis = v.data.transpose(2, 1, 0).transpose(order)
    move = np.zeros((4, 4))
    move[3, 3] = 1
    for new, old in enumerate(order):
        move[old, new] = -1 if flips[new] else 1
        move[old, 3] += by_axis.shape[new] - 1 if flips[new] else 0
    by_axis = by_axis[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    return Volume(by_axis.transpose(2, 1, 0).copy(), v.affine @ move)


def test_selection_moves_the_affine():
    v = volume()
    for which in (
        slice(2, 6),
        slice(1, None, 3),
        slice(None, None, -2),
        [4],
        [-1],
        [0, 3, 6],
        (5, 3),
    ):
        part = v.select(which)
        picked = np.arange(7)[which if isinstance(which, slice) else list(which)]
        np.testing.assert_array_equal(part.data, v.data[picked])
        for k, z in enumerate(picked):
            np.testing.assert_allclose(part.affine @ [1, 2, k, 1], v.affine @ [1, 2, z, 1])


@pytest.mark.parametrize("which", [[], [0, 1, 3], [2, 2], [7], [-8], slice(5, 5), [0, 2, 1]])
def test_selection_refused(which):
    with pytest.raises(ConfigError, match="slice"):
        volume().select(which)


def test_spacing_and_new_data():
    v = volume(modality="MR", notes=("a",))
    np.testing.assert_allclose(v.spacing_mm, np.linalg.norm(AFFINE[:3, :3], axis=0))
    assert v.n_slices == 7
    other = v.with_data(v.data + 1j)
    assert other.data.dtype == np.complex64
    assert (other.modality, other.notes) == ("MR", ("a",))
    with pytest.raises(ShapeError):
        v.with_data(v.data[:3])


def test_a_volume_is_a_value():
    v = volume()
    with pytest.raises(FrozenInstanceError):
        v.units = "HU"
    with pytest.raises(ValueError, match="read-only"):
        v.affine[0, 0] = 3
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(v)).data, v.data)  # noqa: S301


def test_refused_values():
    with pytest.raises(ShapeError):
        Volume(np.zeros((3, 3), np.float32), AFFINE)
    with pytest.raises(ShapeError):
        Volume(np.zeros((3, 0, 3), np.float32), AFFINE)
    with pytest.raises(ConfigError, match="int16"):
        Volume(np.zeros((3, 3, 3), np.int16), AFFINE)
    with pytest.raises(ConfigError, match="modality"):
        volume(modality="PET")
    for bad in (np.zeros((4, 4)), np.full((4, 4), np.nan), AFFINE + np.eye(4)):
        with pytest.raises(GeometryError, match="affine"):
            volume(affine=bad)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 1)])
def test_align_undoes_flips_and_exchanged_axes(order, flips):
    reference = volume(modality="CT", units="HU")
    other = permuted(reference, order, flips)
    aligned = align_to(other, reference)
    np.testing.assert_array_equal(aligned.data, other.data)
    assert (aligned.modality, aligned.units) == ("CT", "HU")
    np.testing.assert_array_equal(align_to(reference, other).data, reference.data)


def test_align_to_blocks_and_selections():
    reference = volume()
    for part in (reference.select([5]), reference.select(slice(1, 6, 2)), reference.select([4, 1])):
        np.testing.assert_array_equal(align_to(part, reference).data, part.data)
        turned = permuted(part, (1, 0, 2), (1, 0, 0))
        np.testing.assert_array_equal(align_to(turned, reference).data, turned.data)
    corner = AFFINE.copy()
    corner[:3, 3] = (AFFINE @ [2, 1, 3, 1])[:3]
    block = Volume(reference.data[3:5, 1:4, 2:5].copy(), corner)
    np.testing.assert_array_equal(align_to(block, reference).data, block.data)


def test_one_slice_of_another_thickness():
    reference = volume()
    affine = reference.select([3]).affine.copy()
    affine[:3, 2] *= 0.3
    part = Volume(reference.data[3:4], affine)
    np.testing.assert_array_equal(align_to(part, reference).data, part.data)


def test_rounding_of_single_precision_is_no_difference():
    reference = volume()
    rounded = Volume(reference.data, reference.affine.astype(np.float32))
    np.testing.assert_array_equal(align_to(rounded, reference).data, reference.data)


def moved(change) -> Volume:
    affine = AFFINE.copy()
    change(affine)
    return volume(affine=affine)


def rotate(affine, degrees=1.0):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]


def scale(affine, factor):
    affine[:3, :3] *= factor


def move(affine, voxels):
    affine[:3, 3] += voxels * affine[:3, 0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda a: move(a, 0.3), "shifted by"),
        (lambda a: move(a, -3), "outside the reference"),
        (lambda a: scale(a, 1.1), "no whole multiple"),
        (lambda a: scale(a, 0.5), "no whole multiple"),
        (lambda a: scale(a, 2), "outside the reference"),
        (rotate, "turned by up to 1 degrees"),
    ],
)
def test_align_says_what_differs(change, sentence):
    with pytest.raises(GeometryError, match=sentence):
        align_to(moved(change), volume())


def test_import_is_light():
    code = (
        "import sys, restore.datasets.volume.volume, restore.datasets.open\n"
        "heavy = {'torch', 'pydicom', 'nibabel', 'PIL'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
