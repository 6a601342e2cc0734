"""Projections that the object's edge left at the end of the detector: seen, and continued beyond it.

Called by filtered backprojection, whose ramp filter answers a cut edge with a bright rim and a wrong
level everywhere. Pure functions of tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.gaussian import MAD_TO_STD

EDGE_BINS = 4
"""Bins averaged for the value at an end of the detector."""

EDGE_SHARE = 0.05
"""Share of the largest line integral from which an end counts as cut: below it stray light and noise lie."""

EDGE_DEVIATIONS = 6.0
"""Noise deviations that the mean of an end must exceed as well."""

_FITTED = 10  # the outermost tenth of the detector shows how the edge falls off
_AT_ONCE = 2**18  # bins beyond the ends that are computed at once, in double precision
_SHORTEST = 8  # bins that a fit of three numbers needs


def cut_ends(sinogram: Tensor) -> tuple[bool, bool]:
    """Whether the object leaves the detector at its first and at its last bin, in some view of some slice.

    sinogram: real (*batch, views, n_det). An end is cut where the mean of its EDGE_BINS outermost bins, averaged over
    three neighbouring views, exceeds EDGE_SHARE of the largest value and EDGE_DEVIATIONS of the noise of such a mean;
    the noise is read from second differences along the detector (median absolute deviation: an object is smooth there).
    """
    n = sinogram.shape[-1]
    if n < 4 * EDGE_BINS or sinogram.numel() == 0:
        return False, False
    rows = sinogram.reshape(-1, *sinogram.shape[-2:])
    peak = rows.abs().amax(dim=(-2, -1), keepdim=True).squeeze(-1)
    second = (rows[..., 2:] - 2 * rows[..., 1:-1] + rows[..., :-2]).flatten(1)
    # A second difference of white noise has sqrt(6) times its deviation.
    noise = MAD_TO_STD / 6**0.5 * second.abs().median(dim=1, keepdim=True).values
    limit = torch.maximum(EDGE_SHARE * peak, EDGE_DEVIATIONS * noise / EDGE_BINS**0.5)
    first, last = rows[..., :EDGE_BINS].mean(-1), rows[..., -EDGE_BINS:].mean(-1)
    return tuple(bool((_smoothed(end) > limit).any()) for end in (first, last))  # type: ignore[return-value]


def extended(sinogram: Tensor, added: int, first: bool, last: bool) -> Tensor:
    """The sinogram continued by `added` bins at the ends that are cut, and with zeros at the others.

    The squares of the outermost tenth of each view are fitted by a parabola, which is what an ellipse of one material
    projects to, at any scale and any place (the idea of Hsieh and others, "A novel reconstruction algorithm to extend
    the CT scan field-of-view", Med. Phys. 31, 2004, who match a water cylinder's value and slope); the continuation
    follows it down to zero. Where the parabola opens upwards an ellipse of a quarter of the detector's width takes its
    place, and nothing rises above the edge's value by more than a half.

    sinogram: real (*batch, views, n_det). Returns (*batch, views, n_det + 2 added).
    """
    n = sinogram.shape[-1]
    views = sinogram.reshape(-1, n)
    out = views.new_zeros(len(views), n + 2 * added)
    step = max(1, _AT_ONCE // max(1, added))
    for part in (slice(start, start + step) for start in range(0, len(views), step)):
        y = views[part]
        out[part, added : added + n] = y
        if first:
            out[part, :added] = _continuation(y.flip(-1), added).flip(-1)
        if last:
            out[part, added + n :] = _continuation(y, added)
    return out.view(*sinogram.shape[:-1], -1)


def _continuation(y: Tensor, added: int) -> Tensor:
    """What lies beyond the last bin: (*batch, views, added)."""
    n = y.shape[-1]
    fitted = min(n, max(_SHORTEST, n // _FITTED))
    inside = torch.arange(1 - fitted, 1, dtype=torch.float64, device=y.device)
    basis = torch.stack([torch.ones_like(inside), inside, inside**2], dim=-1)
    squares = y[..., -fitted:].double().clamp(min=0).square()
    level, slope, bend = (squares @ torch.linalg.pinv(basis).mT).unbind(-1)
    edge = y[..., -EDGE_BINS:].double().mean(-1).clamp(min=0)
    closed = bend < -(edge**2) / (4 * n) ** 2  # an ellipse longer than four detectors is none
    level = torch.where(closed, level.clamp(min=0), edge**2)
    slope = torch.where(closed, slope, 0.0)
    bend = torch.where(closed, bend, -(edge**2) / (n / 4) ** 2)
    beyond = torch.arange(1, added + 1, dtype=torch.float64, device=y.device)
    parabola = level[..., None] + slope[..., None] * beyond + bend[..., None] * beyond**2
    values = parabola.clamp(min=0).sqrt()
    ended = (parabola <= 0).cumsum(-1) > 0
    values = torch.where(ended, 0.0, values)
    return torch.minimum(values, 1.5 * edge[..., None]).to(y.dtype)


def _smoothed(ends: Tensor) -> Tensor:
    """Mean over three neighbouring views: (rows, views) -> (rows, views)."""
    if ends.shape[-1] < 3:
        return ends
    padded = torch.cat([ends[..., :1], ends, ends[..., -1:]], dim=-1)
    return (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
