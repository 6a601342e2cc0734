"""Few virtual coils in the place of many: orthonormal sums of channels that keep most of the measured energy.

Called by the set-up of scans and by scripts, after prewhitening; imports torch, the transforms of this folder and the
package's errors.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.fourier import fftc, ifftc

NEIGHBOURS = 2
"""On either side: places along the readout whose samples tell the coils of one place, so that these change smoothly."""

EVERYWHERE = 1e-2
"""Of the mean over all places, added to each: where there is no object, the coils that see it decide, and not noise."""


@dataclasses.dataclass(frozen=True, eq=False)
class CoilCompression:
    """Virtual coils as sums of the channels of one item, a slice or a volume.

    matrix: complex (virtual, coils), its rows orthonormal, so that white noise stays white; or one for every place
    along the readout, (places, virtual, coils). readout: the axis of the image, counted from the last, that such
    matrices belong to; None for one matrix. dropped: the share of energy that the virtual coils do not see, 0..1, of
    the samples which they were made of, noise included.
    """

    matrix: Tensor
    readout: int | None
    dropped: float

    def samples(self, kspace: Tensor) -> Tensor:
        """Measured samples (coils, ...) as the virtual coils see them, (virtual, ...): Cartesian where there is a
        readout, along which every line was measured in full."""
        if self.readout is None:
            return self.maps(kspace)
        lines = ifftc(kspace.movedim(self.readout, -1), 1).movedim(-1, self.readout)
        return fftc(self.maps(lines).movedim(self.readout, -1), 1).movedim(-1, self.readout)

    def maps(self, maps: Tensor) -> Tensor:
        """Coil maps (coils, *image) as the virtual coils' (virtual, *image), other than of norm one where energy was
        dropped: the image keeps its brightness."""
        matrix = self.matrix.to(maps.device, maps.dtype)
        if self.readout is None:
            return torch.tensordot(matrix, maps, dims=1)
        first = maps.movedim(self.readout, 0)
        seen = torch.bmm(matrix, first.reshape(*first.shape[:2], -1))
        return seen.reshape(-1, matrix.shape[1], *first.shape[2:]).movedim(0, self.readout)


def svd_compression(samples: Tensor, virtual: int) -> CoilCompression:
    """The `virtual` principal components of samples (coils, ...) complex, of any trajectory.

    Huang et al., Magn Reson Imaging 26:133, 2008. Raises ConfigError for no virtual coils or more than coils,
    ShapeError for real samples.
    """
    _check(samples, virtual)
    flat = samples.flatten(1)
    gram = flat @ flat.mH
    basis = torch.linalg.eigh(gram).eigenvectors[:, -virtual:].flip(1)
    matrix = basis.mH.contiguous()
    return CoilCompression(matrix, None, _dropped(gram, matrix))


def geometric_compression(kspace: Tensor, virtual: int, readout: int) -> CoilCompression:
    """The principal components at every place along a fully sampled readout, turned into one another smoothly.

    Zhang et al., MRM 69:571, 2013: places differ in the coils that see them, so that fewer virtual coils do; each
    place's components, which are defined but for a unitary turn, are aligned with its neighbour's. kspace: complex
    (coils, H, W) or, of a volume, (coils, D, H, W), centred, zeros where not sampled. readout: the axis, counted from
    the last. Raises ConfigError, ShapeError.
    """
    _check(kspace, virtual)
    if kspace.ndim not in (3, 4) or not -kspace.ndim < readout < 0:
        raise ShapeError(
            f"geometric coil compression: k-space {tuple(kspace.shape)} with readout {readout}, expected "
            "(coils, H, W) or (coils, D, H, W) with -1, -2 or, of a volume, -3"
        )
    lines = kspace.movedim(readout, -1).flatten(1, -2)
    lines = lines[:, (lines != 0).any(dim=-1).any(dim=0)]
    hybrid = ifftc(lines, 1).movedim(-1, 0)
    gram = hybrid @ hybrid.mH
    basis = torch.linalg.eigh(_smoothed(gram)).eigenvectors[..., -virtual:].flip(-1)
    matrix = _aligned(basis.mH)
    return CoilCompression(matrix, readout, _dropped(gram, matrix))


def _check(samples: Tensor, virtual: int) -> None:
    if not samples.is_complex() or samples.ndim < 2:
        raise ShapeError(
            f"coil compression: samples are {tuple(samples.shape)} {samples.dtype}, expected complex (coils, ...)"
        )
    if not 1 <= virtual <= len(samples):
        raise ConfigError(
            f"coil compression: {virtual} virtual coils of {len(samples)}, expected 1 to {len(samples)}"
        )


def _smoothed(gram: Tensor) -> Tensor:
    """Sums over neighbouring places of (places, coils, coils), with a little of all."""
    total = gram + EVERYWHERE * gram.mean(dim=0)
    for step in range(1, min(NEIGHBOURS, len(gram) - 1) + 1):
        total[step:] += gram[:-step]
        total[:-step] += gram[step:]
    return total


def _aligned(rows: Tensor) -> Tensor:
    """Orthonormal rows (places, virtual, coils), each place turned by the unitary matrix that brings it nearest to
    the place before."""
    wide = rows.to(torch.complex128)
    left, _, right = torch.linalg.svd(wide[:-1] @ wide[1:].mH)
    turns = left @ right
    turn = torch.eye(rows.shape[1], dtype=wide.dtype, device=rows.device)
    turned = [wide[0]]
    for own, step in zip(wide[1:], turns, strict=True):
        turn = turn @ step
        turned.append(turn @ own)
    return torch.stack(turned).to(rows.dtype)


def _dropped(gram: Tensor, matrix: Tensor) -> float:
    """Of the energy in gram matrices (..., coils, coils), what the rows (..., virtual, coils) do not see."""
    whole = float(gram.diagonal(dim1=-2, dim2=-1).real.double().sum())
    kept = float(((matrix @ gram) * matrix.conj()).real.double().sum())
    return max(0.0, 1 - kept / whole) if whole > 0 else 0.0
