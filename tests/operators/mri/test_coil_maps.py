"""ESPIRiT against sigpy on a real head and against known coils; regions; image phase."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.coil_maps import (
    calibration_region,
    espirit,
    fold_phase,
    image_phase,
)
from restore.operators.mri.fourier import fft2c

CROPPED = 1e-3  # pixels at the threshold fall on either side, one in a thousand
SINGLE = 2e-3  # float32: a covariance of 1e5 products squares the condition of the calibration; 1.3e-4 seen
DOUBLE = 1e-6  # float64: the eigenvectors' gap divides 1e-16 of sums over 1e5 products; 5e-9 seen
IMAGINARY = 0.06  # noise of 1 % and smooth maps leave that much of the phase


def scene(height: int, width: int, coils: int = 6, noise: float = 0.0) -> tuple[Tensor, ...]:
    """K-space, smooth complex maps, image with a smooth phase, and where the object is."""
    y = torch.linspace(-1, 1, height, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, width, dtype=torch.float64)
    angles = torch.arange(coils) * (2 * torch.pi / coils)
    rows, columns = torch.sin(angles)[:, None, None], torch.cos(angles)[:, None, None]
    maps = torch.exp(-((y - rows) ** 2 + (x - columns) ** 2) / 2)
    maps = maps * torch.exp(1j * (angles[:, None, None] + 0.6 * y * rows - 0.5 * x * columns))
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    inside = y**2 / 0.6 + x**2 / 0.5 < 1
    image = inside * (1 + 0.3 * torch.cos(9 * x) * torch.sin(7 * y)) + 0.5 * (
        (y - 0.2) ** 2 + (x + 0.1) ** 2 < 0.05
    )
    phase = torch.exp(1j * (0.8 * x**2 - 0.6 * x * y + 0.4 * y))
    kspace = fft2c(maps * image * phase)
    generator = torch.Generator().manual_seed(5)
    kspace = kspace + noise * torch.randn(kspace.shape, generator=generator, dtype=torch.complex128)
    return kspace, maps, image, phase, inside


def overlap(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    return (a.conj() * b).sum(-3).abs()[..., where]


def test_finds_known_coils() -> None:
    kspace, truth, _, _, inside = scene(64, 61, noise=1e-3)
    maps, values = espirit(kspace, 24)
    assert overlap(maps, truth, inside).min() > 0.999
    assert values[inside].min() > 0.95
    assert values.max() < 1 + 1e-6
    torch.testing.assert_close(
        torch.linalg.vector_norm(maps, dim=0), torch.ones(64, 61, dtype=torch.float64)
    )


def test_matches_sigpy_on_a_head(samples: Path) -> None:
    app = pytest.importorskip("sigpy.mri.app")
    kspace = np.load(samples / "brain_8ch_kspace.npz")["kspace"][:, 35:195]
    settings = {"calib_width": 24, "thresh": 0.02, "kernel_width": 6, "crop": 0.95}
    peer = torch.from_numpy(
        app.EspiritCalib(kspace, show_pbar=False, max_iter=40, **settings).run()
    )
    maps, _ = espirit(torch.from_numpy(kspace), 24, crop=0.95)
    seen = peer.abs().sum(0) > 0
    agree = overlap(maps, peer, seen)
    assert agree.mean() > 0.9999
    assert agree.min() > 0.999
    assert (seen != (maps.abs().sum(0) > 0)).double().mean() < CROPPED


@pytest.mark.parametrize(
    ("rows", "columns", "least"), [(24, 9, 0.998), (12, 12, 0.998), (24, 5, 0.98)]
)
def test_small_regions(rows: int, columns: int, least: float) -> None:
    kspace, truth, _, _, inside = scene(64, 60, noise=1e-3)
    maps, _ = espirit(kspace, (rows, columns))
    assert overlap(maps, truth, inside).mean() > least


def test_region_is_found_when_not_given() -> None:
    kspace, truth, _, _, inside = scene(48, 50)
    mask = torch.zeros(50)
    mask[::4] = 1
    mask[20:30] = 1
    maps, _ = espirit(kspace * mask)
    again, _ = espirit(kspace, (24, 10))
    torch.testing.assert_close(maps, again)
    assert overlap(maps, truth, inside).mean() > 0.998


def test_slices_are_independent_and_empty_ones_harmless() -> None:
    first, second = scene(32, 30)[0], scene(32, 30, noise=0.05)[0]
    stack = torch.stack([first, torch.zeros_like(first), second])
    maps, values = espirit(stack)
    for item, alone in ((0, first), (2, second)):
        single, value = espirit(alone)
        torch.testing.assert_close(maps[item], single)
        torch.testing.assert_close(values[item], value)
    size = torch.linalg.vector_norm(maps, dim=-3)
    torch.testing.assert_close(size, torch.ones_like(size))


def test_single_precision_scale_and_phase() -> None:
    kspace, _, _, _, inside = scene(40, 36, noise=1e-3)
    maps, _ = espirit(kspace, 20)
    for factor in (1e-6, 1e6):
        small, _ = espirit((factor * kspace).to(torch.complex64), 20)
        assert small.dtype == torch.complex64
        torch.testing.assert_close(small.to(torch.complex128), maps, rtol=0, atol=SINGLE)
    turned, _ = espirit(kspace * 1j, 20)
    # Outside the object eigenvalues nearly coincide, and their vectors are only loosely defined.
    torch.testing.assert_close(turned[:, inside], maps[:, inside], rtol=0, atol=DOUBLE)


def test_crop_removes_only_what_has_no_signal() -> None:
    kspace, _, _, _, inside = scene(48, 48, noise=1e-2)
    whole, values = espirit(kspace, 24)
    cropped, _ = espirit(kspace, 24, crop=0.9)
    keep = values > 0.9
    assert keep[inside].double().mean() > 0.99
    assert not keep.all()
    assert torch.equal(cropped, whole * keep)


@pytest.mark.parametrize("width", [15, 16])
def test_calibration_region(width: int) -> None:
    centre = width // 2
    mask = torch.zeros(width)
    mask[centre - 2 : centre + 3] = 1
    mask[0] = 1
    assert calibration_region(mask) == (slice(None), slice(centre - 2, centre + 3))
    plane = mask.bool().expand(10, width).clone()
    assert calibration_region(plane) == (slice(0, 10), slice(centre - 2, centre + 3))
    plane[8, centre] = False
    plane[1, centre + 1] = False
    assert calibration_region(plane) == (slice(2, 8), slice(centre - 2, centre + 3))
    slices = plane.expand(3, 10, width).clone()
    slices[1, :, centre - 2] = False
    assert calibration_region(slices) == (slice(2, 8), slice(centre - 1, centre + 3))


def test_unusable_kspace_is_refused() -> None:
    kspace = scene(32, 30)[0]
    narrow = torch.zeros(30)
    narrow[14:17] = 1
    with pytest.raises(ConfigError, match="24 x 3"):
        espirit(kspace * narrow)
    with pytest.raises(ConfigError, match="not sampled"):
        espirit(kspace * (1 - narrow))
    with pytest.raises(ConfigError, match="at least 4"):
        espirit(kspace, 3)
    with pytest.raises(ShapeError, match="complex"):
        espirit(kspace.real)
    with pytest.raises(ShapeError, match="same"):
        image_phase(kspace, kspace[:2])


def test_phase_removal_makes_the_image_real() -> None:
    kspace, maps, image, phase, inside = scene(64, 60, noise=1e-3)
    found = image_phase(kspace, maps, 16)
    torch.testing.assert_close(found.abs(), torch.ones(64, 60, dtype=torch.float64))
    assert (found * phase.conj())[inside].real.min() > 0.95
    folded = fold_phase(maps, found)
    remaining = (folded.conj() * (maps * image * phase)).sum(-3)
    assert remaining.imag.norm() < IMAGINARY * remaining.real.norm()
    assert remaining.real[inside].min() > 0
    estimated, _ = espirit(kspace, 24)
    with_estimate = fold_phase(estimated, image_phase(kspace, estimated, 16))
    image_again = (with_estimate.conj() * (maps * image * phase)).sum(-3)
    assert image_again.imag.norm() < IMAGINARY * image_again.real.norm()


def test_phase_of_nothing_is_one() -> None:
    nothing = torch.zeros(2, 3, 8, 9, dtype=torch.complex64)
    maps = torch.ones_like(nothing)
    assert torch.equal(image_phase(nothing, maps, 4), torch.ones(2, 8, 9, dtype=torch.complex64))


MEMORY = """
import resource, torch
from restore.operators.mri.coil_maps import espirit
kspace = torch.zeros(64, 320, 320, dtype=torch.complex64)
centre = torch.randn(64, 24, 24, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
kspace[:, 148:172, 148:172] = centre
espirit(kspace, 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_maps_of_64_coils_take_less_than_2_gb() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 2
