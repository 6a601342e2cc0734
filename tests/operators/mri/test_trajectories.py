"""Trajectories and density compensation, and a radial scan reconstructed through a sigpy NUFFT."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators import check
from restore.operators.interop import from_sigpy
from restore.operators.mri.density import density_compensation
from restore.operators.mri.trajectories import cones, radial, spiral, stack_of_stars

GRID = 0.02  # the iteration for the weights stops near one; the gridding kernel's own error
CENTRE = 0.1  # 1.02 is found; the centre evens out slowly

pytest.importorskip("finufft")
sp = pytest.importorskip("sigpy")
linop = pytest.importorskip("sigpy.mri.linop")

N = 32


def test_spokes_run_outwards_at_the_golden_angle():
    made = radial(5, 16, (N, N))
    assert made.shape == (5, 16, 2)
    assert not made[:, 0].any()
    assert np.allclose(np.hypot(*made[2].T), np.arange(16))  # N / 2 over 16 samples: one cycle each
    angle = np.unwrap(np.arctan2(made[:, -1, 0], made[:, -1, 1]))
    assert np.allclose(np.diff(angle), math.pi * (3 - math.sqrt(5)))
    even = radial(4, 8, (N, N), golden=False)
    assert np.allclose(even[1, -1], [14, 0])  # a quarter turn further, along the rows' axis
    assert radial(3, 4, (N, N, N)).shape == (3, 4, 3)


def test_a_spiral_reaches_the_edge():
    made = spiral(8, 64, 240.0)
    assert made.shape[0] == 8
    radius = np.hypot(made[..., 0], made[..., 1])
    assert radius[:, 0] == pytest.approx(0)
    assert 30 < radius.max() <= 32.01  # half of 64 pixels, less the last step
    turned = made[3] @ [1, 1j] / (made[0] @ [1, 1j] + 1e-300)
    assert np.allclose(turned[1:], np.exp(2j * np.pi * 3 / 8))


def test_full_spokes_pass_the_centre_and_cover_the_turn():
    made = radial(34, 64, (N, N), full=True)
    assert np.abs(made[:, 32]).max() == 0
    assert np.hypot(*made[:, 0].T) == pytest.approx(16)
    even = radial(4, 8, (N, N), golden=False, full=True)
    assert np.allclose(even[2, 0], [-16, 0])  # half of half a turn


def test_stacks_and_cones_fill_the_volume():
    shape = (6, N, N)
    stack = stack_of_stars(5, 16, shape)
    assert stack.shape == (30, 16, 3)
    assert sorted({*stack[..., 0].ravel()}) == [-3, -2, -1, 0, 1, 2]
    assert np.array_equal(stack[5:10, :, 1:], radial(5, 16, (N, N), full=True))
    some = stack_of_stars(5, 16, shape, np.array([-2, 0]))
    assert {*some[..., 0].ravel()} == {-2.0, 0.0}
    made = cones(40, 32, (N, N, N))
    assert np.linalg.norm(made, axis=-1) == pytest.approx(
        np.broadcast_to(np.arange(32) / 2, (40, 32))
    )
    turned = np.unwrap(np.angle(made[..., 2] + 1j * made[..., 1])[:, 1:], axis=-1)
    assert np.abs(turned[:, -1] - turned[:, 0]).max() > 6 * math.pi  # near the equator


def transform(coordinates):
    return sp.linop.NUFFT((N, N), coordinates)


def test_weights_are_one_on_a_grid_and_keep_intensities():
    for shape in ((48, 48), (12, 12, 12)):
        axes = [np.arange(-n // 2, n // 2, dtype=float) for n in shape]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        # Another size than that which defines the unit: the kernel falls elsewhere, by 1 % at most.
        assert np.allclose(density_compensation(grid, shape), 1, atol=GRID)
    row = np.linspace(-1, 1, N)
    blob = np.exp(-4 * (row[:, None] ** 2 + row[None] ** 2)) + 0j
    for coordinates in (radial(128, 64, (N, N)), spiral(8, N, 240.0)):
        A = transform(coordinates)
        weights = density_compensation(coordinates, (N, N), iterations=100)
        assert weights.shape == coordinates.shape[:-1]
        back = A.H(weights * A(blob))
        gain = (np.vdot(blob, back) / np.vdot(blob, blob)).real
        assert gain == pytest.approx(1, abs=CENTRE)  # 1.02; the centre evens out slowly


def test_bad_values_are_named():
    with pytest.raises(ConfigError, match="0 spokes of 8 samples in 2 dimensions"):
        radial(0, 8, (N, N))
    with pytest.raises(ConfigError, match="in three with the golden means"):
        radial(3, 8, (N, N, N), golden=False)
    with pytest.raises(
        ConfigError, match="leave no turn to each within 32 pixels; use fewer than 16"
    ):
        spiral(20, N, 240.0)
    with pytest.raises(ConfigError, match="positive numbers"):
        spiral(2, N, -1.0)
    with pytest.raises(ShapeError, match=r"shape \(4, 2\), expected \(..., 3\)"):
        density_compensation(np.zeros((4, 2)), (N, N, N))
    with pytest.raises(ConfigError, match="iterations is 0"):
        density_compensation(np.zeros((4, 2)), (N, N), iterations=0)


@pytest.fixture(scope="module")
def radial_scan():
    """Four coils, 24 half-spokes (a quarter of what the size needs), an ellipse with two holes."""
    row = torch.linspace(-1, 1, N)
    y, x = row[:, None], row[None]
    truth = ((y / 0.8) ** 2 + (x / 0.6) ** 2 < 1).float()
    truth -= 0.6 * ((y - 0.2) ** 2 + (x + 0.1) ** 2 < 0.06).float()
    truth += 0.4 * ((y + 0.4) ** 2 + x**2 < GRID).float()
    centres = torch.tensor([[-1.0, 0], [1, 0], [0, -1], [0, 1]])
    distance = (y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2
    maps = torch.exp(-distance / 2) * torch.exp(1j * centres.sum(1))[:, None, None]
    maps = (maps / torch.linalg.vector_norm(maps, dim=0)).to(torch.complex64)
    coordinates = radial(24, 2 * N, (N, N))
    A = from_sigpy(linop.Sense(maps.numpy(), coord=coordinates))
    noise = Gaussian(0.01)
    clean = truth.to(torch.complex64)
    y_noisy = noise.sample(A(clean), torch.Generator().manual_seed(4))
    weights = torch.from_numpy(density_compensation(coordinates, (N, N))).float()
    return A, y_noisy, noise, clean, A.adjoint(weights * y_noisy)


@pytest.mark.parametrize(
    "sampler", ["cgsense", *(pytest.param(s, marks=pytest.mark.slow) for s in ("tv", "dds"))]
)
def test_a_radial_scan_is_reconstructed(radial_scan, sampler):
    """Better than gridding, the compensated adjoint (18.8 dB), by 2 dB and more."""
    A, y, noise, truth, gridded = radial_scan

    def psnr(x):
        return float(-10 * torch.log10((x.abs() - truth.abs()).square().mean()))

    assert A.kind == "mri"
    assert A.out_shape == (4, 24, 2 * N)
    check(A, laws=["adjoint", "linear", "batches"])
    found = solve(y, A, noise=noise, sampler=sampler).image
    assert psnr(found) > psnr(gridded) + 2, (psnr(found), psnr(gridded))
