"""Scans reconstructed with virtual coils: as good as with all, after whitening, with given maps and estimated ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from people_kspace import centred_fft, columns, grid, noise, phantom, psnr, write

from restore.datasets.mri.middle import middle_of_volume
from restore.datasets.mri.receivers.virtual_coils import VirtualCoils, readout_axis
from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError
from restore.operators.mri.coil_compression import geometric_compression

CPU = torch.device("cpu")
SHAPE, COILS, STD = (64, 56), 32, 0.002
TRUTH = phantom(SHAPE)
INSIDE = TRUTH > 0.05
MASK = columns(SHAPE[1], 2, 20, 36)
SAME = 1e-5  # float32: sums of 32 products, and CG that stops at the same step


def many_coils() -> np.ndarray:
    """Two rings of loops around the object, near it, with sum |S|^2 = 1."""
    down, across = grid(SHAPE)
    angles = 4 * np.pi * np.arange(COILS)[:, None, None] / COILS
    height = np.where(np.arange(COILS) % 2, 0.4, -0.4)[:, None, None]
    y, x = down - 1.15 * np.sin(angles), across - 1.15 * np.cos(angles)
    maps = (y + height + 1j * x) / (y**2 + x**2 + height**2) ** 1.5
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


MAPS = many_coils()
CLEAN = centred_fft(MAPS * TRUTH)
NOISY = CLEAN + noise(CLEAN.shape, STD)
MEASURED = (NOISY * MASK)[None]


def quality(found: np.ndarray, truth: np.ndarray = TRUTH) -> float:
    """PSNR over the object: outside of it all is noise, of which maps of fewer coils leave more."""
    return psnr(found[INSIDE], truth[INSIDE])


def solved(scan: Scan, **options: Any) -> tuple[np.ndarray, int]:
    """The magnitude of the operator's inverse, in the middle of the problem's slices, and how many channels it had."""
    problem = scan.problem(range(1), CPU, SetupOptions(**options))
    image = problem.operator.pinv(problem.y).abs().numpy()
    return image[len(image) // 2] if image.ndim == 3 else image, problem.y.shape[1]


@pytest.mark.parametrize(
    ("words", "maps"),
    [
        pytest.param("12", "espirit", marks=pytest.mark.slow),
        ("8:geometric", "espirit"),
        ("8:geometric", "file"),
    ],
)
def test_few_virtual_coils_are_as_good_as_32(tmp_path: Path, words: str, maps: str) -> None:
    scan = open_scan(write(tmp_path / "a.h5", MEASURED, mask=MASK, sensitivity_maps=MAPS[None]))
    whole, all_coils = solved(scan, maps=maps)
    few, coils = solved(scan, maps=maps, coils_virtual=words)
    assert (all_coils, coils) == (COILS, int(words.split(":")[0]))
    assert quality(few) > quality(whole) - 0.3
    assert quality(few, whole) > 50
    said = [n for n in scan.notes if n.startswith(f"32 channels compressed to {coils} virtual")]
    assert len(said) == 1
    assert "of the energy dropped at most" in said[0]


def test_all_as_virtual_coils_change_nothing(tmp_path: Path) -> None:
    scan = open_scan(write(tmp_path / "a.h5", MEASURED, mask=MASK, sensitivity_maps=MAPS[None]))
    whole, _ = solved(scan, remove_phase=False)
    for words in (f"{COILS}", f"{COILS}:geometric"):
        turned, _ = solved(scan, coils_virtual=words, remove_phase=False)
        np.testing.assert_allclose(turned, whole, atol=SAME * TRUTH.max())


def test_channels_are_whitened_first_and_their_noise_stays_white(tmp_path: Path) -> None:
    """A mixing matrix links the channels' noise; a noise scan tells it. Virtual coils have white noise of the level."""
    rng = np.random.default_rng(4)
    mix = np.eye(COILS) + 0.3 * rng.normal(size=(COILS, COILS)) / COILS**0.5
    mix[3] *= 8  # one loud channel, whose noise would be the first principal component
    silent = noise((COILS, 40_000), STD, seed=5)
    measured = CLEAN + np.tensordot(mix, noise(CLEAN.shape, STD, seed=6), 1)
    scan = open_scan(
        write(
            tmp_path / "a.h5",
            (measured * MASK)[None],
            mask=MASK,
            sensitivity_maps=MAPS[None],
            noise_scan=mix @ silent,
        )
    )
    whole, _ = solved(scan)
    for words in ("12", "12:geometric"):
        setup = scan.setup(SetupOptions(coils_virtual=words))
        few, _ = solved(scan, coils_virtual=words)
        assert quality(few) > quality(whole) - 0.3
        compression = setup.reception.compression(setup.reception.white(scan.kspace[0]), 0)
        pure = np.tensordot(mix, noise(CLEAN.shape, STD, seed=7), 1).astype(np.complex64)
        seen = compression.samples(setup.reception.white(pure)).flatten(1)
        covariance = (seen @ seen.mH / seen.shape[1] / (2 * setup.noise.std**2)).numpy()
        # Eigenvalues spread by 2 sqrt(12 / 3584), and those of the whitening by 2 sqrt(32 / 40000).
        np.testing.assert_allclose(covariance, np.eye(12), atol=0.2)


