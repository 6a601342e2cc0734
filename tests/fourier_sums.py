"""The Fourier transform at any samples, written out as a matrix: what fast transforms are held against."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from restore.operators.mri.trajectories import Trajectory


def anywhere(shape: tuple[int, ...], readouts: int = 3, samples: int = 5) -> Trajectory:
    unit = np.random.default_rng(0).random((readouts, samples, len(shape))) - 0.5
    return Trajectory(unit * np.array(shape))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.complex128)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - wanted) / torch.linalg.vector_norm(wanted))


def fourier_sums(trajectory: Trajectory, shape: tuple[int, ...]) -> Tensor:
    """The matrix written out: (readouts, samples, pixels)."""
    grids = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    parts = zip(np.moveaxis(trajectory.points, -1, 0), grids, shape, strict=True)
    phase = sum(k[..., None] * r.reshape(-1) / n for k, r, n in parts)
    return torch.from_numpy(np.exp(-2j * np.pi * phase) / math.sqrt(math.prod(shape)))
