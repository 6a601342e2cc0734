"""Filtered backprojection of data that a detector saw in part: against discs in closed form, in Hounsfield units."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.redundancy import displaced_weights, is_full_turn
from restore.operators.ct.truncation import cut_ends

HU = 0.5  # discretisation of a disc of 2000 HU; 0.01 seen
DOUBLE = 1e-12  # float64: two weights of sine squared and their sum

MU = 0.02
Disc = tuple[float, float, float, float]  # x, y, radius in mm, attenuation in 1/mm
INSERTS: list[Disc] = [(10.0, 15.0, 15.0, 0.2 * MU), (-20.0, -10.0, 10.0, -0.3 * MU)]


def line_integrals(geometry: ParallelBeam, discs: list[Disc]) -> np.ndarray:
    theta = np.asarray(geometry.angles)[:, None]
    u = (np.arange(geometry.n_det) - (geometry.n_det - 1) / 2) * geometry.det_spacing_mm
    u = u + geometry.det_offset_mm
    y = np.zeros(geometry.sinogram_shape)
    for x0, y0, radius, mu in discs:
        distance = u - (x0 * np.cos(theta) + y0 * np.sin(theta))
        y += 2 * mu * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return y


def errors_hu(
    geometry: ParallelBeam, sinogram: np.ndarray, discs: list[Disc], radius: float
) -> np.ndarray:
    """FBP less truth inside a circle, away from the discs' edges (where pixels are partly filled)."""
    ny, nx = geometry.shape
    x, y = np.arange(nx) - (nx - 1) / 2, ((ny - 1) / 2 - np.arange(ny))[:, None]
    truth, near = np.zeros((ny, nx)), np.zeros((ny, nx), bool)
    for x0, y0, r, mu in discs:
        d = np.hypot(x - x0, y - y0)
        truth += mu * (d < r)
        near |= np.abs(d - r) < 2.5
    found = fbp(torch.from_numpy(sinogram), geometry).numpy()
    return 1000 * (found - truth)[(np.hypot(x, y) < radius) & ~near] / MU


@pytest.mark.parametrize("body", [(0.0, 0.0, 100.0, MU), (20.0, 0.0, 80.0, MU), (5.0, 0.0, 65.0, MU)])  # fmt: skip
def test_a_body_wider_than_the_detector_keeps_its_level(body: Disc):
    geometry = ParallelBeam(equispaced(360), 128, 1.0, (90, 90))
    discs = [body, *INSERTS]
    found = errors_hu(geometry, line_integrals(geometry, discs), discs, 44)
    # Without continuation the mean is 284, 109 and 7.5 HU too high. Where a disc is just cut, few bins show its fall
    # and the continuation is 3.4 HU off; streaks of 360 views reach 18 HU without any cut.
    assert abs(found.mean()) < 7
    assert np.abs(found).max() < 60


def test_noise_on_a_cut_view_does_not_throw_the_continuation_off(generator: torch.Generator):
    geometry = ParallelBeam(equispaced(360), 128, 1.0, (90, 90))
    discs: list[Disc] = [(0.0, 0.0, 100.0, MU), *INSERTS]
    clean = line_integrals(geometry, discs)
    noise = torch.randn(clean.shape, generator=generator, dtype=torch.float64).numpy()
    found = errors_hu(geometry, clean + 0.02 * noise, discs, 44)
    assert abs(found.mean()) < 30  # 284 without


@pytest.mark.parametrize("offset_mm", [40.0, -25.0])
@pytest.mark.parametrize("views", [360, 361])
def test_a_displaced_detector_on_a_full_turn(offset_mm: float, views: int):
    geometry = ParallelBeam(equispaced(views, 360.0), 128, 1.0, (150, 150), 1.0, offset_mm)
    discs: list[Disc] = [(5.0, -8.0, 70.0, MU), *INSERTS]
    found = errors_hu(geometry, line_integrals(geometry, discs), discs, 74)
    # As a centred detector wide enough for the disc has them: no worse by more than rounding and two streaks.
    wide = ParallelBeam(equispaced(views, 360.0), 208, 1.0, (150, 150))
    complete = errors_hu(wide, line_integrals(wide, discs), discs, 74)
    assert abs(found.mean() - complete.mean()) < HU  # +1062 in the middle without weights
    assert np.abs(found).max() < np.abs(complete).max() + 20


def test_weights_of_a_pair_of_opposite_rays_sum_to_two():
    geometry = ParallelBeam(equispaced(90, 360.0), 101, 1.0, (64, 64), 1.0, 20.0)
    weights = displaced_weights(geometry)
    assert weights is not None
    u = np.arange(101) - 50 + 20.0
    seen_twice = np.abs(u) <= 30
    opposite = {round(v, 6): w for v, w in zip(u, weights, strict=True)}
    sums = [w + opposite[round(-v, 6)] for v, w in zip(u[seen_twice], weights[seen_twice], strict=True)]  # fmt: skip
    assert np.allclose(sums, 2, atol=DOUBLE)  # sin is odd to rounding
    assert np.allclose(weights[u > 30], 2, atol=DOUBLE)


def test_centred_detectors_and_half_turns_are_left_alone():
    full = ParallelBeam(equispaced(90, 360.0), 101, 1.0, (64, 64))
    assert displaced_weights(full) is None
    assert displaced_weights(dataclasses.replace(full, det_offset_mm=0.25)) is None
    half = ParallelBeam(equispaced(90), 101, 1.0, (64, 64), 1.0, 20.0)
    assert not is_full_turn(half.angles)
    assert displaced_weights(half) is None


def test_whole_views_are_not_called_cut(generator: torch.Generator):
    geometry = ParallelBeam(equispaced(60), 128, 1.0, (90, 90))
    whole = torch.from_numpy(line_integrals(geometry, [(0.0, 0.0, 50.0, MU)]))
    noise = torch.randn(whole.shape, generator=generator, dtype=torch.float64)
    for level in (0.0, 0.02, 0.2):
        assert cut_ends(whole + level * noise) == (False, False)
    right = torch.from_numpy(line_integrals(geometry, [(30.0, 0.0, 50.0, MU)]))
    assert any(cut_ends(right + 0.02 * noise))
