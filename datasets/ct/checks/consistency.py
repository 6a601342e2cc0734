"""What a sinogram says against its own geometry: cut views, a shifted axis, degrees for radians, swapped axes.

May be called by readers and pipelines before any reconstruction; numbers in, findings out, touches no file. Rests on
the two first consistency conditions of parallel projections (Helgason; Ludwig, 1966): every complete view has the same
sum, and its centre of mass runs along c + a cos t + b sin t, with c the place of the rotation axis.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from restore.datasets.ct.checks.plausibility import (
    Finding,
    narrow_detector,
    noise_of,
    not_line_integrals,
    odd_air,
    odd_level,
    odd_views,
    saturated,
    shows_an_object,
)
from restore.datasets.ct.detector.rogue_rays import rogue_rays_found
from restore.datasets.ct.rotation_axis.mirrored_views import (
    mirror_shift,
    mirrored_offset,
    opposite_views,
)
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.redundancy import DISPLACED, displaced_weights, is_full_turn

Sinogram = NDArray[np.floating]

_EDGE = 4  # bins that make up an end of the detector
_EDGE_SHARE = 0.05  # of the peak: below it stray light, scatter and noise lie
_VIEWS_CUT = 0.02  # share of views whose ends may be bright by chance
_UNEVEN = 0.15  # spread of the views' sums: beam hardening and scatter stay below a tenth
_OFF_AXIS = 0.75  # bins: half a bin is a matter of convention, and no more than that blurs visibly
_OFF_MIRROR = 2.0  # bins: the mirrored images of cut views tell an axis to about half a bin
_STRAY = 0.25  # bins that centres of mass may leave their sinusoid, as a share of the detector's width (percent)
_FEWEST = 3  # directions that are no tomography
_CHANCE = 5.0  # deviations that the noise of no ray in a million exceeds
_BEYOND = 0.05  # share of attenuation outside the grid's shadow


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sum and centre of mass of every view, in line integrals times mm and in mm.

    offset_mm: c of the fitted sinusoid, how far the axis lies from where the geometry says; deviation_mm: of that fit;
    stray_mm: root mean square distance of the centres from the sinusoid.
    """

    sums: NDArray[np.float64]
    centres_mm: NDArray[np.float64]
    offset_mm: float
    deviation_mm: float
    stray_mm: float


def findings(
    sinogram: Sinogram, geometry: ParallelBeam, mu_water: float | None = None
) -> tuple[Finding, ...]:
    """Everything in one slice that contradicts its geometry; empty where the data are consistent.

    sinogram: (views, n_det) line integrals. mu_water: in 1/mm, for what the level of attenuation says. Where views are
    cut their sums and centres mean nothing, and nothing further is looked for.
    """
    y = np.asarray(sinogram, np.float64)
    if y.shape != geometry.sinogram_shape or not np.any(y):
        return ()
    none = not_line_integrals(y)
    if none is not None or geometry.views < 3 or not shows_an_object(y):
        return (none,) if none else ()
    found = [_degrees(y, geometry), _swapped(y)]
    if any(found):
        return tuple(f for f in found if f)
    air = odd_air(y)
    if air:
        return (air,)  # what else there is to see would be misread
    found = [_cut(y, geometry), _beyond_grid(y, geometry), narrow_detector(geometry)]
    found += [*rogue_rays_found(y), saturated(y)]
    if whole_views(y):
        astray = _stray(y, geometry)
        found += [odd_views(y) or _uneven(y), astray or _off_axis(y, geometry)]
        if mu_water is not None:
            found.append(odd_level(y, geometry, mu_water))
    else:
        found.append(_off_mirror(y, geometry))
    return tuple(f for f in found if f)


def unseen(geometry: ParallelBeam) -> Finding | None:
    """Directions that no view shows, by the angles alone.

    They count as left out where a gap of the angles modulo pi exceeds ten degrees and four times the median one.
    """
    t = np.asarray(geometry.angles)
    folded = np.unique(np.round(np.mod(t, math.pi), 9))
    gaps = np.diff(folded, append=folded[0] + math.pi)
    widest, usual = float(gaps.max()), float(np.median(gaps))
    if len(folded) <= _FEWEST:
        return Finding(
            "unseen",
            f"the views show {len(folded)} direction(s) only: what lies along them comes from the prior or is an "
            "artefact",
        )
    if widest <= max(math.radians(10), 4 * usual):
        return None
    return Finding(
        "unseen",
        f"the views leave out {math.degrees(widest - usual):.0f} of 180 degrees: edges along the missing "
        "directions are not in the data, what is shown of them comes from the prior or is an artefact",
    )


