"""Image and maps estimated together, against known coils: without calibration lines, and where it cannot be done."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.fourier import fft2c
from restore.operators.mri.joint_maps import check_sampling, joint_estimate

SHAPE, COILS, NOISE = (72, 66), 6, 0.002


def scene() -> tuple[Tensor, Tensor, Tensor]:
    """K-space, maps of norm one, where the object is."""
    y, x = torch.linspace(-1, 1, SHAPE[0])[:, None], torch.linspace(-1, 1, SHAPE[1])
    angle = 2 * torch.pi * torch.arange(COILS)[:, None, None] / COILS
    down, across = y - 1.3 * torch.sin(angle), x - 1.3 * torch.cos(angle)
    maps = torch.complex(down, across) / (down**2 + across**2 + 0.05) ** 1.25
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    inside = y**2 / 0.5 + x**2 / 0.4 < 1
    image = inside * (1 + 0.4 * torch.cos(19 * y) * torch.sin(13 * x))
    noise = torch.randn(COILS, *SHAPE, 2, generator=torch.Generator().manual_seed(2))
    kspace = fft2c(maps * image * torch.exp(0.6j * y)) + NOISE * torch.view_as_complex(noise)
    return kspace, maps, inside


def lines(seed: int) -> Tensor:
    """Random lines, denser about the middle, where no four are side by side."""
    columns = torch.arange(SHAPE[1])
    chance = 0.3 + 0.6 * torch.exp(-(((columns - SHAPE[1] // 2) / 12) ** 2))
    mask = torch.rand(SHAPE[1], generator=torch.Generator().manual_seed(seed)) < chance
    return mask & (columns % 4 != 1)


def test_known_coils_are_found_without_calibration_lines() -> None:
    kspace, truth, inside = scene()
    mask = lines(0)
    found = joint_estimate(kspace * mask, mask)
    maps = found.maps(SHAPE)
    overlap = (maps.conj() * truth).sum(0).abs()[inside]
    assert overlap.mean() > 0.999
    assert overlap.min() > 0.98
    torch.testing.assert_close(torch.linalg.vector_norm(maps, dim=0), torch.ones(SHAPE))
    assert found.left < 4 * NOISE
    # What was not measured of the middle is filled as it would have been.
    filled, region = found.centre(SHAPE)
    full = kspace[:, region[0], region[1]]
    assert (filled[:, region[0], region[1]] - full).norm() < 0.05 * full.norm()
    assert filled.norm() == pytest.approx(float(filled[:, region[0], region[1]].norm()))


@pytest.mark.slow
def test_brightness_of_the_samples_changes_nothing_else() -> None:
    kspace, _, _ = scene()
    mask = lines(0)
    one, bright = (joint_estimate(f * kspace * mask, mask) for f in (1, 1e5))
    # Twelve Gauss-Newton steps of float32, each ended where conjugate gradients reach 2 %.
    torch.testing.assert_close(
        bright.coils, one.coils, rtol=0, atol=0.02 * float(one.coils.abs().max())
    )
    assert bright.left == pytest.approx(1e5 * one.left, rel=0.02)


def test_what_cannot_be_told_is_refused() -> None:
    kspace, _, _ = scene()
    columns = torch.arange(SHAPE[1])
    for step in (2, 3):
        with pytest.raises(ConfigError, match="sampled evenly"):
            joint_estimate(kspace, columns % step == 0)
    beside = columns % 2 == 0
    beside[SHAPE[1] // 2] = True
    check_sampling(beside, SHAPE)
    with pytest.raises(ConfigError, match="nothing was measured"):
        joint_estimate(kspace, torch.zeros(SHAPE[1]))
    with pytest.raises(ConfigError, match="one coil"):
        joint_estimate(kspace[:1], lines(1))
    with pytest.raises(ShapeError, match="complex"):
        joint_estimate(kspace.real, lines(1))


def test_a_slice_of_zeros_has_finite_maps() -> None:
    nothing = joint_estimate(torch.zeros(3, *SHAPE, dtype=torch.complex64), lines(1))
    assert nothing.maps(SHAPE).isfinite().all()
    assert not nothing.image.any()
