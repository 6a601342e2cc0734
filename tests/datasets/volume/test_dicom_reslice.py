"""Headers of thinner slices: positions, thickness and spacing as a reader finds them again, the rest as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from restore.datasets.open import read, write
from restore.datasets.volume.dicom_reslice import resliced
from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.volume import Volume
from restore.operators.volume.slice_stacks import Grid

PLACE_MM = 1e-6  # decimal strings of 16 characters keep 12 digits of 100 mm
TURN = np.array([[0.8, 0.6, 0.0], [-0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four slices of 3 mm, 4 mm apart, in a turned plane, with locations counted against the normal."""
    folder = tmp_path_factory.mktemp("series") / "thick"
    affine = np.eye(4)
    affine[:3, :3] = TURN * [0.9, 1.1, 4.0]
    affine[:3, 3] = (-31.25, 12.125, 99.0)
    data = np.random.default_rng(0).integers(0, 900, (4, 10, 12)).astype(np.float32)
    write(Volume(data, affine, "MR"), folder)
    for k, path in enumerate(sorted(folder.glob("*.dcm"))):
        one = pydicom.dcmread(path)
        one.SliceThickness, one.SliceLocation, one.PatientID = "3", str(-4 * k), "somebody"
        one.save_as(path)
    return folder


def test_a_reader_finds_the_thin_slices_where_the_thick_ones_were(series: Path, tmp_path: Path):
    thick = read(series)
    assert isinstance(thick.header, DicomSeries)
    grid = Grid(thick.affine, (4, 10, 12)).refined(1.0, 2.0)
    header = resliced(thick.header, grid.affine, grid.shape, 1.0)
    data = np.zeros(grid.shape, np.float32)
    data[0, 0, 0] = 5
    write(Volume(data, grid.affine, "MR", header=header, source=series), tmp_path / "thin")
    thin = read(tmp_path / "thin")
    np.testing.assert_allclose(thin.affine, grid.affine, atol=PLACE_MM)
    files = sorted((tmp_path / "thin").glob("*.dcm"))
    assert len(files) == 16
    for k, path in enumerate(files):
        one = pydicom.dcmread(path)
        assert float(one.SliceThickness) == float(one.SpacingBetweenSlices) == 1.0
        assert [float(v) for v in one.PixelSpacing] == [0.55, 0.45]
        assert (one.Rows, one.Columns) == (20, 24)
        assert one.PatientID == "somebody"
        assert float(one.SliceLocation) == pytest.approx(1.5 - k, abs=PLACE_MM)
        nearest = thick.header.slices[k // 4].SOPInstanceUID
        assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == nearest


def test_no_location_stays_none(series: Path):
    thick = read(series)
    assert isinstance(thick.header, DicomSeries)
    one = thick.header.slices[0]
    del one.SliceLocation
    grid = Grid(thick.affine, (4, 10, 12)).refined(2.0)
    found = resliced(DicomSeries((one,)), grid.affine, grid.shape, 2.0)
    assert "SliceLocation" not in found.slices[0]