def moments(sinogram: Sinogram, geometry: ParallelBeam) -> Moments:
    """Sums and centres of the views, and the sinusoid through the centres by least squares weighted with the sums."""
    y = np.asarray(sinogram, np.float64)
    u = _positions(geometry)
    sums = y.sum(1) * geometry.det_spacing_mm
    safe = np.where(sums > 0, sums, np.inf)
    centres = (y @ u) * geometry.det_spacing_mm / safe
    t = np.asarray(geometry.angles)
    basis = np.stack([np.ones_like(t), np.cos(t), np.sin(t)], axis=1)
    weights = np.sqrt(np.clip(sums, 0, None))
    fit, *_ = np.linalg.lstsq(basis * weights[:, None], centres * weights, rcond=1e-6)
    left = centres - basis @ fit
    stray = math.sqrt(float(np.average(left**2, weights=np.maximum(weights, 1e-300) ** 2)))
    inverse = np.linalg.pinv(basis.T @ basis, rcond=1e-6)
    deviation = stray * math.sqrt(max(float(inverse[0, 0]), 0.0) * len(t) / max(len(t) - 3, 1))
    return Moments(sums, centres, float(fit[0]), deviation, stray)


def _positions(geometry: ParallelBeam) -> NDArray[np.float64]:
    bins = np.arange(geometry.n_det) - (geometry.n_det - 1) / 2
    return np.asarray(bins * geometry.det_spacing_mm + geometry.det_offset_mm, np.float64)


