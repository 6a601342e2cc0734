"""Filtered backprojection of fans and cones: discs and balls, whose line integrals are known, and RTK's numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from balls import distance, measured

from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam, ParallelBeam3D
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.redundancy import fan_shares
from restore.operators.ct.x_ray_transform import XRayTransform

LEVEL = 0.01  # of the value: discretisation of bins and views; 5e-4 seen in the plane, 4e-3 off it
SAME = 1e-5  # float32 of another program: some hundred products; 3e-7 seen
ONCE = 1e-12  # float64: two squares of sine and cosine

SQUARE, CUBE = VoxelGrid((48, 48), 1.0), VoxelGrid((16, 32, 32), 1.5)
FAN = FanBeam(equispaced(160, 360), 76, 1.6, 80.0, 130.0)
HALF_FAN = math.degrees(math.atan(38 * 1.6 / 130))
SHORT = equispaced(130, 180 + 2 * HALF_FAN + 8, 30)
CONE = ConeBeam(equispaced(120, 360), (24, 64), (2.4, 1.8), 120.0, 180.0)


FANS = {
    "flat": FAN,
    "arc": dataclasses.replace(FAN, detector_shape="equiangular"),
    "source off the axis": dataclasses.replace(FAN, source_offset_mm=4.0, det_offset_mm=3.0),
    "slanted": dataclasses.replace(FAN, slant_deg=10.0, n_det=90),
    "short": dataclasses.replace(FAN, angles=SHORT),
    "short arc, backwards": dataclasses.replace(
        FAN, angles=tuple(-t for t in SHORT), detector_shape="equiangular", source_offset_mm=2.0
    ),
    "displaced": dataclasses.replace(FAN, n_det=56, det_offset_mm=14.0),
    "displaced arc": dataclasses.replace(
        FAN, n_det=56, det_offset_mm=-14.0, detector_shape="equiangular"
    ),
}


@pytest.mark.parametrize("name", FANS)
def test_a_disc_has_its_level(name):
    """Off the axis, within and without."""
    centre, radius = (4.0, -5.0, 0.0), 10.0
    beam = FANS[name]
    image = XRayTransform(beam, SQUARE).backproject(measured(beam, centre, radius)).numpy()
    r = distance(SQUARE, centre)
    assert image[r < radius - 2.5].mean() == pytest.approx(1, abs=LEVEL)
    assert image[(r > radius + 2.5) & (r < 16)].mean() == pytest.approx(0, abs=LEVEL)


CONES: dict[str, Beam] = {
    "cone": CONE,
    "turned": dataclasses.replace(
        CONE, tilt_deg=3.0, slant_deg=-4.0, skew_deg=2.0, det_offset_mm=(1.0, -0.5)
    ),
    "short": dataclasses.replace(CONE, angles=equispaced(90, 230), source_offset_mm=(1.0, 2.0)),
    "displaced": dataclasses.replace(CONE, detector=(24, 50), det_offset_mm=(0.0, 12.0)),
    "parallel": ParallelBeam3D(equispaced(90, 180), (20, 44), (1.4, 1.2), (0.3, -0.2)),
}


@pytest.mark.parametrize("name", CONES)
def test_a_ball_has_its_level(name):
    centre, radius = (3.0, -4.0, 1.5), 9.0
    beam = CONES[name]
    volume = XRayTransform(beam, CUBE).backproject(measured(beam, centre, radius)).numpy()
    r = distance(CUBE, centre)
    assert volume[r < radius - 3].mean() == pytest.approx(1, abs=LEVEL)
    beside = (r > radius + 3) & (r < 15) & (np.abs(np.arange(16) - 8) < 4)[:, None, None]
    assert volume[beside].mean() == pytest.approx(0, abs=LEVEL)


RTK = (
    (-0.05339729, 0.01934742, 0.12754138, -0.06530302),
    (0.02372579, 0.0045473, -0.05073199, 0.13108501),
)
"""Of itk-rtk 2.7.0, FDKConeBeamReconstructionFilter without Hann window and truncation correction."""


def test_a_cone_beam_is_reconstructed_as_by_rtk():
    v, r, c = np.indices((8, 12, 14))
    y = torch.from_numpy((3 * v + 5 * r + 7 * c) % 11 / 11).float()
    scan = ConeBeam(equispaced(8, 360), (12, 14), (1.25, 1.5), 60.0, 100.0)
    found = XRayTransform(scan, VoxelGrid((8, 10, 12))).backproject(y)[3:5, 4, 5:9]
    torch.testing.assert_close(
        found, torch.tensor(RTK), rtol=0, atol=0.2 * SAME
    )  # of values up to 0.2


def test_every_line_counts_once():
    """The shares of a line's two rays add up to one: (t, gamma) and (t - 2 gamma + pi, -gamma)."""
    gamma = np.linspace(-0.35, 0.35, 8)
    views = 720
    step = (
        2 * math.pi / views
    )  # so that gamma = 0.05 k is no multiple of it: shares are continuous in t
    arc = math.pi + 0.9
    angles = (np.arange(round(arc / step)) + 0.5) * step
    shares = fan_shares(angles.tolist(), gamma, 100 * np.sin(gamma))
    for j, g in enumerate(gamma):
        again = angles - 2 * g + math.pi
        kept = again < angles[-1]
        other = np.interp(again[kept], angles, shares[:, len(gamma) - 1 - j])
        # Linear between views of half a degree: step^2 / 8 times the second derivative of sin^2, below (pi / 0.2)^2.
        np.testing.assert_allclose(
            shares[kept, j] + other, 1, atol=step**2 / 8 * (math.pi / 0.2) ** 2
        )
    assert shares.min() >= 0
    whole = fan_shares(equispaced(90, 360), gamma, 100 * np.sin(gamma))
    np.testing.assert_allclose(whole, 0.5, atol=ONCE)
    little = fan_shares(equispaced(60, 150), gamma, 100 * np.sin(gamma))
    assert set(np.unique(little)) == {0.5, 1.0}
    assert (little == 0.5).mean() < 0.1


def test_filters_and_batches():
    scan = dataclasses.replace(FAN, angles=equispaced(40, 360))
    op = XRayTransform(scan, SQUARE)
    y = measured(scan, (4.0, -5.0, 0.0), 10.0)
    sharp, soft = (op.backproject(y, name) for name in ("ramp", "hann"))
    assert float(soft.std()) < float(sharp.std())
    both = op.backproject(torch.stack([y, 2 * y]))
    torch.testing.assert_close(both[1], 2 * both[0])
    assert op.backproject(y[:0].reshape(0, *y.shape)).shape == (0, 48, 48)
    z = op.backproject(torch.complex(y, -y))
    torch.testing.assert_close(torch.complex(sharp, -sharp), z)
    with pytest.raises(ConfigError, match="expected one of ramp, shepp-logan, cosine, hann"):
        op.backproject(y, "hanning")


def test_free_vectors_have_no_analytic_inverse_and_say_so():
    """Steep helices: test_helical."""
    op = XRayTransform(FreeBeam(CONE.reduced().vectors, CONE.detector), VoxelGrid((8, 8, 8), 2.0))
    assert "backprojects" not in op.abilities
    with pytest.raises(
        ConfigError, match=r"a vectors scan has no filtered backprojection.*sirt or cgls"
    ):
        op.backproject(torch.zeros(op.out_shape))
