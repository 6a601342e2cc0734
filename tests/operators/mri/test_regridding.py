"""The gridded middle of k-space, and coil maps from it, against Cartesian k-space of the same coils."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from restore.errors import ConfigError
from restore.operators.mri.coil_maps import espirit
from restore.operators.mri.fourier import fft2c
from restore.operators.mri.nonuniform import nufft
from restore.operators.mri.regridding import gridded_centre
from restore.operators.mri.trajectories import Trajectory, radial

pytest.importorskip("finufft")

N = 48


def coil_images() -> torch.Tensor:
    """Four coils that see an ellipse with a hole."""
    row = torch.linspace(-1, 1, N)
    y, x = row[:, None], row[None]
    image = ((y / 0.8) ** 2 + (x / 0.6) ** 2 < 1).float()
    image -= 0.5 * ((y - 0.2) ** 2 + (x + 0.1) ** 2 < 0.06).float()
    centres = torch.tensor([[-1.0, 0], [1, 0], [0, -1], [0, 1]])
    distance = (y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2
    return image * torch.exp(-distance / 2) * torch.exp(1j * centres.sum(1))[:, None, None]


def test_lines_are_those_of_the_coils():
    images = coil_images().to(torch.complex64)
    trajectory = Trajectory(radial(64, 96, (N, N), full=True))
    lines, region = gridded_centre(nufft(images, trajectory, 2), trajectory, (N, N), 12)
    assert region == (slice(18, 30), slice(18, 30))
    wanted = fft2c(images)[(..., *region)]
    error = (lines[(..., *region)] - wanted).norm() / wanted.norm()
    assert error < 0.01  # density of 15 steps and 15 of conjugate gradients; 1e-3 seen
    outside = lines.clone()
    outside[(..., *region)] = 0
    assert not outside.any()
    inside = images.abs().sum(0) > 0.3
    maps = [espirit(k, region)[0][:, inside] for k in (lines, fft2c(images))]
    overlap = (maps[0].conj() * maps[1]).sum(0).abs()
    assert float(overlap.min()) > 0.99  # 0.9999 seen


def test_a_centre_without_samples_is_refused():
    ring = np.stack([np.cos(np.arange(50)), np.sin(np.arange(50))], -1)[None] * 20
    with pytest.raises(ConfigError, match="0 samples within 8 cycles of the centre"):
        gridded_centre(torch.zeros(1, 1, 50, dtype=torch.complex64), Trajectory(ring), (N, N), 8)
