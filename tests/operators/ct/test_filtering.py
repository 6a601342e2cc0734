"""Filtered backprojection of unevenly spread views: weights by geometry, images by the line integrals of a disc."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.operators.ct.filtering import fbp, view_weights
from restore.operators.ct.geometry import ParallelBeam

SUMMED = 4e-5  # the arcs are told apart on a grid of that fineness
SINGLE = 1e-6  # weights are stored in float32, 6e-8 of each
KNOWN = 0.0135  # discretisation of the phantom, as with equally spaced views
ARCS = 2e-3  # the two ends of an arc count half a view

SHAPE, BINS, VIEWS = (48, 48), 95, 120
CENTRE, RADIUS, VALUE = (
    (7.0, -5.0),
    9.0,
    0.02,
)  # mm, mm, 1/mm: off the axis, so that every view differs


def scan(angles: np.ndarray) -> ParallelBeam:
    return ParallelBeam(tuple(angles.tolist()), BINS, 0.8, SHAPE, 1.0)


def spread_angles(seed: int, views: int = VIEWS) -> np.ndarray:
    """Views that lie ever closer together over half a turn, each shaken by up to its gap."""
    g = np.random.default_rng(seed)
    even = np.linspace(0, 1, views, endpoint=False) ** 2.0
    gap = np.diff(even, append=1.0)
    return math.pi * (even + gap * g.uniform(0.0, 0.95, views))


def disc_sinogram(geometry: ParallelBeam) -> Tensor:
    """Chords of the disc, 2 sqrt(R^2 - t^2), each bin the mean over its width (eight points)."""
    theta = np.asarray(geometry.angles)[:, None, None]
    sub = (np.arange(8) + 0.5) / 8 - 0.5
    bins = np.arange(BINS) - (BINS - 1) / 2
    u = (bins[:, None] + sub) * 0.8
    t = u - (CENTRE[0] * np.cos(theta) + CENTRE[1] * np.sin(theta))
    chord = 2 * np.sqrt(np.clip(RADIUS**2 - t**2, 0, None)).mean(-1)
    return torch.as_tensor(VALUE * chord)


def disc_image() -> tuple[Tensor, Tensor]:
    """The disc, and where its edge is farther away than two pixels."""
    y, x = np.meshgrid(23.5 - np.arange(48), np.arange(48) - 23.5, indexing="ij")
    r = np.hypot(x - CENTRE[0], y - CENTRE[1])
    return torch.as_tensor(VALUE * (r < RADIUS)), torch.as_tensor(
        (abs(r - RADIUS) > 2) & (np.hypot(x, y) < 20)
    )


def voronoi(angles: np.ndarray, samples: int = 200_000) -> np.ndarray:
    """How much of half a turn lies nearest to each view, by counting."""
    phi = (np.arange(samples) + 0.5) * math.pi / samples
    apart = abs((phi[:, None] - angles + math.pi / 2) % math.pi - math.pi / 2)
    return np.bincount(apart.argmin(1), minlength=len(angles)) * math.pi / samples


@pytest.mark.parametrize("seed", range(3))
def test_a_view_stands_for_the_arc_that_is_nearest_to_it(seed):
    angles = np.sort(np.random.default_rng(seed).uniform(0, math.pi, 25))
    gaps = np.diff(angles, append=angles[0] + math.pi)
    wedge = gaps > 4 * np.sort(gaps)[12]  # counts as the median: `voronoi` does not know of it
    beside = wedge | np.roll(wedge, 1)
    weights, nearest = view_weights(scan(angles)), voronoi(angles)
    assert beside.sum() < 20
    # Counted in steps of pi / 200000, two borders a view.
    np.testing.assert_allclose(weights[~beside], nearest[~beside], rtol=0, atol=SUMMED)


def test_the_arcs_of_views_in_any_order_and_on_both_sides():
    angles = np.random.default_rng(5).uniform(0, math.pi, 12) + math.pi * (np.arange(12) % 2)
    order = np.argsort(np.mod(angles, math.pi))
    sorted_ = view_weights(scan(np.mod(angles[order], math.pi)))
    np.testing.assert_allclose(view_weights(scan(angles))[order], sorted_, rtol=SINGLE)


def error(geometry: ParallelBeam) -> float:
    """Root mean square error away from the edge, relative to the disc's value."""
    image, clear = disc_image()
    found = fbp(disc_sinogram(geometry), geometry)
    return float((found - image)[clear].square().mean().sqrt()) / VALUE


def test_uneven_views_give_a_disc_its_value():
    """1.2 % is off; with half the gaps of the wrong neighbours 1.5 to 1.9 %, with equal weights 16 %."""
    assert error(scan(spread_angles(1))) < KNOWN


def test_a_limited_arc_counts_its_views_as_a_whole_one_does():
    """Every degree of views adds the same to the mean of a disc: over 120 and 90 degrees 2/3 and 1/2 of it."""
    whole = np.arange(180) * math.pi / 180
    image, clear = disc_image()
    inside = clear & (image > 0)
    for views in (180, 120, 90):
        part = scan(whole[:views])
        np.testing.assert_allclose(
            view_weights(part), math.pi / 180, rtol=SINGLE
        )  # angles are rounded to 1e-9
        mean = float(fbp(disc_sinogram(part), part)[inside].mean()) / VALUE
        assert mean == pytest.approx(
            views / 180, abs=ARCS
        )  # 2e-4 seen: the disc's chords are sampled
