"""ISMRMRD files that are written: read by the format's own package, and again by this one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ismrmrd
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.mrd.mrd_write import write_acquisitions
from restore.datasets.open import open_scan, write
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.noncartesian import simulate_noncartesian
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Unplaced, Volume
from restore.errors import ConfigError

SLICES, ROWS, COLUMNS, COILS = 3, 16, 12, 2

PLACE = 1e-4
"""mm: files hold positions in single precision, of up to a hundred."""


def affine() -> np.ndarray:
    """Oblique voxels of 1.5 x 2 x 4 mm."""
    found = np.eye(4)
    found[:3, :3] = Rotation.from_euler("xyz", [20, 10, 30], degrees=True).as_matrix() * [1.5, 2, 4]
    found[:3, 3] = 10, -20, 30
    return found


def volume() -> Volume:
    found = head_phantom((SLICES, ROWS, COLUMNS))
    return dataclasses.replace(found, affine=affine(), header=None)


def placed(head: Any) -> np.ndarray:
    """RAS positions of the pixels (0, 0), (0, 1) and (1, 0) by an image's record."""
    spacing = [head.field_of_view[k] / head.matrix_size[k] for k in range(2)]
    steps = np.array([np.array(head.read_dir) * spacing[0], np.array(head.phase_dir) * spacing[1]])
    corner = (
        np.array(head.position) - np.array([head.matrix_size[k] // 2 for k in range(2)]) @ steps
    )
    return np.stack([corner, corner + steps[1], corner + steps[0]]) * [-1, -1, 1]


@pytest.mark.parametrize("kind", [np.float32, np.complex64])
def test_images_and_their_places(tmp_path: Path, kind: type):
    given = volume()
    data = given.data.astype(kind) * (1 if kind is np.float32 else 1j)
    write(given.with_data(data), tmp_path / "a.mrd", description="by <hand> & eye")
    with ismrmrd.Dataset(tmp_path / "a.mrd", create_if_needed=False) as file:
        images = [file.read_image("image_0", k) for k in range(file.number_of_images("image_0"))]
    assert [(image.slice, image.image_index) for image in images] == [(0, 1), (1, 2), (2, 3)]
    for k, image in enumerate(images):
        np.testing.assert_array_equal(image.data[0, 0].T, data[k])
        assert image.meta["ImageComment"] == "by <hand> & eye"
        corners = np.array([[0, 0, k, 1], [1, 0, k, 1], [0, 1, k, 1]]) @ affine().T
        np.testing.assert_allclose(placed(image.getHead()), corners[:, :3], atol=PLACE)
    assert images[0].image_type == (1 if kind is np.float32 else 5)


def test_images_without_a_place(tmp_path: Path):
    write(dataclasses.replace(volume(), header=Unplaced()), tmp_path / "a.mrd")
    with ismrmrd.Dataset(tmp_path / "a.mrd", create_if_needed=False) as file:
        head = file.read_image("image_0", 0).getHead()
    assert list(head.read_dir) == list(head.position) == [0, 0, 0]
    assert tuple(head.field_of_view) == (32, 18, 4)


def test_lines_of_slices_and_their_noise(tmp_path: Path):
    scan = simulate_mri(volume(), coils=COILS, acceleration=2, center_fraction=0.3)
    write_acquisitions(scan, tmp_path / "a.h5")
    with ismrmrd.Dataset(tmp_path / "a.h5", create_if_needed=False) as file:
        header = ismrmrd.xsd.CreateFromDocument(file.read_xml_header())
        count = file.number_of_acquisitions()
        first, last = file.read_acquisition(0), file.read_acquisition(count - 1)
    space = header.encoding[0].encodedSpace
    assert (space.matrixSize.x, space.matrixSize.y) == (ROWS, COLUMNS)
    assert header.acquisitionSystemInformation.receiverChannels == COILS
    assert first.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    assert last.is_flag_set(ismrmrd.ACQ_LAST_IN_MEASUREMENT)
    assert last.scan_counter == count - 1
    line = int(np.flatnonzero(scan.mask)[-1])
    np.testing.assert_array_equal(last.data, scan.kspace[SLICES - 1][..., line])
    found = open_scan(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.asarray(found.kspace), np.asarray(scan.kspace))
    np.testing.assert_array_equal(found.mask, scan.mask)
    np.testing.assert_allclose(found.affine, affine(), atol=PLACE)
    # Of 16 x 1024 samples of two coils: 0.4 % of the level, ten times that.
    assert found.noise_std == pytest.approx(scan.noise_std, rel=0.04)


@pytest.mark.parametrize("kind", ["radial:20", "spiral:3", "stars:9"])
def test_readouts_along_a_trajectory(tmp_path: Path, kind: str):
    pytest.importorskip("finufft")
    scan = simulate_noncartesian(volume(), kind, coils=COILS)
    write_acquisitions(scan, tmp_path / "a.h5")
    with ismrmrd.Dataset(tmp_path / "a.h5", create_if_needed=False) as file:
        header = ismrmrd.xsd.CreateFromDocument(file.read_xml_header())
        last = file.read_acquisition(file.number_of_acquisitions() - 1)
    word = kind.partition(":")[0]
    assert header.encoding[0].trajectory.value == ("other" if word == "stars" else word)
    # Single precision of half a cycle.
    order, sizes = ([1, 2, 0], [ROWS, COLUMNS, SLICES]) if scan.whole else ([0, 1], [ROWS, COLUMNS])
    np.testing.assert_allclose(last.traj * sizes, scan.points[-1][:, order], atol=1e-6 * ROWS)
    found = open_scan(tmp_path / "a.h5")
    np.testing.assert_array_equal(np.asarray(found.kspace), np.asarray(scan.kspace))
    assert found.matrix == scan.matrix
    np.testing.assert_allclose(found.points, scan.points, atol=1e-6 * ROWS)
    assert found.dwell_s == pytest.approx(5e-6)
    np.testing.assert_allclose(found.affine, affine(), atol=PLACE)


def test_lines_of_a_volume(tmp_path: Path):
    scan = simulate_mri_volume(volume(), coils=COILS, acceleration=2, center_fraction=0.5)
    write_acquisitions(scan, tmp_path / "a.h5")
    with ismrmrd.Dataset(tmp_path / "a.h5", create_if_needed=False) as file:
        header = ismrmrd.xsd.CreateFromDocument(file.read_xml_header())
    space = header.encoding[0].encodedSpace.matrixSize
    assert (space.x, space.y, space.z) == (ROWS, COLUMNS, SLICES)
    found = open_scan(tmp_path / "a.h5")
    assert isinstance(found, CartesianVolumeScan)
    np.testing.assert_array_equal(np.asarray(found.partitions), np.asarray(scan.partitions))
    np.testing.assert_array_equal(found.sampled, scan.sampled)
    np.testing.assert_allclose(found.affine, affine(), atol=PLACE)


def test_points_are_no_readouts(tmp_path: Path):
    scan = simulate_mri(volume(), coils=1, acceleration=2, center_fraction=0.3, mask="random2d")
    with pytest.raises(ConfigError, match="measured in points, and ISMRMRD holds whole readouts"):
        write_acquisitions(scan, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