def test_what_does_not_fit_is_refused_before_the_work(tmp_path: Path) -> None:
    lines = open_scan(write(tmp_path / "a.h5", MEASURED, mask=MASK))
    points = np.random.default_rng(1).random(SHAPE) < 0.4
    points[24:40, 20:36] = True
    scattered = open_scan(write(tmp_path / "b.h5", (NOISY * points)[None], mask=points))
    for scan, words, sentence in (
        (lines, "0", "at least one coil must be left"),
        (lines, "33", "33 virtual coils are asked for, and 32 channels"),
        (lines, "12:gcc", "12:svd or 12:geometric"),
        (lines, "twelve", "expected a number"),
        (scattered, "12:geometric", "--coils-virtual 12:svd"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            scan.check(SetupOptions(coils_virtual=words))
    few, _ = solved(scattered, coils_virtual="12")
    assert quality(few) > 34
    dead = NOISY * MASK
    dead[5] = 0
    with pytest.raises(ConfigError, match="31 channels receive signal"):
        open_scan(write(tmp_path / "c.h5", dead[None], mask=MASK)).setup(SetupOptions(coils_virtual="32"))  # fmt: skip


def test_the_readout_of_a_mask() -> None:
    plane = np.broadcast_to(MASK, SHAPE)
    assert [readout_axis(m) for m in (MASK, MASK[None, None], plane, plane.T)] == [-2, -2, -2, -1]
    rows = np.stack([plane.T, np.roll(plane.T, 1, axis=0)])
    assert readout_axis(rows) == -1
    assert readout_axis(np.eye(5, dtype=bool)) is None


def test_an_unheard_loss_is_warned_of() -> None:
    assert "more of them keep more" in VirtualCoils(2).note(32, [0.01, 0.2])
    assert "more of them" not in VirtualCoils(12).note(32, [0.01])


def test_along_a_trajectory(tmp_path: Path) -> None:
    pytest.importorskip("finufft")
    from restore.operators.mri.noncartesian import NonCartesianMRI
    from restore.operators.mri.trajectories import Trajectory, radial

    points = radial(30, 64, SHAPE, full=True)
    operator = NonCartesianMRI(MAPS.astype(np.complex64), Trajectory(points))
    kspace = operator(torch.from_numpy(TRUTH)).numpy()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (kspace + noise(kspace.shape, STD)).astype(np.complex64)[None]
        file["trajectory"] = points
        file["trajectory"].attrs["matrix"] = SHAPE
        file["sensitivity_maps"] = MAPS.astype(np.complex64)[None]
    scan = open_scan(tmp_path / "a.h5")
    for maps in ("file", "espirit"):
        problem = scan.problem(range(1), CPU, SetupOptions(maps=maps, coils_virtual="12"))
        assert problem.y.shape[1] == 12
        # The measured samples are those of the true image with these maps.
        assert quality(problem.operator.pinv(problem.y)[0].abs().numpy()) > 30
    with pytest.raises(ConfigError, match="--coils-virtual 12:svd"):
        scan.check(SetupOptions(coils_virtual="12:geometric"))
    with pytest.raises(ConfigError, match="is for Cartesian slices"):
        scan.check(SetupOptions(maps_sets=2))


@pytest.mark.parametrize("maps", ["file", "espirit"])
def test_volumes_are_compressed_as_one(maps: str) -> None:
    """To six of eight coils, or to five along the readout, which leave out less."""
    head, images, dropped = head_phantom((12, 32, 28)), [], []
    for words, coils in (("", 8), ("6", 6), ("5:geometric", 5)):
        scan = simulate_mri_volume(head, coils=8, noise=0.001, acceleration=3, center_fraction=0.4)
        options = SetupOptions(maps=maps, coils_virtual=words)  # type: ignore[arg-type]
        scan.check(options)
        problem = scan.problem(range(12), CPU, options)
        assert problem.y.shape == (coils, 12, 32, 28)
        images.append(problem.operator.pinv(problem.y).abs())
        said = [note for note in scan.notes if "of the energy dropped" in note]
        dropped += [float(note.split(": ")[1].split(" %")[0]) for note in said]
    bright = images[0] > 0.2 * images[0].max()
    # Two of eight coils around a head hold a hundredth of the energy, and ten steps end elsewhere.
    for image in images[1:]:
        assert (image - images[0])[bright].norm() < 0.05 * images[0][bright].norm()
    assert dropped[1] < dropped[0]


@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_the_middle_of_a_volume_is_seen_as_its_samples_are(axis: int) -> None:
    """Compressing the middle gives the middle of what is compressed: matrices of every axis at their places."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.randn(5, 8, 10, 12, generator=generator, dtype=torch.complex64)
    found = geometric_compression(volume, 3, axis)
    box = [slice(2, 7), slice(3, 8), slice(4, 9)]
    box[axis] = slice(0, volume.shape[axis])
    matrix = (8, 10, 12)
    place = (slice(None), *box)
    before, after = (
        middle_of_volume(block[place], (box[0], box[1], box[2]), matrix)
        for block in (volume, found.samples(volume))
    )
    seen, expected = before.compressed(found).samples, after.samples
    if axis == -3:  # the window along z comes before the matrices, which then see each slice
        expected = torch.einsum("svc,schw->svhw", found.matrix, before.samples)
    torch.testing.assert_close(seen, expected, rtol=0, atol=SAME * float(expected.abs().max()))


def test_a_volume_without_a_whole_readout_is_not_compressed_along_one() -> None:
    scan = simulate_mri_volume(head_phantom((6, 32, 28)), coils=8, noise=0.001)
    cut = np.broadcast_to(scan.mask, scan.matrix).copy()
    cut[:, :4] = False
    scan = dataclasses.replace(scan, mask=cut)
    with pytest.raises(ConfigError, match="geometric coil compression is for Cartesian lines"):
        scan.check(SetupOptions(maps="file", coils_virtual="6:geometric"))
