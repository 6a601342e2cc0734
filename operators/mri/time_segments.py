"""Spins that precess at other frequencies than the scanner's, by time segments: an operator made of several.

Called by scripts with a field map; imports the operator contract alone.
"""

from __future__ import annotations

import functools
import math
import operator as of

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Diagonal

_BINS = 256  # frequencies that stand for those of the map
_WORST = 0.01
"""Error of the interpolation, root mean square over the map, above which segments are too few."""


def off_resonance(
    encoding: LinearOperator, field_hz: Tensor, times_s: Tensor, *, segments: int | None = None
) -> LinearOperator:
    """y(k, t) = sum over pixels of encoding with exp(-2 pi i field t): the sum over segments of b_l(t) A c_l(r).

    encoding: any MRI operator from x (*slices, *image) to y. field_hz: (*slices, *image) or (*image), the frequency
    above the scanner's; times_s: when each sample was taken, from the time at which spins were in phase on,
    broadcastable to y: (readouts, samples) or (samples,), for Cartesian k-space (H, W), (H, 1) or (W,). segments:
    how many, by default as many as turns of the fastest spin ask for. The b_l are the least-squares interpolators
    over the histogram of the map (Sutton, Noll and Fessler, IEEE TMI 22:178, 2003). The cost is `segments` times
    that of the encoding.

    Raises ShapeError where map or times do not broadcast, ConfigError for values that are not finite or too few
    segments.
    """
    field, times = field_hz.double().cpu(), times_s.double().cpu()
    for what, values in (("field_hz", field), ("times_s", times)):
        if not values.numel() or not bool(torch.isfinite(values).all()):
            raise ConfigError(f"off_resonance: {what} is empty or not finite")
    sides = (("field_hz", field, encoding.in_shape), ("times_s", times, encoding.out_shape))
    for what, part, whole in sides:
        if not _broadcasts(part, whole):
            raise ShapeError(
                f"off_resonance: {what} has shape {tuple(part.shape)}, expected one that broadcasts to {whole}"
            )
    span = float(times.max() - times.min())
    turns = float(field.max() - field.min()) * span
    count = segments or max(2, math.ceil(2 * turns) + 3)
    if count < 1:
        raise ConfigError(f"off_resonance: segments is {segments}, expected 1 or more")
    stops = torch.linspace(float(times.min()), float(times.max()), count, dtype=torch.float64)
    weights = _interpolators(field, times, stops)
    number = encoding.dtype.to_complex()
    parts = []
    for weight, stop in zip(weights, stops, strict=True):
        turned = torch.polar(torch.ones_like(field), -2 * math.pi * field * stop)
        inner = Diagonal(turned.to(encoding.device, number), encoding.in_shape, encoding.slice_ndim)
        lead = encoding.slice_ndim
        outer = Diagonal(weight.to(encoding.device, number), encoding.out_shape, lead)
        parts.append(outer @ encoding @ inner)
    return functools.reduce(of.add, parts)


def _interpolators(field: Tensor, times: Tensor, stops: Tensor) -> Tensor:
    """b_l(t), (segments, *times): exp(-2 pi i f t) = sum_l b_l(t) exp(-2 pi i f t_l) over the map's histogram."""
    low, high = float(field.min()), float(field.max())
    count = torch.histc(field.flatten(), _BINS, low, high) if high > low else torch.ones(1)
    count = count.double()
    width = (high - low) / len(count)
    frequencies = low + width * (torch.arange(len(count), dtype=torch.float64) + 0.5)
    root = (count / count.sum()).sqrt()
    flat = times.flatten()

    def waves(t: Tensor) -> Tensor:
        size = root[:, None].expand(-1, len(t)).contiguous()
        return torch.polar(size, -2 * math.pi * frequencies[:, None] * t)

    wanted, given = waves(flat), waves(stops)
    # By the singular values: where spins hardly differ, segments are nearly the same.
    found = torch.linalg.pinv(given, rtol=1e-10) @ wanted
    worst = float((given @ found - wanted).abs().square().sum(dim=0).sqrt().max())
    if worst > _WORST:
        raise ConfigError(
            f"off_resonance: {len(stops)} segments leave an error of {worst:.2g} at the worst sample; use more"
        )
    return found.reshape(len(stops), *times.shape)


def _broadcasts(part: Tensor, whole: tuple[int, ...]) -> bool:
    sizes = tuple(part.shape)
    pairs = zip(reversed(sizes), reversed(whole), strict=False)
    return len(sizes) <= len(whole) and all(a in (1, b) for a, b in pairs)
