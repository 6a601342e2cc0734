"""DXchange files written by hand: a disc in closed form, and what such files leave open."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.ct.files.dxchange_write import write_dxchange
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.phantom import ct_phantom
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError

VIEWS, ROWS, COLUMNS, PIXEL = 40, 2, 64, 0.005
RADIUS, MU, AT = 0.08, 4.0, (0.03, 0.02)
"""A disc of one attenuation, in mm and 1/mm, at (x, y)."""
DEGREES = np.arange(VIEWS) * 180 / VIEWS

SIMULATED = 1e-5  # float32 of line integrals up to 6, twice
COUNTED = 2e-3  # line integrals of counts near 1e4 that are rounded to whole ones: 1e-4 seen
DISC = 0.05  # of the attenuation of a coarse disc of 40 views by filtered backprojection: 0.01 seen


def lines() -> np.ndarray:
    """(views, columns) of the disc's line integrals in the middle of the bins."""
    t, u = np.deg2rad(DEGREES)[:, None], (np.arange(COLUMNS) - (COLUMNS - 1) / 2) * PIXEL
    away = u - AT[0] * np.cos(t) - AT[1] * np.sin(t)
    return 2 * MU * np.sqrt(np.maximum(RADIUS**2 - away**2, 0))


def written(path: Path, units: str = "degrees", **changes: object) -> Path:
    """A file as the schema has it; changes: data sets by their names under `exchange`, None to leave one out."""
    light = 10_000 + 2_000 * np.random.default_rng(0).random((ROWS, COLUMNS))
    counts = np.rint(light * np.exp(-lines())[:, None] + 100).astype(np.uint16)
    parts = {
        "data": counts, "data_white": np.stack([light + 90, light + 110]).astype(np.float32),
        "data_dark": np.full((3, ROWS, COLUMNS), 100, np.uint16), "theta": DEGREES,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange:measurement"
        for name, values in (parts | changes).items():
            if values is not None:
                file[f"exchange/{name}"] = values
        file["exchange/data"].attrs["axes"] = "theta:y:x"
        if units and "exchange/theta" in file:
            file["exchange/theta"].attrs["units"] = units
        pixel = file.create_dataset("measurement/instrument/detector/x_pixel_size", data=10e-6)
        pixel.attrs["units"] = "m"
        file["measurement/instrument/detection_system/objective/magnification"] = 2.0
    return path


def test_counts_become_slices_in_their_place(tmp_path: Path) -> None:
    scan = open_scan(written(tmp_path / "a.h5"))
    assert isinstance(scan, CTScan)
    assert scan.shape == (ROWS, VIEWS, COLUMNS)
    np.testing.assert_allclose(scan.sinogram[1], lines(), atol=COUNTED)
    assert scan.geometry.det_spacing_mm == pytest.approx(PIXEL)
    image = scan.setup().operator.backproject(torch.from_numpy(scan.sinogram[0]))
    column, row = (COLUMNS - 1) / 2 + AT[0] / PIXEL, (COLUMNS - 1) / 2 - AT[1] / PIXEL
    inside = image[round(row) - 5 : round(row) + 6, round(column) - 5 : round(column) + 6]
    assert float(inside.mean()) == pytest.approx(MU, rel=DISC)
    x, y, *_ = scan.affine @ [column, row, 0, 1]
    np.testing.assert_allclose((x, y), AT)


def test_what_is_not_told_is_noted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", units="", data_dark=None)
    with h5py.File(path, "r+") as file:
        del file["measurement"]
    notes = " ".join(open_scan(path).notes)
    for words in ("span 180: taken as degrees", "no 'exchange/data_dark'", "1 mm assumed"):
        assert words in notes
    told = open_scan(path, detector_pixel=PIXEL, grid="32x40@0.01")
    assert (told.geometry.det_spacing_mm, told.geometry.shape) == (PIXEL, (32, 40))
    assert "1 mm assumed" not in " ".join(told.notes)


@pytest.mark.parametrize("units", ["radians", ""])
def test_angles_in_radians(tmp_path: Path, units: str) -> None:
    scan = open_scan(written(tmp_path / "a.h5", units=units, theta=np.deg2rad(DEGREES)))
    np.testing.assert_allclose(scan.geometry.angles, np.deg2rad(DEGREES))
    assert ("span half a turn" in " ".join(scan.notes)) == (not units)


@pytest.mark.parametrize(
    ("units", "changes", "words"),
    [
        ("degrees", {"data_white": None}, "no 'exchange/data_white'"),
        ("degrees", {"data_white": np.ones((2, 9))}, "'exchange/data_white' has shape"),
        ("degrees", {"theta": DEGREES[:-3]}, "shape \\(37,\\).*40 views"),
        ("degrees", {"theta": None}, "shape None"),
        ("degrees", {"theta": np.deg2rad(DEGREES)}, "radians of half a turn"),
        ("radians", {}, "as of degrees"),
        ("", {"theta": DEGREES / 20}, "degrees or radians\\?"),
        ("degrees", {"data": np.ones((VIEWS, COLUMNS))}, "expected real numbers"),
    ],
)
def test_files_that_leave_a_doubt_are_refused(
    tmp_path: Path, units: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        open_scan(written(tmp_path / "a.h5", units, **changes))


def test_shares_of_the_light_are_no_counts(tmp_path: Path) -> None:
    """Values that somebody divided by the flats: rays of less than half the light are none of half a count."""
    shares = np.exp(-4 * np.repeat(lines()[:, None], ROWS, 1))
    path = written(
        tmp_path / "a.h5", data=shares, data_white=np.ones((1, ROWS, COLUMNS)), data_dark=None
    )
    found = open_scan(path).sinogram[0]
    assert found.max() > 2  # far below half of the light
    np.testing.assert_allclose(found, 4 * lines(), atol=COUNTED)


def test_what_is_simulated_is_read(tmp_path: Path) -> None:
    """Whole counts come back as they were drawn; empty rays too, as half a count."""
    volume = Volume(ct_phantom((2, 24, 24)).data, np.diag([8.0, 8, 12, 1]), "CT")
    scan = simulate_ct(volume, views=12, photons=300.0)
    write_dxchange(scan, tmp_path / "a.h5")
    found = open_scan(tmp_path / "a.h5")
    np.testing.assert_allclose(found.sinogram[:], scan.sinogram[:], atol=SIMULATED)
    np.testing.assert_allclose(found.geometry.angles, scan.geometry.angles)
    assert found.geometry.det_spacing_mm == pytest.approx(scan.geometry.det_spacing_mm)
    assert abs(found.affine[2, 2]) == pytest.approx(12)
    with pytest.raises(ConfigError, match="photons of a ray through air are unknown"):
        write_dxchange(dataclasses.replace(scan, photons=None), tmp_path / "b.h5")


def test_a_size_that_is_no_pixels_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["measurement/instrument/detector/x_pixel_size"].attrs["units"] = "inch"
    with pytest.raises(InputError, match="no size of a pixel"):
        open_scan(path)
