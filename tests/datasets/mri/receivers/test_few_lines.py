"""Scans of few calibration lines: what their maps are estimated from, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people_kspace import centred_fft, coil_maps, columns, noise, phantom, write

from restore.datasets.mri.receivers.few_lines import DOUBTED, filling_doubt
from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions
from restore.operators.mri.joint_maps import JointEstimate

CPU = torch.device("cpu")
SHAPE, COILS, STD = (56, 52), 8, 0.002
TRUTH, MAPS = phantom(SHAPE), coil_maps(SHAPE, COILS)
MIDDLE = SHAPE[1] // 2


def scan_of(path: Path, few: int, **items: object) -> Scan:
    """Every fourth line, and so many in the middle."""
    mask = columns(SHAPE[1], 4, MIDDLE - few // 2, MIDDLE - few // 2 + few, offset=MIDDLE % 4)
    kspace = (centred_fft(MAPS * TRUTH) + noise((COILS, *SHAPE), STD)) * mask
    return open_scan(write(path / "a.h5", np.stack([kspace, 0.5 * kspace]), mask=mask, **items))


@pytest.mark.parametrize("maps", ["auto", "espirit"])
def test_few_lines_are_filled_and_told(tmp_path: Path, maps: str) -> None:
    scan = scan_of(tmp_path, 5)
    setup = scan.setup(SetupOptions(maps=maps))
    told = [note for note in scan.notes if "few to see coil maps in" in note]
    assert len(told) == 1
    assert "5 lines" in told[0]
    problem = setup.problem(range(2), CPU)
    # With these maps the operator explains the samples by the image.
    images = problem.operator.pinv(problem.y).abs().numpy()
    inside = TRUTH > 0.2
    for image, bright in zip(images, (1.0, 0.5), strict=True):
        error = np.abs(image - bright * TRUTH)[inside]
        assert np.sqrt((error**2).mean()) < 0.1 * bright


def test_enough_lines_and_maps_of_the_file_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    scan = scan_of(tmp_path / "long", 13)
    scan.setup(SetupOptions())
    given = scan_of(tmp_path, 5, sensitivity_maps=np.stack([MAPS, MAPS]).astype(np.complex64))
    given.setup(SetupOptions())
    assert not any("few to see coil maps in" in note for s in (scan, given) for note in s.notes)


def doubts_of(kspace: np.ndarray, path: Path) -> list[str]:
    """Of the problem of two slices with eleven lines in the middle, and one in four by chance."""
    mask = np.random.default_rng(3).random(SHAPE[1]) < 0.25
    mask[16:36:2] = False
    mask[21:32] = True
    scan = open_scan(write(path, np.stack([kspace * mask] * 2), mask=mask))
    scan.problem(range(2), CPU)
    return [note for note in scan.notes if note.startswith(DOUBTED)]


def test_lines_that_do_not_belong_together_are_told_once(tmp_path: Path) -> None:
    sound = centred_fft(MAPS * TRUTH) + noise((COILS, *SHAPE), STD)
    assert not doubts_of(sound, tmp_path / "a.h5")
    phases = np.exp(1j * np.random.default_rng(0).normal(0, 1, SHAPE[1]))
    (note,) = doubts_of(sound * phases, tmp_path / "b.h5")
    assert "of the samples of slice 0 unexplained beyond the noise" in note
    assert "--maps FILE" in note


def test_noise_that_is_left_over_is_no_doubt() -> None:
    ones = torch.ones(8, 8, dtype=torch.complex64)
    estimate = JointEstimate(ones, ones[None], left=0.01, misfit=0.2)
    assert filling_doubt(estimate, 0.00999, "slice 0") is None
    assert "20 %" in str(filling_doubt(estimate, None, "slice 0"))
    assert "17 %" in str(filling_doubt(estimate, 0.005, "slice 0"))
