"""Scans without calibration lines: refused with what to do, and set up with maps that are estimated with the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people_kspace import centred_fft, grid, noise, phantom, write

from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions
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
