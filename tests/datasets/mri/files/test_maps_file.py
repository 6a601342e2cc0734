"""Coil maps in files of their own: every form they come in, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from bart_pairs import write_cfl

from restore.datasets.ct.scan import CTScan
from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.errors import ConfigError, InputError
from restore.operators.mri.fourier import fft2c

SLICES, COILS, ROWS, COLUMNS = 2, 4, 24, 20


def maps() -> np.ndarray:
    """(coils, rows, columns)."""
    return birdcage((ROWS, COLUMNS), COILS)


@pytest.fixture
def scan(tmp_path: Path) -> MRIScan:
    """Two slices of a head in an array that tells of no maps."""
    image = torch.from_numpy(head_phantom((SLICES, ROWS, COLUMNS)).data).to(torch.complex64)
    np.save(tmp_path / "k.npy", fft2c(image[:, None] * torch.from_numpy(maps())).numpy())
    return open_scan(tmp_path / "k.npy")  # type: ignore[return-value]


def bart(values: np.ndarray) -> np.ndarray:
    """(coils, H, W) as (H, W, 1, coils)."""
    return values.transpose(1, 2, 0)[:, :, None]


def in_hdf5(path: Path, values: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["sensitivity_maps"] = values
    return path


def saved(path: Path, values: Any) -> Path:
    np.save(path, values)
    return path


def test_every_form_holds_the_same_maps(tmp_path: Path, scan: MRIScan):
    each = np.stack([maps(), 2 * maps()])
    sliced = np.stack([bart(m) for m in each], -1).reshape(
        ROWS, COLUMNS, 1, COILS, *[1] * 9, SLICES
    )
    write_cfl(tmp_path / "all", sliced)
    for path in (
        tmp_path / "all",
        saved(tmp_path / "m.npy", each),
        in_hdf5(tmp_path / "m.h5", each),
    ):
        np.testing.assert_array_equal(np.asarray(with_maps(scan, path).maps), each)
    one = write_cfl(tmp_path / "one", bart(maps()))
    for path in (one, saved(tmp_path / "o.npy", maps()), in_hdf5(tmp_path / "o.h5", maps())):
        found = with_maps(scan, path)
        np.testing.assert_array_equal(np.asarray(found.maps), np.stack([maps()] * SLICES))
        assert "serve all 2 slices" in scan.notes.pop()
        assert found.setup().record["maps"] == "file"


def test_of_several_sets_the_first_is_used(tmp_path: Path, scan: MRIScan):
    two = np.stack([bart(maps()), np.zeros_like(bart(maps()))], -1)
    found = with_maps(scan, write_cfl(tmp_path / "two", two))
    np.testing.assert_array_equal(found.maps[1], maps())
    assert any("holds 2 sets of coil maps: the first is used" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda m: m.conj(), "and 100% of it conjugated"),
        (lambda m: m[:, ::-1], "turned over along their rows"),
        (lambda m: m[:, :, ::-1], "turned over along their columns"),
        (lambda m: m[:, ::-1, ::-1], "turned over along both axes"),
    ],
)
def test_maps_of_another_convention_are_refused(
    tmp_path: Path, scan: MRIScan, change: Any, found: str
):
    """No object that is symmetric, and coils that are not: a birdcage with one coil less."""
    cut = np.ascontiguousarray(change(maps()))
    with pytest.raises(InputError, match=found):
        with_maps(scan, saved(tmp_path / "m.npy", cut)).setup()


def test_maps_of_another_scan_are_noted(tmp_path: Path, scan: MRIScan):
    with_maps(scan, saved(tmp_path / "m.npy", maps()[[2, 0, 3, 1]])).setup()
    assert any("of the middle of k-space unexplained" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (maps()[:, :16], "which does not fit the measurement: k-space is 24 x 20"),
        (maps()[:3], "which does not fit the measurement of 2 slices and 4 coils"),
        (maps().transpose(0, 2, 1), "the axes of k-space in another order"),
        (maps() * np.nan, "NaN or infinite"),
        (np.abs(maps()), "coil maps must be complex"),
        (np.zeros_like(maps()), "are zero everywhere"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, scan: MRIScan, values: Any, found: str):
    with pytest.raises(InputError, match=found):
        _ = (
            with_maps(scan, saved(tmp_path / "m.npy", values))
            .setup()
            .problem(range(1), torch.device("cpu"))
        )


def test_other_files_and_scans_are_named(tmp_path: Path, scan: MRIScan):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(InputError, match="no data set 'sensitivity_maps'; the file holds other"):
        with_maps(scan, tmp_path / "a.h5")
    volume = write_cfl(tmp_path / "v", np.ones((ROWS, COLUMNS, 3, COILS)))
    with pytest.raises(
        InputError, match="has 3 entries along BART's axis 2, expected maps of slices"
    ):
        with_maps(scan, volume)
    ct = simulate_ct(ct_phantom((1, 16, 16)), views=4)
    assert isinstance(ct, CTScan)
    with pytest.raises(ConfigError, match="coil maps are for MRI"):
        with_maps(ct, volume)
