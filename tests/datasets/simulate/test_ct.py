"""The simulated CT scan agrees with closed-form line integrals and Poisson statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.ct.scan import CTScan
from restore.datasets.open import open_scan
from restore.datasets.simulate.ct import finer, simulate_ct
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.operators.ct.geometry import MU_WATER_PER_MM, hu_to_mu
from restore.operators.ct.parallel_beam import ParallelBeamCT

BINS = 0.01  # a bin is a mean over its width, and a pixel over its side
OBLONG = 0.02  # the same for pixels of twice the side
POISSON = 0.05  # means and deviations over some thousand rays: 1 %


def make_volume(data: np.ndarray, dy: float = 2.0, dx: float = 2.0) -> Volume:
    affine = np.diag([-dx, dy, 3.0, 1.0])
    return Volume(data=data.astype(np.float32), affine=affine, modality="CT", units="HU")


@pytest.fixture
def volume() -> Volume:
    """A smooth blob of water density in air, 48 x 56 pixels of 2 mm, 4 slices."""
    y, x = np.mgrid[:48, :56]
    blob = np.exp(-((x - 27.5) ** 2 + (y - 23.5) ** 2) / (2 * 6.0**2))
    return make_volume(np.stack([1000 * blob * (1 + 0.1 * z) - 1000 for z in range(4)]))


def test_line_integrals_of_a_gaussian_off_centre() -> None:
    i, j = np.mgrid[:48, :56]
    blob = np.exp(-((j - 33) ** 2 + (i - 20) ** 2) / (2 * 5.0**2))
    scan = simulate_ct(make_volume(1000 * blob[None] - 1000), views=12, photons=1e12)
    sigma, x, y = 10.0, (33 - 27.5) * 2, (23.5 - 20) * 2
    theta = np.array(scan.geometry.angles)[:, None]
    u = (np.arange(scan.geometry.n_det) - (scan.geometry.n_det - 1) / 2) * 2.0
    distance = u - x * np.cos(theta) - y * np.sin(theta)
    exact = MU_WATER_PER_MM * sigma * np.sqrt(2 * np.pi) * np.exp(-(distance**2) / (2 * sigma**2))
    assert np.abs(scan.sinogram[0] - exact).max() < BINS * exact.max()


def test_pixels_may_be_oblong() -> None:
    y, x = np.mgrid[:60, :40]
    blob = np.exp(-(((x - 19.5) * 3) ** 2 + ((y - 29.5) * 2) ** 2) / (2 * 12.0**2))
    scan = simulate_ct(make_volume(1000 * blob[None] - 1000, dy=2, dx=3), views=5, photons=1e12)
    assert scan.geometry.pixel_mm == (2.0, 3.0)
    profile = scan.sinogram[0]
    assert np.abs(profile - profile[0]).max() < OBLONG * profile.max()


def test_not_an_inverse_crime(volume: Volume) -> None:
    scan = simulate_ct(volume, views=12, photons=1e12, slices=slice(0, 1))
    mu = torch.from_numpy(hu_to_mu(volume.data[0]).astype(np.float32))
    coarse = ParallelBeamCT(scan.geometry)(mu).numpy()
    difference = np.abs(scan.sinogram[0] - coarse).max() / coarse.max()
    assert 1e-5 < difference < 0.02
    fine = finer(scan.geometry)
    assert fine.n_det * fine.det_spacing_mm == scan.geometry.n_det * scan.geometry.det_spacing_mm


def test_noise_is_poisson(volume: Volume) -> None:
    photons = 5e3
    noisy = simulate_ct(volume, views=200, photons=photons, slices=slice(0, 1)).sinogram[0]
    clean = simulate_ct(volume, views=200, photons=1e12, slices=slice(0, 1)).sinogram[0]
    error = (noisy - clean) * np.sqrt(photons * np.exp(-clean))
    assert error.mean() == pytest.approx(0, abs=POISSON)
    for part in (clean < 0.05, clean > 0.4):
        assert error[part].std() == pytest.approx(1, rel=POISSON)


def test_a_slice_does_not_depend_on_the_others(volume: Volume) -> None:
    alone = simulate_ct(volume, views=5, slices=slice(3, 4)).sinogram[0]
    assert (alone == simulate_ct(volume, views=5, slices=slice(1, 4, 2)).sinogram[1]).all()
    assert (alone != simulate_ct(volume, views=5, slices=slice(3, 4), seed=8).sinogram[0]).any()


def test_rays_without_counts_stay_finite() -> None:
    scan = simulate_ct(make_volume(np.full((1, 40, 40), 3000.0), 20, 20), views=3, photons=100)
    assert np.isfinite(scan.sinogram[0]).all()
    assert scan.sinogram[0].max() == pytest.approx(np.log(100 / 0.5))


def test_padding_is_air_and_noted(volume: Volume) -> None:
    data = volume.data.copy()
    data[0, :2] = -3024
    scan = simulate_ct(make_volume(data), views=4, photons=1e12, slices=slice(0, 1))
    clean = simulate_ct(volume, views=4, photons=1e12, slices=slice(0, 1))
    assert f"{2 * 56} voxels below -1000 HU" in scan.notes[0]
    assert np.abs(scan.sinogram[0] - clean.sinogram[0]).max() < BINS
    assert scan.reference is not None
    assert scan.reference[0].min() == -3024


def test_round_trip(volume: Volume, tmp_path: Path) -> None:
    scan = simulate_ct(volume, views=7, slices=slice(0, 4, 2), arc=120)
    write_ct_measurement(scan, tmp_path / "ct.h5")
    back = open_scan(tmp_path / "ct.h5")
    assert isinstance(back, CTScan)
    np.testing.assert_array_equal(back.sinogram[:], scan.sinogram[:])
    assert scan.reference is not None
    assert back.reference is not None
    np.testing.assert_array_equal(back.reference[:], scan.reference[:])
    np.testing.assert_array_equal(back.affine, scan.affine)
    assert back.geometry == scan.geometry
    assert back.photons == scan.photons
    assert back.noise_std == scan.noise_std
    assert back.mu_water == scan.mu_water
    assert back.slice_indices == (0, 2)
    assert back.settings == scan.settings
    assert back.source == scan.source
    assert back.notes == scan.notes


def test_odd_units_are_noted(volume: Volume) -> None:
    for odd in (volume.data / 1e4, volume.data + 1024):
        notes = simulate_ct(make_volume(odd.astype(np.float32)), views=2).notes
        assert any("may not be in HU" in note for note in notes)
    notes = simulate_ct(volume, views=2).notes
    assert not any("may not be in HU" in note for note in notes)


def test_refusals(volume: Volume) -> None:
    for change in ({"photons": 0}, {"views": 0}, {"arc": np.nan}, {"slices": slice(9, 12)}):
        with pytest.raises(ConfigError):
            simulate_ct(volume, **change)  # type: ignore[arg-type]
    data = volume.data.copy()
    data[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="1 voxels are NaN"):
        simulate_ct(make_volume(data))
