"""The simulated MRI scan follows its model, is reproducible per slice, and survives its file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import sigpy
import torch

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, OutputError
from restore.operators.mri.multicoil import MultiCoilMRI

SINGLE = 5e-3  # float32 of up to 960: 6e-5 a rounding; 2e-4 seen
ROOTS = 1e-5  # float32 of numbers near 1 and quotients: some roundings of 6e-8
SAMPLED = 0.02  # deviations over some thousand samples: 0.5 %
DOUBLE = 1e-12  # float64: one product of matrices
WHOLE_LINES = 0.05  # an acceleration of 3 on whole lines


def make_volume(data: np.ndarray) -> Volume:
    affine = np.array([[-1.5, 0, 0, 30], [0, 0.8, 0.6, -20], [0, -0.6, 0.8, 5], [0, 0, 0, 1.0]])
    return Volume(data=data.astype(np.float32), affine=affine, modality="MR", units="arbitrary")


@pytest.fixture
def volume() -> Volume:
    z, y, x = np.mgrid[-1:1:9j, -1:1:36j, -1:1:45j]
    data = 800 * np.exp(-3 * (x**2 + y**2 + z**2)) + 300 * (x**2 + (y / 0.7) ** 2 < 0.5)
    return make_volume(data)


def test_noiseless_kspace_is_the_operator_of_the_image(volume: Volume) -> None:
    scan = simulate_mri(volume, noise=0, slices=slice(2, 8, 3))
    assert scan.shape == (2, 8, 36, 45)
    assert scan.slice_indices == (2, 5)
    operator = MultiCoilMRI(torch.from_numpy(np.asarray(scan.maps)), torch.from_numpy(scan.mask))
    kspace = torch.from_numpy(scan.kspace[:])
    full = simulate_mri(volume, noise=0, slices=slice(2, 8, 3), acceleration=1)
    everything = MultiCoilMRI(operator.maps, torch.ones(45, dtype=torch.bool))
    image = everything.adjoint(torch.from_numpy(full.kspace[:]))
    np.testing.assert_allclose(image.abs(), volume.data[2:8:3], atol=SINGLE)
    assert torch.allclose(operator(image), kspace, atol=SINGLE)
    assert scan.reference is not None
    np.testing.assert_array_equal(scan.reference[:], volume.data[2:8:3])


@pytest.mark.parametrize("shape", [(30, 41), (31, 40)])
def test_kspace_is_centred_and_orthonormal(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(0).random((2, *shape)) + 0.1
    scan = simulate_mri(make_volume(data), noise=0, acceleration=1, coils=5)
    assert scan.maps is not None
    images = sigpy.ifft(scan.kspace[:], axes=(-2, -1))
    combined = np.sum(np.conj(scan.maps[:]) * images, axis=1)
    np.testing.assert_allclose(np.abs(combined), data, atol=ROOTS)
    energy = np.sum(np.abs(scan.kspace[:].astype(complex)) ** 2)
    assert energy == pytest.approx(np.sum(data**2), rel=ROOTS)


def test_noise_has_the_asked_level_and_is_zero_outside_the_mask(volume: Volume) -> None:
    noisy, clean = (simulate_mri(volume, noise=level) for level in (0.02, 0))
    difference = (noisy.kspace[:] - clean.kspace[:])[..., noisy.mask]
    expected = 0.02 * volume.data.max()
    assert noisy.noise_std == pytest.approx(expected)
    assert difference.real.std() == pytest.approx(expected, rel=SAMPLED)
    assert difference.imag.std() == pytest.approx(expected, rel=SAMPLED)
    assert not noisy.kspace[:][..., ~noisy.mask].any()
    assert noisy.mask.sum() == round(45 / 4)


def test_a_slice_does_not_depend_on_the_others(volume: Volume) -> None:
    alone = simulate_mri(volume, slices=slice(5, 6))
    together = simulate_mri(volume, slices=slice(1, None, 2))
    reverse = simulate_mri(volume, slices=slice(7, 2, -1))
    assert (alone.kspace[0] == together.kspace[2]).all()
    assert (alone.kspace[0] == reverse.kspace[2]).all()
    assert (alone.kspace[0] != simulate_mri(volume, slices=slice(5, 6), seed=8).kspace[0]).any()
    assert (together.kspace[0] != together.kspace[1]).any()


def test_scaling_the_volume_scales_the_scan(volume: Volume) -> None:
    big = simulate_mri(make_volume(volume.data * 1024), slices=slice(4, 5))
    small = simulate_mri(volume, slices=slice(4, 5))
    np.testing.assert_allclose(big.kspace[0], 1024 * small.kspace[0], rtol=ROOTS)


def test_affine_places_the_chosen_slices(volume: Volume) -> None:
    scan = simulate_mri(volume, slices=slice(2, 8, 3))
    assert scan.affine is not None
    for new, old in enumerate((2, 5)):
        np.testing.assert_allclose(
            scan.affine @ [3, 4, new, 1], volume.affine @ [3, 4, old, 1], atol=DOUBLE
        )
    for chosen in (slice(2, 8, 3), slice(5, 6, 4), slice(7, 2, -2), None):
        got = simulate_mri(volume, slices=chosen).affine
        np.testing.assert_allclose(got, volume.select(chosen or slice(None)).affine, atol=DOUBLE)


def test_complex_volumes_are_refused(volume: Volume) -> None:
    with pytest.raises(InputError, match="complex"):
        simulate_mri(volume.with_data(volume.data.astype(np.complex64)))


def test_round_trip(volume: Volume, tmp_path: Path) -> None:
    scan = simulate_mri(volume, slices=slice(2, 8, 3), acceleration=3)
    write_fastmri(scan, tmp_path / "scan.h5")
    back = open_scan(tmp_path / "scan.h5")
    assert isinstance(back, MRIScan)
    np.testing.assert_array_equal(back.kspace[:], scan.kspace[:])
    assert scan.maps is not None
    assert back.maps is not None
    assert scan.reference is not None
    assert back.reference is not None
    np.testing.assert_array_equal(back.maps[:], scan.maps[:])
    np.testing.assert_array_equal(back.reference[:], scan.reference[:])
    np.testing.assert_array_equal(back.mask, scan.mask)
    np.testing.assert_array_equal(back.affine, scan.affine)
    assert back.slice_indices == (2, 5)
    assert back.noise_std == scan.noise_std
    assert back.settings == scan.settings
    assert back.source == scan.source
    assert back.recon_shape == (36, 45)
    assert back.notes == scan.notes
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file.attrs["acceleration"] == pytest.approx(3, rel=WHOLE_LINES)
        assert file.attrs["num_low_frequency"] >= 4
        assert file.attrs["max"] == pytest.approx(volume.data[2:8:3].max())
        assert file["kspace"].dtype == np.complex64


def test_a_failed_write_leaves_nothing(volume: Volume, tmp_path: Path) -> None:
    scan = simulate_mri(volume)

    def fail(index: int) -> np.ndarray:
        if index == 3:
            raise OSError("disk full")
        return scan.kspace[index]

    broken = dataclasses.replace(scan, kspace=LazyStack(scan.shape, fail))
    with pytest.raises(OutputError, match="disk full"):
        write_fastmri(broken, tmp_path / "scan.h5")
    with pytest.raises(OutputError, match="no such folder"):
        write_fastmri(scan, tmp_path / "none" / "scan.h5")
    huge = dataclasses.replace(scan, kspace=LazyStack((10**9, 8, 36, 45), fail))
    with pytest.raises(OutputError, match="MB free"):
        write_fastmri(huge, tmp_path / "scan.h5")
    assert list(tmp_path.iterdir()) == []


def test_negative_values_are_kept_and_noted(volume: Volume) -> None:
    data = volume.data.copy()
    data[0, 0, :3] = -5
    scan = simulate_mri(make_volume(data), slices=slice(0, 1))
    assert "3 voxels are negative" in scan.notes[0]
    assert scan.reference is not None
    assert scan.reference[0].min() == -5


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0, np.inf])
def test_unusable_volumes(value: float) -> None:
    with pytest.raises(InputError, match="finite values and a maximum above zero"):
        simulate_mri(make_volume(np.full((2, 8, 8), value)), acceleration=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": -0.1}, "noise"),
        ({"slices": slice(20, 30)}, "pick nothing"),
        ({"slices": slice(0, 4, 0)}, "step"),
        ({"coils": 0}, "coil"),
        ({"seed": -1}, "seed"),
        ({"mask": "magic"}, "unknown mask"),
    ],
)
def test_bad_settings(volume: Volume, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate_mri(volume, **change)  # type: ignore[arg-type]
