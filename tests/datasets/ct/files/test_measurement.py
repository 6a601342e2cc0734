"""CT measurement files written by hand, as docs/scan-files.md describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from restore.datasets.ct.files.measurement import read_ct_measurement
from restore.errors import InputError
from restore.operators.ct.geometry import MU_WATER_PER_MM

ESTIMATED = 0.2  # an estimate from some hundred bins of air

GEOMETRY = {"det_spacing_mm": 0.5, "shape": (20, 30), "pixel_mm": (0.6, 0.5)}


def write(path: Path, sinogram: np.ndarray, geometry: dict[str, Any], **attrs: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["sinogram"] = sinogram
        file["geometry/angles_rad"] = np.linspace(0, np.pi, sinogram.shape[1], endpoint=False)
        for name, value in geometry.items():
            file["geometry"].attrs[name] = value
        file.attrs.update(attrs)
    return path


@pytest.fixture
def air() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.01, (2, 50, 40)).astype(np.float32)


def test_smallest_file(tmp_path: Path, air: np.ndarray) -> None:
    scan = read_ct_measurement(write(tmp_path / "a.h5", air, GEOMETRY))
    np.testing.assert_array_equal(scan.sinogram[:], air)
    assert scan.shape == (2, 50, 40)
    assert scan.geometry.pixel_mm == (0.6, 0.5)
    assert scan.geometry.shape == (20, 30)
    assert scan.geometry.views == 50
    assert scan.mu_water == MU_WATER_PER_MM
    assert scan.noise_std == pytest.approx(0.01, rel=ESTIMATED)
    assert scan.photons == pytest.approx(scan.noise_std**-2)
    assert any("mu_water" in note for note in scan.notes)
    assert any("air" in note for note in scan.notes)


def test_photons_give_the_noise(tmp_path: Path, air: np.ndarray) -> None:
    scan = read_ct_measurement(write(tmp_path / "a.h5", air, GEOMETRY, photons=1e6, mu_water=0.02))
    assert scan.noise_std == pytest.approx(1e-3)
    assert scan.mu_water == 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"det_spacing_mm": None}, "missing keys"),
        ({"det_spacing_mm": -1.0}, "det_spacing_mm"),
        ({"det_spacing_mm": np.nan}, "det_spacing_mm"),
        ({"det_spacing_mm": "wide"}, "det_spacing_mm"),
        ({"shape": (20, 30, 4)}, "two numbers"),
        ({"shape": (0, 30)}, "shape"),
        ({"kind": "helical"}, "only 'parallel'"),
    ],
)
def test_unusable_geometry(
    tmp_path: Path, air: np.ndarray, change: dict[str, Any], message: str
) -> None:
    geometry = {k: v for k, v in {**GEOMETRY, **change}.items() if v is not None}
    with pytest.raises(InputError, match=message):
        read_ct_measurement(write(tmp_path / "a.h5", air, geometry))


@pytest.mark.parametrize("name", ["photons", "mu_water", "noise_std"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan, "many"])
def test_numbers_out_of_range(tmp_path: Path, air: np.ndarray, name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"'{name}' is"):
        read_ct_measurement(write(tmp_path / "a.h5", air, GEOMETRY, **{name: value}))


def test_shapes_that_disagree(tmp_path: Path, air: np.ndarray) -> None:
    path = write(tmp_path / "a.h5", air, GEOMETRY)
    with h5py.File(path, "a") as file:
        file["reference_hu"] = np.zeros((2, 30, 20))
    with pytest.raises(InputError, match="'reference_hu' has shape"):
        read_ct_measurement(path)
    with h5py.File(path, "a") as file:
        del file["reference_hu"], file["geometry/angles_rad"]
        file["geometry/angles_rad"] = np.zeros(49)
    with pytest.raises(InputError, match="50 views"):
        read_ct_measurement(path)


def test_parts_that_are_missing(tmp_path: Path, air: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["views"] = air
    with pytest.raises(InputError, match="no data set 'sinogram'; the file holds views"):
        read_ct_measurement(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["sinogram"] = air
    with pytest.raises(InputError, match="angles_rad"):
        read_ct_measurement(tmp_path / "b.h5")
    with pytest.raises(InputError, match="expected real numbers"):
        read_ct_measurement(write(tmp_path / "c.h5", air.astype(complex), GEOMETRY))


def test_one_damaged_ray_is_named_and_repaired(tmp_path: Path, air: np.ndarray) -> None:
    air[1, 7, 3] = np.inf
    path = write(tmp_path / "a.h5", air, GEOMETRY, photons=1e4)
    with pytest.raises(InputError, match=r"1 samples are NaN or infinite \(slice 1, view 7\)"):
        read_ct_measurement(path).sinogram[1]
    scan = read_ct_measurement(path, repair="zero")
    ray = scan.sinogram[1][7]
    # A mean of two float32 numbers, rounded once.
    np.testing.assert_allclose(ray[3], (ray[2] + ray[4]) / 2, rtol=1e-6, atol=1e-9)
    assert "bridged" in scan.notes[-1]


def test_a_lost_ray_is_no_ray_through_air(tmp_path: Path) -> None:
    """A disc in closed form: the bridge lies on its chord, where zero would be the surest ray of all."""
    u = np.arange(64) - 31.5
    chord = 0.04 * np.sqrt(np.clip(25.0**2 - u**2, 0, None))
    sinogram = np.tile(chord, (2, 12, 1))
    sinogram[0, 5, [20, 31, 63]] = np.nan
    scan = read_ct_measurement(write(tmp_path / "a.h5", sinogram, GEOMETRY), repair="zero")
    # The chord bends by 0.0016 a bin squared at bin 20, less in the middle; outside the disc it is zero.
    np.testing.assert_allclose(scan.sinogram[0][5], chord, atol=0.002)


def test_a_lost_view_is_refused(tmp_path: Path) -> None:
    sinogram = np.ones((2, 12, 64))
    sinogram[0, 3] = np.nan
    scan = read_ct_measurement(write(tmp_path / "a.h5", sinogram, GEOMETRY), repair="zero")
    with pytest.raises(InputError, match=r"slice 0: 1 view\(s\) lost more than a quarter .*\(3\)"):
        scan.sinogram[0]