def _bright_ends(y: Sinogram) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Which views leave the first and which the last end of the detector bright, (views,).

    None where too few bins tell.

    An end is bright where it exceeds a share of the peak and six deviations of the noise (second differences).
    """
    if y.shape[1] < 4 * _EDGE:
        return None
    limit = max(_EDGE_SHARE * float(y.max()), 6 * noise_of(y) / math.sqrt(_EDGE))
    return y[:, :_EDGE].mean(1) > limit, y[:, -_EDGE:].mean(1) > limit


def whole_views(y: Sinogram) -> bool:
    """Whether (nearly) all views see the object from end to end, so that their sums and centres mean something."""
    bright = _bright_ends(y)
    return bright is None or float((bright[0] | bright[1]).mean()) <= _VIEWS_CUT


def _cut(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    """Ends at which rays are missing; not the shorter side of a displaced detector, which the opposite view sees."""
    ends = _bright_ends(y)
    if ends is None:
        return None
    first, last = ends
    if displaced_weights(geometry) is not None:
        bright = last if geometry.det_offset_mm > 0 else first
    else:
        bright = first | last
    if bright.mean() <= _VIEWS_CUT:
        return None
    level = np.maximum(y[:, :_EDGE].mean(1), y[:, -_EDGE:].mean(1))
    return Finding(
        "truncated",
        f"the object reaches beyond the detector in {100 * bright.mean():.0f} % of the views (up to "
        f"{100 * float(level.max() / y.max()):.0f} % of the peak at its end): the level inside and "
        f"whatever lies outside the field of view are extrapolated{_half_seen(geometry)}",
    )


def _half_seen(geometry: ParallelBeam) -> str:
    """The further trouble of a displaced detector that does not go all the way round, "" for others."""
    half, shift = geometry.n_det * geometry.det_spacing_mm / 2, abs(geometry.det_offset_mm)
    if shift <= DISPLACED * half or is_full_turn(geometry.angles):
        return ""
    return (
        f". The detector reaches {half + shift:.4g} mm to one side of the axis and {max(half - shift, 0):.4g} mm to "
        "the other, and the views do not go all the way round: part of the object is unseen from half of the sides"
    )


def _off_mirror(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    """An axis that opposite views, cut as they are, do not turn about."""
    pairs = opposite_views(geometry)
    if not pairs:
        return None
    offset = mirrored_offset(y, geometry, pairs, mirror_shift)
    bins = (offset - geometry.det_offset_mm) / geometry.det_spacing_mm
    return None if abs(bins) <= _OFF_MIRROR else _centre(-bins, offset, geometry)


def _centre(bins: float, offset: float, geometry: ParallelBeam) -> Finding:
    return Finding(
        "centre",
        f"the views turn about a point {bins:+.1f} bins ({bins * geometry.det_spacing_mm:+.2f} mm) from where the "
        f"geometry puts the axis: det_offset_mm should be about {offset:.2f}; --center auto looks for it",
    )


def _uneven(y: NDArray[np.float64]) -> Finding | None:
    sums = y.sum(1)
    spread = float(sums.std() / max(abs(float(sums.mean())), 1e-300))
    if spread <= _UNEVEN:
        return None
    return Finding(
        "uneven",
        f"the sums of the views differ by {100 * spread:.0f} % (one object gives all views the same): "
        "check the flat fields, the order of the axes (views, detectors), or whether the object moved",
    )


def _off_axis(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    t = np.asarray(geometry.angles)
    if float(np.ptp(t)) < math.radians(120):
        return None  # over a short arc an offset is not told from a shift of the object
    m = moments(y, geometry)
    bins = m.offset_mm / geometry.det_spacing_mm
    if abs(bins) <= _OFF_AXIS or abs(m.offset_mm) <= 4 * m.deviation_mm:
        return None
    return _centre(bins, geometry.det_offset_mm - m.offset_mm, geometry)


def _stray(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    m = moments(y, geometry)
    width = geometry.n_det * geometry.det_spacing_mm
    limit = max(2 * geometry.det_spacing_mm, _STRAY / 100 * width)
    if m.stray_mm <= limit:
        return None
    return Finding(
        "angles",
        f"the centres of the views stray {m.stray_mm:.1f} mm from the sinusoid that their angles "
        "demand: the angles, their order or their unit are wrong, or the object moved",
    )


def _degrees(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    """Angles that are whole turns apart as radians, and explain the data at least as well as degrees."""
    t = np.asarray(geometry.angles)
    steps = np.abs(np.diff(t))
    span = float(np.ptp(t)) + float(np.median(steps))
    even = float(np.ptp(steps)) <= 1e-3 * max(float(np.median(steps)), 1e-12)
    if span < 45 or not (even or span < 365):
        return None
    as_degrees = dataclasses.replace(geometry, angles=tuple(np.radians(t)))
    if moments(y, as_degrees).stray_mm > 0.5 * moments(y, geometry).stray_mm:
        return None
    return Finding(
        "degrees",
        f"the angles run over {float(np.ptp(t)):.6g} radians, {float(np.ptp(t)) / (2 * math.pi):.1f} turns, and "
        "fit the data far better as degrees: store radians",
    )


def _swapped(y: NDArray[np.float64]) -> Finding | None:
    """A square sinogram whose columns look like views and whose rows do not."""
    if y.shape[0] != y.shape[1]:
        return None
    across, along = y.sum(1), y.sum(0)
    rows, columns = (float(s.std() / max(abs(float(s.mean())), 1e-300)) for s in (across, along))
    if rows < 2 * _UNEVEN or columns > rows / 5:
        return None
    return Finding(
        "axes",
        f"rows differ in their sums by {100 * rows:.0f} %, columns by {100 * columns:.0f} %: the sinogram "
        "seems to be stored as (detectors, views); swap its two last axes",
    )


def _beyond_grid(y: NDArray[np.float64], geometry: ParallelBeam) -> Finding | None:
    """Attenuation on rays that miss the image grid."""
    (ny, nx), (dy, dx) = geometry.shape, geometry.pixel_mm
    t = np.asarray(geometry.angles)[:, None]
    reach = (nx * dx * np.abs(np.cos(t)) + ny * dy * np.abs(np.sin(t))) / 2
    outside = np.abs(_positions(geometry)[None]) > reach + geometry.det_spacing_mm
    if not outside.any():
        return None
    limit = max(_EDGE_SHARE * float(y.max()), _CHANCE * noise_of(np.where(outside, y, np.nan)))
    beyond = np.where(outside & (y > limit), y, 0.0)
    share = float(beyond.sum() / np.clip(y, 0, None).sum())
    if share <= _BEYOND / 10:
        return None
    return Finding(
        "beyond the grid",
        f"{100 * share:.1f} % of the attenuation lies on rays that miss the image of {ny} x {nx} pixels of "
        f"{dy:g} x {dx:g} mm: the object is larger than the image grid, or a pixel or bin size is wrong",
    )
