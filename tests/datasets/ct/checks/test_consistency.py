"""Facts that a sinogram betrays about its geometry: from discs in closed form, with and without noise."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from restore.datasets.ct.checks.consistency import findings
from restore.datasets.ct.rotation_axis.centre import told_centre
from restore.operators.ct.geometry import ParallelBeam, equispaced

OPPOSITE = 0.5  # mm: half a bin, the step of a correlation; 1.5e-2 seen

MU = 0.02
BODY = [
    (6.0, -4.0, 40.0, MU),
    (18.0, 10.0, 9.0, MU),
    (-15.0, 12.0, 6.0, 2 * MU),
]  # x, y, radius, 1/mm


def measured(geometry: ParallelBeam, noise: float = 0.0, discs=BODY, shift_mm: float = 0.0):
    """Line integrals; shift_mm: how far the true axis lies from where the geometry says, on the detector."""
    theta = np.asarray(geometry.angles)[:, None]
    u = (np.arange(geometry.n_det) - (geometry.n_det - 1) / 2) * geometry.det_spacing_mm
    u = u + geometry.det_offset_mm - shift_mm
    y = np.zeros(geometry.sinogram_shape)
    for x0, y0, radius, mu in discs:
        distance = u - x0 * np.cos(theta) - y0 * np.sin(theta)
        y += 2 * mu * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return y + noise * np.random.default_rng(0).standard_normal(y.shape)


def scan(views: int = 120, arc: float = 180.0, n_det: int = 128, shape=(100, 100)) -> ParallelBeam:
    return ParallelBeam(equispaced(views, arc), n_det, 1.0, shape)


def causes(y: np.ndarray, geometry: ParallelBeam) -> list[str]:
    return [f.cause for f in findings(y, geometry)]


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("geometry", [scan(), scan(60, 360.0), scan(12), scan(128)], ids=str)
def test_consistent_data_raise_nothing(geometry: ParallelBeam, noise: float):
    assert causes(measured(geometry, noise), geometry) == []


def test_golden_angles_in_radians_are_not_called_degrees():
    golden = tuple(k * math.pi * (3 - math.sqrt(5)) / 2 for k in range(93))  # up to 180 radians
    geometry = dataclasses.replace(scan(93), angles=golden)
    assert causes(measured(geometry, 0.02), geometry) == []


@pytest.mark.parametrize("arc", [180.0, 360.0])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_degrees_for_radians(arc: float, noise: float):
    right = scan(90, arc)
    wrong = dataclasses.replace(right, angles=tuple(math.degrees(t) for t in right.angles))
    (found,) = findings(measured(right, noise), wrong)
    assert found.cause == "degrees"
    assert "store radians" in found.sentence


def test_a_square_sinogram_with_its_axes_swapped():
    geometry = scan(128)
    assert causes(measured(geometry, 0.02).T.copy(), geometry) == ["axes"]


@pytest.mark.parametrize("arc", [180.0, 360.0])
@pytest.mark.parametrize("shift_mm", [-7.3, 3.5])
def test_the_axis_is_found_where_it_is(arc: float, shift_mm: float):
    geometry = scan(120, arc)
    y = measured(geometry, 0.02, shift_mm=shift_mm)
    assert causes(y, geometry) == ["centre"]
    # The least negative picture of half a turn is good to a tenth of a bin, opposite views to a hundredth.
    told = told_centre(y, geometry)
    assert told.offset_mm == pytest.approx(-shift_mm, abs=0.25)
    mended = dataclasses.replace(geometry, det_offset_mm=told.offset_mm)
    assert causes(y, mended) == []


def test_the_axis_of_cut_views_is_found_from_opposite_ones():
    geometry = scan(120, 360.0, n_det=64)
    y = measured(geometry, 0.02, shift_mm=2.5)
    assert told_centre(y, geometry).offset_mm == pytest.approx(-2.5, abs=OPPOSITE)


def test_views_that_the_object_leaves():
    geometry = scan(n_det=64, shape=(50, 50))
    found = findings(measured(geometry, 0.02), geometry)
    assert next(f.cause for f in found) == "truncated"


def test_an_object_beyond_the_grid():
    geometry = scan(shape=(50, 50))
    assert causes(measured(geometry, 0.02), geometry) == ["beyond the grid"]


def test_angles_in_another_order_than_the_views():
    geometry = scan(90)
    turned = dataclasses.replace(geometry, angles=tuple(np.roll(geometry.angles, 30)))
    assert causes(measured(geometry, 0.02), turned) == ["angles"]


def test_views_of_different_sums():
    geometry = scan(90)
    y = measured(geometry, 0.02)
    y[::3] *= 1.8  # a flat field forgotten for every third view
    assert causes(y, geometry) == ["uneven"]


def test_zeros_raise_nothing():
    geometry = scan(12)
    assert findings(np.zeros(geometry.sinogram_shape), geometry) == ()
