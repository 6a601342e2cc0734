"""Whether the axis of coils is one: channels that see one image through smooth maps, not slices or repetitions.

May be called by the set-up of k-space; touches nothing but its arguments. Each way of reading an array of slices and
coils is tried on a few of both, at the resolution of the calibration lines. What tells them apart are two numbers: the
share of the energy that smooth maps leave unexplained, and how much the maps are the same everywhere.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from restore.datasets.stack import LazyStack
from restore.operators.mri.coil_maps import Region, espirit
from restore.operators.mri.fourier import ifft2c

MOST, TRIED, LINES = 8, 3, 24
"""Coils and slices that are looked at, how many maps of each are made, calibration lines of each axis."""

KERNEL = 5

WORSE, LEFT, ALIKE = 5.0, 1.5e-3, 0.15
"""As stored unexplained is so many times what it is with the axes exchanged, and more than the second; slices that are
more alike than coils by the third are slices. Heads of 3 to 24 slices: 5e-4 to 2e-3 left as stored, 1e-3 to 4e-3
exchanged."""

SAME, APART = 0.95, 0.05
"""From which maps count as one constant, and by how much less they must be so with the axes exchanged."""

ONE_IMAGE = 0.98
"""The same where there is one slice, and nothing to exchange."""


@dataclasses.dataclass(frozen=True)
class _Reading:
    """left: share of the energy that maps do not explain. same: 1 where the maps are the same at all places."""

    left: float
    same: float


def note_exchanged(kspace: LazyStack, region: Region, notes: list[str]) -> None:
    """Say where the channels of k-space (slices, coils, H, W) look like slices, averages or repetitions.

    region: rows and columns that are fully sampled.
    """
    slices, coils = kspace.shape[:2]
    if coils < 2:
        return
    rows, columns = (_nearest(part, n) for part, n in zip(region, kspace.shape[-2:], strict=True))
    which = _spread(coils, MOST)
    blocks = [kspace[int(i)][which][:, rows, columns] for i in _spread(slices, MOST)]
    values = torch.from_numpy(np.stack(blocks))
    values = values[(values != 0).flatten(1).any(dim=1)]
    if not len(values) or not bool(torch.isfinite(values).all()):
        return
    values = values / values.abs().max()
    stored = _reading(values)
    text = ""
    if len(values) == 1:
        if stored.same > ONE_IMAGE:
            text = "the channels hold one image up to a factor: slices, averages or repetitions rather than coils"
    elif _is_exchanged(stored, _reading(values.transpose(0, 1))):
        text = (
            f"{slices} slices of {coils} coils look like {coils} slices of {slices} coils: if the axes are exchanged, "
            "store (slices, coils, H, W)"
        )
    if text and text not in notes:
        notes.append(text)


def _is_exchanged(stored: _Reading, other: _Reading) -> bool:
    coil_like = other.same < min(SAME, stored.same + ALIKE)
    worse = coil_like and stored.left > max(LEFT, WORSE * other.left)
    return worse or (stored.same > SAME and other.same < stored.same - APART)


def _spread(count: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, most).astype(int))


def _nearest(part: slice, n: int) -> slice:
    """At most LINES of a run, those nearest to the zero frequency."""
    start = min(max(part.start, n // 2 - LINES // 2), max(part.start, part.stop - LINES))
    return slice(start, min(part.stop, start + LINES))


def _reading(blocks: Tensor) -> _Reading:
    """The mean over some of blocks (images, channels, h, w) of calibration data."""
    found = [_of_one(blocks[int(i)]) for i in _spread(len(blocks), TRIED)]
    return _Reading(*np.mean(found, axis=0))


def _of_one(block: Tensor) -> tuple[float, float]:
    height, width = block.shape[-2:]
    size = block.abs().square().sum(dim=(-2, -1), keepdim=True).sqrt()
    block = block / torch.where(size > 0, size, 1)  # gains differ between receivers
    maps, _ = espirit(block, (height, width), kernel=KERNEL)
    window = torch.outer(*(torch.hann_window(n + 2, periodic=False)[1:-1] for n in (height, width)))
    images = ifft2c(block * window)
    energy = images.abs().square().sum(dim=0)
    total = energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
    left = (images - maps * (maps.conj() * images).sum(dim=0)).abs().square().sum() / total
    mean = (maps * energy.sqrt()).sum(dim=(-2, -1))
    along = (maps.conj() * mean[:, None, None]).sum(dim=0).abs().square()
    size = mean.abs().square().sum().clamp(min=torch.finfo(energy.dtype).tiny)
    return float(left), float((along * energy).sum() / total / size)
