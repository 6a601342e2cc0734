"""Scans of few calibration lines: what their maps are estimated from, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from people_kspace import centred_fft, coil_maps, columns, noise, phantom, write

from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions

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
