"""Scans of few calibration lines: what their maps are estimated from, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from people_kspace import centred_fft, coil_maps, columns, noise, phantom, write

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
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


SIDES, RECEIVERS = (20, 18, 22), 5


def volume_and_maps() -> tuple[np.ndarray, np.ndarray]:
    """Two soft balls (D, H, W), and maps (coils, D, H, W) with sum |S|^2 = 1 of coils around them."""
    places = np.meshgrid(*((np.arange(n) - n // 2) / (n / 2) for n in SIDES), indexing="ij")
    image = np.zeros(SIDES)
    for value, middle, radius in ((1.0, (0, 0.05, -0.1), 0.65), (-0.5, (0.2, -0.15, 0.1), 0.3)):
        away = np.sqrt(sum((x - m) ** 2 for x, m in zip(places, middle, strict=True)))
        image += value / (1 + np.exp((away - radius) * 20))
    maps = []
    for number in range(RECEIVERS):
        angle, up = 2 * np.pi * number / RECEIVERS, 0.6 * (-1) ** number
        centre = (up, 1.3 * np.sin(angle), 1.3 * np.cos(angle))
        away = sum((x - m) ** 2 for x, m in zip(places, centre, strict=True))
        maps.append(np.exp(-0.6 * away + 1j * (angle + 0.5 * places[0] * np.cos(angle))))
    found = np.stack(maps)
    return image, found / np.sqrt((abs(found) ** 2).sum(0))


def volume_scan(path: Path, lines: int) -> CartesianVolumeScan:
    """A third of the points of both phase encodings, and all of the middle lines x lines of them."""
    image, maps = volume_and_maps()
    axes = (1, 2, 3)
    spectrum = np.fft.fftn(np.fft.ifftshift(maps * image, axes=axes), axes=axes, norm="ortho")
    kspace = np.fft.fftshift(spectrum, axes=axes) + noise((RECEIVERS, *SIDES), STD)
    mask = np.random.default_rng(5).random((SIDES[0], SIDES[2])) < 0.33
    z, y = (slice(n // 2 - lines // 2, n // 2 - lines // 2 + lines) for n in (SIDES[0], SIDES[2]))
    # A ring of nothing about the box, so that it is no larger.
    mask[z.start - 1 : z.stop + 1, y.start - 1 : y.stop + 1] = False
    mask[z, y] = True
    with h5py.File(path, "w") as file:
        file["kspace"] = (kspace.swapaxes(0, 1) * mask[:, None, None]).astype(np.complex64)
        file["mask"] = mask[:, None, :]
        file.attrs["encoding"] = "3d"
    scan = open_scan(path)
    assert isinstance(scan, CartesianVolumeScan)
    return scan


def test_the_middle_of_a_volume_is_filled_and_told(tmp_path: Path, monkeypatch) -> None:
    """Maps by five lines of both phase encodings lie nearer to the coils than those of the lines alone."""
    image, true = volume_and_maps()
    scan = volume_scan(tmp_path / "a.h5", 5)
    filled = scan.problem(range(SIDES[0]), CPU).operator
    (note,) = [n for n in scan.notes if "few to see coil maps in" in n]
    assert "5 x 5 lines along the two phase encodings" in note
    assert not any(n.startswith(DOUBTED) for n in scan.notes)
    monkeypatch.setattr(
        CartesianVolumeScan, "map_middle", lambda self, item, level: self.middle(item)
    )
    alone = scan.problem(range(SIDES[0]), CPU).operator
    off = [across(op.maps.numpy(), true, image) for op in (filled, alone)]
    assert off[0] < 0.5 * off[1]  # 0.014 and 0.070


def test_a_volume_of_many_lines_is_left_alone(tmp_path: Path) -> None:
    scan = volume_scan(tmp_path / "a.h5", 14)
    scan.problem(range(SIDES[0]), CPU)
    assert not any("few to see coil maps in" in n for n in scan.notes)


def across(maps: np.ndarray, true: np.ndarray, image: np.ndarray) -> float:
    """The part of the coil images (coils, D, H, W) that lies across the maps."""
    coils = true * image
    left = coils - maps * (maps.conj() * coils).sum(0)
    return float(np.linalg.norm(left) / np.linalg.norm(coils))
