"""Padding of scanners is no intensity, and units that cannot be are refused."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.volume.volume import Volume
from restore.errors import InputError
from restore.pipelines.volume.denoise import Denoise
from restore.pipelines.volume.intensities import doubts_of_hu
from restore.pipelines.volume.unmeasured import without_padding


def volume(data: np.ndarray, modality: str = "CT", **more: object) -> Volume:
    return Volume(data.astype(np.float32), np.diag([2.0, 2, 2, 1]), modality, **more)  # type: ignore[arg-type]


def slices() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1000, 500, (3, 6, 6))


@pytest.mark.parametrize("modality", ["CT", ""])
def test_padding_of_ct_is_taken_for_the_lowest_value_and_put_back(modality: str) -> None:
    data = slices()
    data[:, 0], data[:, :, 5] = -3024, -2000
    filled, padding = without_padding(volume(data, modality))
    assert padding is not None
    lowest = data[data > -1200].min().astype(np.float32)
    np.testing.assert_array_equal(
        filled.data, np.where(data > -1200, data, lowest).astype(np.float32)
    )
    found = np.ones((2, 3, 6, 6), np.float32)
    padding.put_back(found, None)
    for one in found:
        np.testing.assert_array_equal(one, np.where(data > -1200, 1, data).astype(np.float32))


def test_what_a_task_makes_anew_is_no_padding_any_more() -> None:
    data, lost = slices(), np.zeros((3, 6, 6), bool)
    data[:, 0], data[1], lost[1] = -3024, -3024, True
    _, padding = without_padding(volume(data))
    assert padding is not None
    found = np.ones((1, 3, 6, 6), np.float32)
    padding.put_back(found, lost)
    assert (found[0, 1] == 1).all()
    assert (found[0, ::2, 0] == -3024).all()


def test_padding_that_a_file_names_and_volumes_without_any() -> None:
    data = np.abs(slices()) + 5
    data[0, 0] = 4000
    filled, padding = without_padding(volume(data, "MR", padding=(4000, 4000)))
    assert padding is not None
    assert (filled.data[0, 0] == 0).all()
    plain = volume(slices())
    assert without_padding(plain) == (plain, None)
    with pytest.raises(InputError, match="padding only"):
        without_padding(volume(np.full((3, 6, 6), -3024.0)))


def test_units_that_are_no_hounsfield_units() -> None:
    with pytest.raises(InputError, match="Hounsfield units"):
        doubts_of_hu(volume(slices() / 1e3), "CT")
    above = volume(slices() + 1024)
    assert "air has -1000" in doubts_of_hu(above, "CT")[0]
    assert doubts_of_hu(above, "") == []  # its file says so
    assert doubts_of_hu(volume(slices()), "CT") == []
    assert doubts_of_hu(volume(slices() / 1e3, "MR"), "MR") == []


@pytest.mark.parametrize("modality", ["MR", "CT", ""])
def test_a_volume_without_noise_stays_as_it_is(modality: str) -> None:
    data = np.zeros((6, 32, 32))
    data[1:5, 8:24, 8:24] = 100
    prepared = Denoise().prepare((volume(data, modality),))
    assert prepared.unchanged is not None
    np.testing.assert_array_equal(prepared.unchanged, data)
    assert any("no noise was found" in note for note in prepared.notes)
