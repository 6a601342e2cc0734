"""Rebinned helices: balls whose line integrals are known, what the pitch costs, slices at the ends, refusals."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from balls import distance, measured

from restore.errors import ConfigError
from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.helical import (
    helical_fbp,
    incomplete_slices,
    is_rebinnable,
    largest_pitch_mm,
)
from restore.operators.ct.x_ray_transform import XRayTransform

LEVEL = 0.01  # of the value: discretisation of bins, views and rows; 1e-3 seen
ALIKE = 1e-5  # float32: the same sums in a batch; 2e-7 seen
CUBE = VoxelGrid((16, 32, 32), 1.5)
CONE = ConeBeam(equispaced(120, 360), (24, 64), (2.4, 1.8), 120.0, 180.0)
PITCH, TURNS = 20.0, 2.9
HELIX = dataclasses.replace(CONE, angles=equispaced(290, 360 * TURNS), pitch_mm=PITCH)

HELICES: dict[str, ConeBeam] = {
    "up": HELIX,
    "down, backwards": dataclasses.replace(
        HELIX, pitch_mm=-PITCH, angles=tuple(-t for t in HELIX.angles)
    ),
    "turned": dataclasses.replace(
        HELIX, tilt_deg=2.0, slant_deg=-3.0, skew_deg=2.0, det_offset_mm=(1.0, -0.5)
    ),
    "source off": dataclasses.replace(HELIX, source_offset_mm=(1.0, 2.0)),
}


@pytest.mark.parametrize("name", HELICES)
def test_a_ball_has_its_level(name):
    centre, radius = (3.0, -4.0, 1.5), 9.0
    beam = HELICES[name]
    volume = XRayTransform(beam, CUBE).backproject(measured(beam, centre, radius)).numpy()
    r = distance(CUBE, centre)
    assert volume[r < radius - 3].mean() == pytest.approx(1, abs=LEVEL)
    assert volume[r < radius - 3].std() < 2 * LEVEL
    beside = (r > radius + 3) & (r < 15)
    assert volume[beside].mean() == pytest.approx(0, abs=LEVEL)


def test_volumes_of_a_batch_and_other_filters():
    op = XRayTransform(HELIX, CUBE)
    y = measured(HELIX, (0.0, 0.0, 0.0), 8.0)
    both = op.backproject(torch.stack([y, 2 * y]), "hann")
    torch.testing.assert_close(both[1], 2 * both[0], rtol=ALIKE, atol=ALIKE)
    torch.testing.assert_close(op.pinv(y), op.backproject(y), rtol=0, atol=0)
    assert "backprojects" in op.abilities
    assert float((both[0] - op.backproject(y)).abs().max()) > 0.01


def test_the_largest_pitch_is_what_the_panel_holds():
    """Noo 1999: |v| = dz (u^2 + D^2) / (R D) at the edge, for a slice that is half an arc away."""
    edge, far, near = 31.5 * 1.8, 180.0, 120.0
    wide = 2 * math.atan(edge / far)
    arc = math.pi + wide + 2 * (HELIX.angles[1] - HELIX.angles[0])
    high = 12 * 2.4
    away = high * near * far / (edge**2 + far**2)
    assert largest_pitch_mm(HELIX) == pytest.approx(away * 4 * math.pi / arc, rel=1e-9)
    assert is_rebinnable(HELIX)
    assert not is_rebinnable(CONE)


def test_too_large_a_pitch_is_refused_with_the_largest():
    beam = dataclasses.replace(HELIX, pitch_mm=80.0)
    tall = VoxelGrid((160, 32, 32), 1.5)
    op = XRayTransform(beam, tall)
    assert "backprojects" not in op.abilities
    with pytest.raises(
        ConfigError, match=r"pitch of 80 mm a turn is too large .* 24 detector rows .* 56.\d+ mm"
    ):
        helical_fbp(torch.zeros(1, *beam.shape), beam, tall)


def test_slices_at_the_ends_lack_views():
    assert incomplete_slices(HELIX, CUBE) == []
    short = dataclasses.replace(HELIX, angles=HELIX.angles[:75], pitch_mm=50.0)
    few = incomplete_slices(short, CUBE)
    assert {0, 15} <= set(few)
    assert not {7, 8} & set(few)
    y = measured(short, (0.0, 0.0, 0.0), 8.0)
    image = XRayTransform(short, CUBE).backproject(y)
    assert bool(torch.isfinite(image).all())
    assert float(image[7:9, 14:18, 14:18].mean()) == pytest.approx(1, abs=LEVEL)
