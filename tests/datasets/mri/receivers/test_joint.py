"""Scans without calibration lines: refused with what to do, and set up with maps that are estimated with the image."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from people_kspace import centred_fft, grid, noise, phantom, write

from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.noncartesian import simulate_noncartesian
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError

CPU = torch.device("cpu")
SHAPE, COILS, STD = (72, 66), 6, 0.002
JOINT = SetupOptions(maps="joint")


def loops() -> np.ndarray:
    down, across = grid(SHAPE)
    angles = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    y, x = down - 1.3 * np.sin(angles), across - 1.3 * np.cos(angles)
    maps = (y + 1j * x) / (y**2 + x**2 + 0.05) ** 1.25
    return maps / np.sqrt((np.abs(maps) ** 2).sum(0))


TRUTH, MAPS = phantom(SHAPE), loops()
PHASE = np.exp(0.7j * grid(SHAPE)[0])
INSIDE = TRUTH > 0.2
_columns = np.arange(SHAPE[1])
_chance = 0.3 + 0.6 * np.exp(-(((_columns - SHAPE[1] // 2) / 12) ** 2))
LINES = (np.random.default_rng(3).random(SHAPE[1]) < _chance) & (_columns % 4 != 1)
CLEAN = centred_fft(MAPS * TRUTH * PHASE)


def scan_of(path: Path, kspace: np.ndarray, mask: np.ndarray, **items: object) -> Scan:
    return open_scan(write(path / "a.h5", (kspace * mask)[None], mask=mask, **items))


def test_maps_and_scale_are_those_of_the_image(tmp_path: Path) -> None:
    scan = scan_of(tmp_path, CLEAN + noise(CLEAN.shape, STD), LINES)
    with pytest.raises(InputError, match="--maps joint"):
        scan.check()
    scan.check(JOINT)
    setup = scan.setup(JOINT)
    assert setup.record["maps"] == "joint"
    assert sum("estimated together with the images (joint)" in note for note in scan.notes) == 1
    assert not any("unexplained" in note for note in scan.notes)
    # The middle of k-space has lost details: the brightest of the image is blurred.
    assert setup.scaling.scale == pytest.approx(TRUTH.max(), rel=0.2)
    maps = setup.problem(range(1), CPU).operator.maps[0].numpy()
    along = (maps.conj() * MAPS).sum(0)[INSIDE]
    assert np.abs(along).mean() > 0.998
    # Maps bear the image's phase: what is left of it is nearly real and positive.
    turned = along * PHASE.repeat(SHAPE[1], 1)[INSIDE]
    assert (turned.real / np.abs(turned)).mean() > 0.99


def test_loud_channels_are_whitened_and_compressed_first(tmp_path: Path) -> None:
    loud = noise(CLEAN.shape, STD)
    loud[2] *= 5
    silent = noise((COILS, 4000), STD, seed=3)
    silent[2] *= 5
    scan = scan_of(tmp_path, CLEAN + loud, LINES, noise_scan=silent)
    problem = scan.problem(range(1), CPU, SetupOptions(maps="joint", coils_virtual="5"))
    assert problem.y.shape == (1, 5, *SHAPE)
    # The operator with these maps explains the samples by an image of the true brightness.
    image = problem.operator.pinv(problem.y)[0].abs().numpy()
    assert np.median(image[INSIDE] / TRUTH[INSIDE]) == pytest.approx(1, rel=0.15)


def test_what_cannot_be_told_is_refused_before_the_work(tmp_path: Path) -> None:
    even = scan_of(tmp_path, CLEAN, _columns % 2 == 1)
    with pytest.raises(ConfigError, match="sampled evenly"):
        even.check(JOINT)
    one = open_scan(write(tmp_path / "b.h5", CLEAN[:1, None] * LINES, mask=LINES))
    with pytest.raises(ConfigError, match="one coil"):
        one.check(JOINT)


def test_an_estimate_that_explains_little_says_so(tmp_path: Path) -> None:
    """Every line of every channel with a phase of its own: no image and smooth maps explain them."""
    turns = np.exp(2j * np.pi * np.random.default_rng(1).random((COILS, 1, SHAPE[1])))
    scan = scan_of(tmp_path, CLEAN * turns + noise(CLEAN.shape, STD), LINES)
    scan.setup(JOINT)
    assert any("unexplained, so that the maps are wrong" in note for note in scan.notes)


def test_spokes_around_an_unmeasured_middle(tmp_path: Path) -> None:
    """Radial lines without their five innermost samples."""
    pytest.importorskip("finufft")
    from restore.operators.mri.noncartesian import NonCartesianMRI
    from restore.operators.mri.trajectories import Trajectory, radial

    points = radial(40, 2 * SHAPE[0], SHAPE, full=True)
    centre = points.shape[1] // 2
    points = np.delete(points, np.s_[centre - 2 : centre + 3], axis=1)
    operator = NonCartesianMRI(MAPS.astype(np.complex64), Trajectory(points))
    kspace = operator(torch.from_numpy((TRUTH * PHASE).astype(np.complex64))).numpy()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = (kspace + noise(kspace.shape, STD)).astype(np.complex64)[None]
        file["trajectory"] = points
        file["trajectory"].attrs["matrix"] = SHAPE
    scan = open_scan(tmp_path / "a.h5")
    scan.check(JOINT)
    setup = scan.setup(JOINT)
    assert setup.record["maps"] == "joint"
    assert sum("estimated together with the images (joint)" in note for note in scan.notes) == 1
    problem = setup.problem(range(1), CPU)
    along = (problem.operator.maps[0].numpy().conj() * MAPS).sum(0)[INSIDE]
    assert np.abs(along).mean() > 0.99
    image = problem.operator.pinv(problem.y)[0].abs().numpy()
    assert np.median(image[INSIDE] / TRUTH[INSIDE]) == pytest.approx(1, rel=0.15)
    turned = along * PHASE.repeat(SHAPE[1], 1)[INSIDE]
    assert (turned.real / np.abs(turned)).mean() > 0.95


def test_a_volume_without_calibration_lines() -> None:
    """Six tenths of both phase encodings by chance."""
    head = head_phantom((6, 24, 20))
    whole = simulate_mri_volume(head, coils=4, noise=0.001, acceleration=1)
    mask = np.random.default_rng(2).random((6, 1, 20)) < 0.6
    mask[3, 0, 10] = True
    full = whole.partitions
    measured = LazyStack(full.shape, lambda index: full[index] * mask[index])
    scan = dataclasses.replace(whole, mask=mask, partitions=measured, slice_maps=None)
    with pytest.raises(InputError, match="--maps joint"):
        scan.check()
    scan.check(JOINT)
    problem = scan.problem(range(6), CPU, JOINT)
    assert sum("32 x 32 x 32 samples" in note for note in scan.notes) == 1
    assert not any("unexplained" in note for note in scan.notes)
    inside = head.data > 0.2 * head.data.max()
    along = np.abs((problem.operator.maps.numpy().conj() * whole.maps[0]).sum(0))[inside]
    assert along.mean() > 0.98
    image = problem.operator.pinv(problem.y).abs().numpy()
    given = dataclasses.replace(scan, slice_maps=whole.slice_maps).problem(range(6), CPU)
    best = given.operator.pinv(given.y).abs().numpy()
    assert np.median(image[inside] / best[inside]) == pytest.approx(1, rel=0.15)


def test_volumes_that_cannot_be_told_are_refused() -> None:
    scan = simulate_mri_volume(head_phantom((8, 24, 20)), coils=4, noise=0.001)
    even = np.zeros((8, 1, 20), bool)
    even[:, :, ::2] = True
    with pytest.raises(ConfigError, match="sampled evenly"):
        dataclasses.replace(scan, mask=even).check(JOINT)
    pytest.importorskip("finufft")
    stars = simulate_noncartesian(head_phantom((4, 16, 16)), "stars:9", coils=3)
    with pytest.raises(ConfigError, match="slices along a trajectory"):
        stars.check(JOINT)
