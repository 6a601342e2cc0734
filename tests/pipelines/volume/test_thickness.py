"""How thick slices are: told, in the header, assumed; and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from restore.datasets.volume.dicom_series import DicomSeries
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.pipelines.volume.thickness import thickness_of

CLOSE = 1e-9  # mm, sums of two numbers


def volume(header: object = None) -> Volume:
    """Three slices, 5 mm apart."""
    data = np.zeros((3, 4, 4), np.float32)
    return Volume(data, np.diag([1.0, 1.0, 5.0, 1.0]), header=header, source=Path("stack"))


def series(*thicknesses: float | None, between: float | None = None) -> Volume:
    slices = []
    for thickness in thicknesses:
        one = Dataset()
        if thickness is not None:
            one.SliceThickness = thickness
        if between is not None:
            one.SpacingBetweenSlices = between
        slices.append(one)
    return volume(DicomSeries(tuple(slices)))


@pytest.mark.parametrize(
    ("of", "thickness", "gap", "wanted", "source"),
    [
        (volume(), None, "auto", 5.0, "assumed"),
        (volume(), 4.0, "auto", 4.0, "--thickness"),
        (volume(), 7.0, "auto", 7.0, "--thickness"),  # slices that overlap
        (volume(), None, "0.5", 4.5, "--gap"),
        (volume(), None, "-1", 6.0, "--gap"),
        (volume(), 4.0, "1", 4.0, "--thickness"),
        (series(4.0, 4.0, 4.0, between=5.0), None, "auto", 4.0, "SliceThickness"),
        (series(4.0, 4.0, 4.0), 3.0, "auto", 3.0, "--thickness"),
        (series(None, None, None), None, "auto", 5.0, "assumed"),
        (series(0.0, 0.0, 0.0), None, "auto", 5.0, "assumed"),
    ],
)
def test_who_says_it(of: Volume, thickness: float | None, gap: str, wanted: float, source: str):
    found = thickness_of(of, thickness, gap)
    assert found.source == source
    assert found.thickness_mm == pytest.approx(wanted, abs=CLOSE)
    assert found.thickness_mm + found.gap_mm == pytest.approx(5.0, abs=CLOSE)
    assert bool(found.notes) == (source == "assumed")


def test_a_header_that_does_not_agree_with_positions_is_noted():
    (note,) = thickness_of(series(4.0, 4.0, 4.0, between=6.0), None, "auto").notes
    assert "SpacingBetweenSlices is 6 mm" in note
    assert "5 mm apart" in note


@pytest.mark.parametrize(
    ("thickness", "gap", "says"),
    [
        (4.0, "2", "make 6 mm"),
        (None, "5", "lie 5 mm apart"),
        (None, "wide", "auto or millimetres"),
        (None, "nan", "auto or millimetres"),
    ],
)
def test_numbers_that_cannot_be(thickness: float | None, gap: str, says: str):
    with pytest.raises(ConfigError, match=says):
        thickness_of(volume(), thickness, gap)


def test_slices_of_several_thicknesses_are_refused():
    with pytest.raises(InputError, match="3 to 4 mm thickness in one series"):
        thickness_of(series(3.0, 4.0, 4.0), None, "auto")
