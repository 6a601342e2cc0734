"""Images of a problem as series of frames, and the two ways in which frames are few things: low rank, few frequencies.

Called by samplers that join the frames of a measurement over time. Pure functions of tensors.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from restore.problem import Problem
from restore.samplers.base import Sampler

SOLVED = 1e-6
"""Of the mean diagonal of a small matrix, added to it before it is inverted: factors that vanish stay finite."""


@dataclasses.dataclass(frozen=True)
class OfFrames(Sampler):
    """Abstract: a sampler that finds the frames of a measurement over time together."""

    on: ClassVar[str] = "measured over time, in frames"

    @property
    def couples_slices(self) -> bool:
        """The frames."""
        return True

    @property
    def couples_frames(self) -> bool:
        """Yes."""
        return True


def as_series(x: Tensor, problem: Problem) -> Tensor:
    """Images (*batch, *in_shape) as series (series, frames, pixels); a view where it can be one."""
    return x.reshape(problem.frames, problem.items // problem.frames, -1).transpose(0, 1)


def as_images(series: Tensor, problem: Problem) -> Tensor:
    """Undo `as_series`."""
    return series.transpose(0, 1).reshape(problem.image_shape)


def product(spatial: Tensor, temporal: Tensor) -> Tensor:
    """Lambda Psi^T: (series, pixels, rank) and (series, frames, rank) -> (series, frames, pixels)."""
    return temporal @ spatial.mT


def gathered(series: Tensor, temporal: Tensor) -> Tensor:
    """The adjoint of `product` in Lambda: (series, frames, pixels) -> (series, pixels, rank)."""
    return series.mT @ temporal.conj()


def balanced(spatial: Tensor, temporal: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with orthonormal columns of Psi."""
    q, r = torch.linalg.qr(temporal)
    return spatial @ r.mT, q


def cosines(frames: int, rank: int) -> Tensor:
    """The slowest curves over time: orthonormal columns of the cosine transform, (frames, rank), float64."""
    t = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    waves = torch.cos(torch.pi * t[:, None] * torch.arange(rank))
    return waves / torch.linalg.vector_norm(waves, dim=0)


def roughness(series: Tensor) -> Tensor:
    """D^T D f of (series, frames, ...), D the difference of each frame and the next."""
    steps = series.diff(dim=1)
    out = torch.zeros_like(series)
    out[:, 1:] += steps
    out[:, :-1] -= steps
    return out


def joined_curves(gram: Tensor, goal: Tensor, coupling: Tensor) -> Tensor:
    """Psi of (G_t Psi_t) + C (D^T D Psi)_t = goal_t, exactly, by elimination of one frame after the other.

    gram: G (series, frames, K, K), goal: (series, frames, K), coupling: C (series, K, K), Hermitian, positive.
    """
    frames = goal.shape[1]
    neighbours = torch.full((frames,), 2.0)
    neighbours[0] = neighbours[-1] = 1.0
    solved: list[tuple[Tensor, Tensor]] = []  # Psi_t = a + B Psi_(t+1)
    for t in range(frames):
        system, told = gram[:, t] + float(neighbours[t]) * coupling, goal[:, t, :, None]
        if solved:
            before, share = solved[-1]
            system, told = system - coupling @ share, told + coupling @ before
        both = torch.linalg.solve(system, torch.cat([told, coupling], -1))
        solved.append((both[..., :1], both[..., 1:]))
    curves = [solved[-1][0]]
    for before, share in reversed(solved[:-1]):
        curves.append(before + share @ curves[-1])
    return torch.stack([c[..., 0] for c in reversed(curves)], 1)


def shrunk_rank(series: Tensor, threshold: Tensor) -> Tensor:
    """Singular values of (series, frames, pixels) lowered by a threshold (series,), none below 0: the proximal map of
    the nuclear norm. By the Gram matrix of the frames, which halves the digits that small ones have."""
    squares, vectors = torch.linalg.eigh(series @ series.mH)
    values = squares.clamp(min=0).sqrt()
    kept = (values - threshold[:, None]).clamp(min=0) / values.clamp(
        min=torch.finfo(values.dtype).tiny
    )
    return (vectors * kept[:, None].to(vectors.dtype)) @ (vectors.mH @ series)


def shrunk_frequencies(series: Tensor, threshold: Tensor) -> Tensor:
    """Temporal frequencies of (series, frames, pixels), each pixel's, shortened by a threshold (series,): the proximal
    map of the l1 norm of the orthonormal Fourier transform over time."""
    spectrum = torch.fft.fft(series, dim=1, norm="ortho")
    size = spectrum.abs()
    kept = (size - threshold[:, None, None]).clamp(min=0) / size.clamp(
        min=torch.finfo(size.dtype).tiny
    )
    out = torch.fft.ifft(spectrum * kept, dim=1, norm="ortho")
    return out if series.is_complex() else out.real
