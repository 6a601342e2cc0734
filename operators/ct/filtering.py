"""Filtered backprojection of parallel-beam sinograms: the classical inverse.

Called by the CT operator (as its pseudo-inverse), by baselines and by pipelines for starting
points; imports the projection kernels. Pure functions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.ct import projection, redundancy, truncation
from restore.operators.ct.geometry import ParallelBeam

FILTERS = ("ramp", "shepp-logan", "cosine", "hann")
"""Names of filters, from sharp to smooth."""


def fbp(sinogram: Tensor, geometry: ParallelBeam, filter: str = "ramp") -> Tensor:
    """Reconstruct images from line integrals: filter each view, interpolate it over the image, add.

    sinogram: (*batch, views, n_det), without unit. Returns (*batch, ny, nx) in 1/mm, in the
    sinogram's precision (at least float32); complex sinograms part by part. filter: "ramp" (the
    exact band-limited ramp, sampled in space so that the mean is right: Kak and Slaney 1988,
    eq. 3.61), or the ramp damped by "shepp-logan", "cosine" or "hann" (from sharp to smooth).

    Views may come in any order and number; each stands for the arc up to half-way to its
    neighbours, modulo half a turn, which is right for 180 and 360 degrees alike. Over a limited
    arc the missing views count as zero, and what they would have shown is missing in the image.
    A detector that stands off the axis on a full turn measures some rays once and others twice: they
    are weighted (`redundancy`). Where the object leaves the detector, the views are continued beyond
    its end (`truncation`), so that the level inside stays right; an ellipse's is exact.

    Raises ConfigError for an unknown filter, ShapeError for a sinogram of another scan.
    """
    if filter not in FILTERS:
        raise ConfigError(f"fbp: filter is {filter!r}, expected one of {', '.join(FILTERS)}")
    if sinogram.ndim < 2 or tuple(sinogram.shape[-2:]) != geometry.sinogram_shape:
        wanted = ", ".join(map(str, geometry.sinogram_shape))
        raise ShapeError(
            f"fbp: sinogram has shape {tuple(sinogram.shape)}, expected (*batch, {wanted})"
        )
    if sinogram.is_complex():
        parts = fbp(torch.stack([sinogram.real, sinogram.imag]), geometry, filter)
        return torch.complex(parts[0], parts[1])
    y = sinogram.to(torch.promote_types(sinogram.dtype, torch.float32))
    if y.numel() == 0:  # the FFT refuses an empty batch
        return y.new_empty((*y.shape[:-2], *geometry.shape))
    weights = torch.from_numpy(view_weights(geometry)).to(y)
    y, seen = _completed(y, geometry)
    filtered = ramp_filtered(y, geometry.det_spacing_mm, filter) * weights[:, None]
    image = projection.backproject(filtered.reshape(-1, *seen.sinogram_shape), seen)
    return image.view(*y.shape[:-2], *geometry.shape)


def view_weights(geometry: ParallelBeam) -> np.ndarray:
    """Radians that each view stands for, (views,): half the gaps to its neighbours modulo pi, see `arcs`."""
    return arcs(geometry.angles, math.pi)


def arcs(angles: Sequence[float], period: float) -> np.ndarray:
    """Radians that each view stands for, (views,): half the gaps to its neighbours modulo a period.

    Views at one angle share its weight. A gap more than four times the median is a missing wedge
    and counts as the median, so that its borders are not blown up to fill it.
    """
    folded = np.mod(np.asarray(angles), period)
    folded[folded > period - 1e-9] = 0.0  # the period itself, less a rounding error
    distinct, place = np.unique(np.round(folded, 9), return_inverse=True)
    gaps = np.diff(distinct, append=distinct[0] + period)
    median = np.sort(gaps)[(len(gaps) - 1) // 2]
    gaps = np.where(gaps > 4 * median, median, gaps)
    share = (gaps + np.roll(gaps, 1)) / 2
    return (share / np.bincount(place))[place]


def _completed(y: Tensor, geometry: ParallelBeam) -> tuple[Tensor, ParallelBeam]:
    """Views with every ray counted once and continued where they are cut, and the detector that would see them.

    What is filtered reaches beyond the detector's ends, and pixels out there need it.
    """
    first, last = truncation.cut_ends(y)
    shares = redundancy.displaced_weights(geometry)
    added = 0
    if shares is not None:
        y = y * torch.from_numpy(shares).to(y)
        longer_is_last = geometry.det_offset_mm > 0
        first, last = first and not longer_is_last, last and longer_is_last
        added = math.ceil(2 * abs(geometry.det_offset_mm) / geometry.det_spacing_mm)
    if first or last:
        added = max(added, geometry.n_det // 2)
    if not added:
        return y, geometry
    wider = dataclasses.replace(geometry, n_det=geometry.n_det + 2 * added)
    return truncation.extended(y, added, first, last), wider


def ramp_filtered(y: Tensor, spacing: float, name: str, *, arc: bool = False) -> Tensor:
    """Convolve views (..., bins) with the band-limited ramp, padded so that nothing wraps around.

    spacing: of the bins, in mm; of an arc of equal angles in radians, whose ramp is (t / sin t)^2 times the straight
    one (Kak and Slaney 1988, eq. 3.104). name: one of FILTERS. Returns the shape of y, over the unit of spacing.
    """
    n = y.shape[-1]
    size = 1 << (2 * n - 1).bit_length()
    offset = torch.arange(size, dtype=torch.float64, device=y.device)
    offset = torch.minimum(offset, size - offset)
    lag = offset * spacing
    if arc:  # lags beyond the detector's width meet padding only
        lag = torch.sin(lag.clamp(max=min((n - 1) * spacing, math.pi / 2)))
    kernel = torch.where(offset % 2 == 1, -1 / (math.pi * lag.clamp(min=lag[1])) ** 2, 0.0)
    kernel[0] = 1 / (4 * spacing**2)
    response = torch.fft.rfft(kernel).real * spacing
    fraction = torch.linspace(0, 1, len(response), dtype=torch.float64, device=y.device)
    if name == "shepp-logan":
        response *= torch.sinc(fraction / 2)
    elif name == "cosine":
        response *= torch.cos(math.pi / 2 * fraction)
    elif name == "hann":
        response *= torch.cos(math.pi / 2 * fraction) ** 2
    return torch.fft.irfft(torch.fft.rfft(y, size) * response.to(y.dtype), size)[..., :n]
