"""Filtered backprojection of scans that go round once: fans, and cones by the method of Feldkamp, Davis and Kress.

Called by the operator `x_ray_transform` as its pseudo-inverse, and by classical samplers through it. Pure functions.
Everything is read off the views' vectors, so that fan, arc, cone and parallel rays are one formula: with w the share of
a ray, S the source, d its direction of length one in the plane and h the ramp,

    f(x) = sum over views of 1 / depth^2  sum over bins of  w (-d . S) cos(cone angle) / D  y  h(u_x - u)

for a flat detector at distance D (Kak and Slaney 1988, sections 3.4 and 3.6; a source off its axis enters through S),
and with D^2 and angles for an arc.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from restore.errors import ConfigError
from restore.operators.ct import ray_products, redundancy, truncation
from restore.operators.ct.beams import Beam
from restore.operators.ct.filtering import FILTERS, arcs, ramp_filtered
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.rays import layout
from restore.operators.ct.views import Views

_FILTERED_AT_ONCE = 2**22  # numbers that go through the FFT together: some tens of megabytes


def fdk(y: Tensor, beam: Beam, grid: VoxelGrid, filter: str = "ramp") -> Tensor:
    """Reconstruct volumes from line integrals: weigh, filter along the rows, backproject.

    y: real (n, views, rows, columns), without unit; one row of a scan in the plane. filter: one of FILTERS. Returns
    (n, slices, rows, columns) in 1/mm, in the precision of y.

    Exact, up to sampling, in the plane of a circular source and for what does not change along z; above and below it
    the error grows with the square of the cone angle. Views may come in any order; each stands for the arc up to
    half-way to its neighbours. Short scans, displaced detectors and arcs that are too short are weighted as
    `redundancy` says, and views that the object leaves are continued (`truncation`). A turned panel is first resampled
    to the straight one.

    Raises ConfigError for an unknown filter, and for a geometry that does not go round in a plane
    (`helical` has helices).
    """
    if filter not in FILTERS:
        raise ConfigError(f"filter is {filter!r}, expected one of {', '.join(FILTERS)}")
    if beam.straight is None:
        raise ConfigError(
            f"a {beam.kind} scan has no filtered backprojection; use an iterative sampler such as sirt or cgls"
        )
    if not y.numel():
        return y.new_zeros(len(y), *grid.shape3)
    views, ideal = beam.reduced(), beam.straight.reduced()
    if beam != beam.straight:
        y = resampled(y, views, ideal)
    weights, l_mm = _ray_weights(ideal, beam.view_angles)
    period = math.pi if ideal.parallel else 2 * math.pi
    y, added = _completed(y * torch.from_numpy(weights).to(y), l_mm, beam.view_angles)
    spacing = 1 / ideal.bins_a_radian if ideal.curved else float(np.linalg.norm(ideal.u[0]))
    step = max(1, _FILTERED_AT_ONCE // (y.shape[-1] * y.shape[-2] * len(y)))
    filtered = torch.empty_like(y)
    for first in range(0, y.shape[1], step):  # in place: what is padded for the filter is let go
        part = slice(first, first + step)
        filtered[:, part] = ramp_filtered(y[:, part], spacing, filter, arc=ideal.curved)
    del y
    wider = dataclasses.replace(ideal, columns=ideal.columns + 2 * added)
    return ray_products.smeared(filtered, layout(wider, grid), arcs(beam.view_angles, period))


def _ray_weights(
    views: Views, angles: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """((views, rows, columns) that rays are multiplied by, (columns,) where they pass the axis in mm)."""
    a, b = views.column_tables()
    base, along = (part[0] for part in views.basis())
    if views.parallel:
        across = views.u[0] / np.linalg.norm(views.u[0])
        l_mm = views.centre[0] @ across + b * np.linalg.norm(views.u[0])
        one = redundancy.one_sided(l_mm) if redundancy.is_full_turn(angles) else None
        return np.ones(views.shape) * (1.0 if one is None else one), l_mm
    way = base + a[:, None] * along + b[:, None] * views.u[0]
    way = way + (np.arange(views.rows)[:, None, None] - (views.rows - 1) / 2) * views.v[0]
    plane = np.linalg.norm(way[..., :2], axis=-1)
    level = way[0, :, :2] / plane[0, :, None]  # no row changes the direction in the plane
    source = views.source[0, :2]
    l_mm = source[0] * level[:, 1] - source[1] * level[:, 0]
    normal = np.cross(views.u[0], views.v[0])
    far = float(abs(along @ normal) / np.linalg.norm(normal))
    reach = -(level @ source) / (far**2 if views.curved else far)
    gamma = np.arcsin(l_mm / np.linalg.norm(source))
    shares = redundancy.fan_shares(angles, gamma, l_mm)
    return shares[:, None] * reach * plane / np.linalg.norm(way, axis=-1), l_mm


def _completed(
    y: Tensor, l_mm: NDArray[np.float64], angles: tuple[float, ...]
) -> tuple[Tensor, int]:
    """Views continued where they are cut, and by how many columns on either side.

    What is filtered reaches beyond the detector's ends, and voxels out there need it where the opposite view sees them.
    """
    rows = y.transpose(-3, -2)  # every row is a sinogram of its own
    first, last = truncation.cut_ends(rows)
    added, n = 0, y.shape[-1]
    if redundancy.is_full_turn(angles) and redundancy.one_sided(l_mm) is not None:
        longer_is_last = l_mm[0] + l_mm[-1] > 0
        first, last = first and not longer_is_last, last and longer_is_last
        axis = float(np.interp(0.0, l_mm, np.arange(n)))
        added = math.ceil(abs(n - 1 - 2 * axis))
    if first or last:
        added = max(added, n // 2)
    if not added:
        return y, 0
    return truncation.extended(rows, added, first, last).transpose(-3, -2).contiguous(), added


def resampled(y: Tensor, views: Views, ideal: Views) -> Tensor:
    """What a straight panel would have measured: the turned one is read where its rays go, linearly, zero beside it.

    The two stand in the same way to each other in every view.
    """
    first = dataclasses.replace(
        views, **{name: getattr(views, name)[:1] for name in ("source", "centre", "u", "v")}
    )
    i, j = np.indices((ideal.rows, ideal.columns))
    steps = (j - (ideal.columns - 1) / 2)[..., None] * ideal.u[0]
    bins = ideal.centre[0] + steps + (i - (ideal.rows - 1) / 2)[..., None] * ideal.v[0]
    column, row, _ = first.locate(bins.reshape(-1, 3))
    place = np.stack(
        [2 * column[0] / max(views.columns - 1, 1) - 1, 2 * row[0] / max(views.rows - 1, 1) - 1], -1
    )
    place = np.nan_to_num(place, nan=2.0).reshape(1, ideal.rows, ideal.columns, 2)
    where = torch.from_numpy(place).to(y).expand(len(y), -1, -1, -1)
    return grid_sample(y, where, "bilinear", "zeros", align_corners=True)
