"""`--resample`: a ball in closed form, seen by tilted and by uneven slices (pydicom), lies where it is in the world."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from restore.datasets.open import read
from restore.errors import InputError

CENTRE = np.array([4.0, -3.0, 21.0])  # LPS, mm
RADIUS = 14.0
SIDE, PITCH = 48, 1.0


def written(folder: Path, heights: np.ndarray, tilt_degrees: float) -> Path:
    """CT slices at these heights of the table; a tilted gantry turns the slices about x, and the table goes along z."""
    folder.mkdir()
    series, t = generate_uid(), np.radians(tilt_degrees)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(t), np.sin(t)])
    for number, height in enumerate(heights):
        position = np.array([-SIDE / 2, -SIDE / 2 * np.cos(t), height - SIDE / 2 * np.sin(t)])
        i, j = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
        points = position + PITCH * (i[..., None] * column + j[..., None] * row)
        distance = np.linalg.norm(points - CENTRE, axis=-1)
        values = np.clip((RADIUS - distance) / PITCH + 0.5, 0, 1) * 1000  # an edge one voxel wide
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.SeriesInstanceUID, image.Modality, image.InstanceNumber = series, "CT", number + 1
        image.Rows = image.Columns = SIDE
        image.PixelSpacing, image.SliceThickness = [PITCH, PITCH], 2
        image.ImageOrientationPatient = [round(float(v), 9) for v in (*row, *column)]
        image.ImagePositionPatient = [round(float(v), 6) for v in position]
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation, image.SamplesPerPixel = 15, 0, 1
        image.PhotometricInterpretation = "MONOCHROME2"
        image.RescaleSlope, image.RescaleIntercept = 1, -1000
        image.PixelData = np.rint(values).astype(np.uint16).tobytes()
        image.save_as(folder / f"{number:03d}.dcm", enforce_file_format=True)
    return folder


UNEVEN = np.cumsum([0, *[2.0] * 6, *[3.0] * 5, *[2.0] * 8])
CASES = {
    "tilted": (np.arange(0, 46, 2.0), 15.0, "a shear of 15 degrees", "gantry tilt"),
    "tilted the other way": (np.arange(0, 46, 2.0), -20.0, "a shear of 20 degrees", "gantry tilt"),
    "uneven": (UNEVEN, 0.0, "2 to 3 mm apart interpolated", "uneven slice spacing"),
    "a slice missing": (
        np.delete(np.arange(0, 46, 2.0), 8),
        0.0,
        "2 to 4 mm apart interpolated",
        "missing slice",
    ),
    "tilted and uneven": (UNEVEN, 10.0, "a shear of 10 degrees", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_a_ball_lies_where_it_is(case: str, tmp_path: Path):
    heights, tilt, noted, refused = CASES[case]
    folder = written(tmp_path / "series", heights, tilt)
    with pytest.raises(InputError, match=f"{refused}.*--resample"):
        read(folder)
    volume = read(folder, resample=True)
    assert any(noted in note for note in volume.notes)
    columns = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-6)  # cosines of 9 decimals
    weight = (volume.data.astype(float) + 1000) / 1000
    k, j, i = np.nonzero(weight)
    world = volume.affine @ np.array([i, j, k, np.ones(len(i))])
    w = weight[k, j, i]
    centre = (world[:3] * w).sum(1) / w.sum()
    # Slices of 2 mm and linear interpolation over at most 3 mm: a tenth of a millimetre for the centre of thousands
    # of voxels, and two percent of the radius.
    np.testing.assert_allclose(centre, CENTRE * [-1, -1, 1], atol=0.15)
    millilitres = w.sum() * abs(np.linalg.det(volume.affine[:3, :3]))
    assert (millilitres * 3 / 4 / np.pi) ** (1 / 3) == pytest.approx(RADIUS, rel=0.02)


def test_a_straight_series_is_left_alone(tmp_path: Path):
    folder = written(tmp_path / "series", np.arange(0, 46, 2.0), 0.0)
    plain, asked = read(folder), read(folder, resample=True)
    np.testing.assert_array_equal(plain.data, asked.data)
    assert asked.notes == plain.notes
