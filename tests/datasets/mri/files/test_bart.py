"""BART's pairs of files: Cartesian k-space, and spokes with their trajectory, of known images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bart_pairs import write_cfl

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.files.cfl import other_half
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.errors import ConfigError, InputError
from restore.operators.mri.fourier import fft2c
from restore.operators.mri.trajectories import Trajectory, radial
from restore.pipelines.recon_job import ReconJob

ROWS, COLUMNS, COILS = 16, 12, 2


def coil_images() -> torch.Tensor:
    """(coils, rows, columns): a rectangle that is no square, seen with two phases."""
    image = torch.zeros(COILS, ROWS, COLUMNS, dtype=torch.complex64)
    image[:, 4:13, 3:8] = 1
    return image * torch.tensor([1.0, 0.5j])[:, None, None]


def cartesian() -> np.ndarray:
    """(rows, columns, 1, coils)."""
    return fft2c(coil_images()).numpy().transpose(1, 2, 0)[:, :, None]


def image(scan: object) -> np.ndarray:
    problem = scan.setup().problem(range(1), torch.device("cpu"))  # type: ignore[attr-defined]
    return problem.operator.pinv(problem.y).abs().numpy()[0]


def test_cartesian_kspace_of_slices(tmp_path: Path):
    values = cartesian()
    one = write_cfl(tmp_path / "one", values)
    scan = open_scan(one)
    assert scan.shape == (1, COILS, ROWS, COLUMNS)
    np.testing.assert_array_equal(scan.kspace[0], values[:, :, 0].transpose(2, 0, 1))
    assert np.corrcoef(image(scan).ravel(), coil_images()[0].abs().ravel())[0, 1] > 0.99
    slices = np.stack([values, 2 * values], -1).reshape(ROWS, COLUMNS, 1, COILS, *[1] * 9, 2)
    write_cfl(tmp_path / "two", slices)
    for name in ("two", "two.hdr"):  # BART names its files without their ends
        many = open_scan(tmp_path / name)
        assert many.shape == (2, COILS, ROWS, COLUMNS)
        np.testing.assert_array_equal(many.kspace[1], 2 * scan.kspace[0])


def test_the_pattern_is_the_mask(tmp_path: Path):
    values = cartesian()
    values[:, ::3] = 0
    path = write_cfl(tmp_path / "k", values)
    lines = np.ones((ROWS, COLUMNS))
    lines[:, ::3] = 0
    scan = open_scan(path, pattern=str(write_cfl(tmp_path / "p", lines)))
    np.testing.assert_array_equal(scan.mask, lines[0] != 0)
    with pytest.raises(
        InputError, match="lie outside 'mask', though k-space is undersampled already"
    ):
        open_scan(path, pattern=str(write_cfl(tmp_path / "q", 1 - lines)))
    with pytest.raises(InputError, match=r"has shape \(16, 5, 1.*expected \(16, 12, 1"):
        open_scan(path, pattern=str(write_cfl(tmp_path / "r", lines[:, :5])))
    with pytest.raises(InputError, match="values other than 0 and 1"):
        open_scan(path, pattern=str(write_cfl(tmp_path / "w", lines * np.arange(1, 13))))
    slices = np.stack([cartesian(), values], -1).reshape(ROWS, COLUMNS, 1, COILS, *[1] * 9, 2)
    each = np.stack([np.ones_like(lines), lines], -1).reshape(ROWS, COLUMNS, *[1] * 11, 2)
    several = write_cfl(tmp_path / "s", slices)
    found = open_scan(several, pattern=str(write_cfl(tmp_path / "e", each)))
    np.testing.assert_array_equal(found.mask[:, 0], [np.ones(COLUMNS), lines[0]])
    fewer = open_scan(several, pattern=str(tmp_path / "p"))  # BART's names need no end
    assert not fewer.kspace[0][..., ::3].any()
    assert any("lie outside 'mask': left out" in note for note in fewer.notes)
    np.save(tmp_path / "a.npy", np.ones((4, 4), np.complex64))
    with pytest.raises(ConfigError, match="pattern is for BART"):
        open_scan(tmp_path / "a.npy", pattern="p.cfl")


def test_a_pattern_for_every_slice(tmp_path: Path):
    values = np.stack([cartesian(), cartesian()], -1).reshape(ROWS, COLUMNS, 1, COILS, *[1] * 9, 2)
    lines = np.ones((1, COLUMNS, *[1] * 11, 2))
    lines[:, ::3, ..., 0] = lines[:, 1::3, ..., 1] = 0
    path, pattern = write_cfl(tmp_path / "k", values * lines), write_cfl(tmp_path / "p", lines)
    for scan in (open_scan(path, pattern=str(pattern)), open_scan(path)):
        np.testing.assert_array_equal(scan.mask[:, 0], np.moveaxis(lines.squeeze(), -1, 0) != 0)


DEPTH = 6


def volume() -> np.ndarray:
    """K-space (rows, columns, D, coils) of a box, by numpy."""
    image = np.zeros((ROWS, COLUMNS, DEPTH))
    image[4:13, 3:8, 2:5] = 1 + np.arange(3)
    coils = image[..., None] * np.array([1.0, 0.5j])
    axes = (0, 1, 2)
    samples = np.fft.fftn(np.fft.ifftshift(coils, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(samples, axes=axes)


def test_three_cartesian_dimensions(tmp_path: Path):
    values = volume()
    lines = np.indices((1, COLUMNS, DEPTH)).sum(0) % 2 == 0
    lines[:, 4:9, 1:5] = True
    path, pattern = (
        write_cfl(tmp_path / "k", values * lines[..., None]),
        write_cfl(tmp_path / "p", lines),
    )
    for scan in (open_scan(path, pattern=str(pattern)), open_scan(path)):
        assert isinstance(scan, CartesianVolumeScan)
        np.testing.assert_array_equal(scan.sampled[:, 3], lines[0].T)
        np.testing.assert_array_equal(
            scan.partitions[2],
            (values * lines[..., None])[:, :, 2].transpose(2, 0, 1).astype(np.complex64),
        )
    slices = open_scan(write_cfl(tmp_path / "full", values))
    assert isinstance(slices, MRIScan)
    found = np.abs(slices.setup().problem(range(DEPTH), torch.device("cpu")).y.numpy())
    expected = np.fft.fftshift(
        np.fft.ifft(np.fft.ifftshift(values, axes=2), axis=2, norm="ortho"), axes=2
    )
    np.testing.assert_allclose(found[3], np.abs(expected[:, :, 3]).transpose(2, 0, 1), atol=1e-5)
    corner = write_cfl(tmp_path / "corner", np.fft.ifftshift(values, axes=2))
    with pytest.raises(InputError, match="energy lies in partition 0"):
        open_scan(corner)
    with pytest.raises(InputError, match=r"has shape \(1, 11, 6\), expected \(16, 12, 6\)"):
        open_scan(path, pattern=str(write_cfl(tmp_path / "q", lines[:, :11])))
    slabs = write_cfl(
        tmp_path / "s", np.stack([values] * 2, -1).reshape(*values.shape, *[1] * 9, 2)
    )
    with pytest.raises(InputError, match="2 slabs of 6 partitions"):
        open_scan(slabs)


def test_spokes(tmp_path: Path):
    pytest.importorskip("finufft")
    from restore.operators.mri.nonuniform import nufft

    points = radial(30, 32, (ROWS, COLUMNS), full=True)
    samples = nufft(coil_images(), Trajectory(points), 2).numpy()  # (coils, readouts, samples)
    path = write_cfl(tmp_path / "k", samples.transpose(2, 1, 0)[None])
    three = np.concatenate([points, np.zeros((30, 32, 1))], -1)
    trajectory = write_cfl(tmp_path / "t", three.transpose(2, 1, 0))
    scan = open_scan(path, trajectory=str(trajectory))
    assert isinstance(scan, NonCartesianScan)
    assert (scan.shape, scan.matrix) == ((1, COILS, 30, 32), (ROWS, COLUMNS))
    assert np.corrcoef(image(scan).ravel(), coil_images()[0].abs().ravel())[0, 1] > 0.95
    with pytest.raises(InputError, match=r"as of a scan along a trajectory.*--trajectory FILE"):
        open_scan(path)
    short = write_cfl(tmp_path / "s", three.transpose(2, 1, 0)[:, :30])
    with pytest.raises(
        InputError, match=r"'trajectory' has shape \(30, 30, 2\), and k-space is \(30, 32\)"
    ):
        open_scan(path, trajectory=str(short))


def test_odd_pairs_are_named(tmp_path: Path):
    path = write_cfl(tmp_path / "a", cartesian())
    path.with_suffix(".hdr").write_text("# Dimensions\n16 12 1 3\n")
    with pytest.raises(InputError, match=r"holds 3072 bytes, and a\.hdr says 4608"):
        open_scan(path)
    path.with_suffix(".hdr").write_text("# Dimensions\n16 -12 1 2\n")
    with pytest.raises(InputError, match="no sizes of axes"):
        open_scan(path)
    echoes = write_cfl(
        tmp_path / "b", np.stack([cartesian()] * 2, -1).reshape(ROWS, COLUMNS, 1, COILS, 1, 2)
    )
    with pytest.raises(InputError, match="has 2 echoes along BART's axis 5"):
        open_scan(echoes)


def test_a_job_knows_both_files(tmp_path: Path):
    numbers = write_cfl(tmp_path / "a", cartesian())
    header = numbers.with_suffix(".hdr")
    assert other_half(tmp_path / "a.nii") == ()

    def marks() -> list[str]:
        return [
            ReconJob(path, tmp_path / "o.nii", sampler="tv").fingerprint()
            for path in (numbers, header)
        ]

    before = marks()
    header.write_text(f"# Dimensions\n{COLUMNS} {ROWS} 1 {COILS}\n")
    turned = marks()
    write_cfl(tmp_path / "a", 2 * cartesian())
    assert all(len({a, b, c}) == 3 for a, b, c in zip(before, turned, marks(), strict=True))
