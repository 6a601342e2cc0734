"""Non-Cartesian MRI against direct Fourier sums, the Cartesian operator, closed forms and sigpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fourier_sums import anywhere, drawn, fourier_sums, relative

from restore.errors import ConfigError, ShapeError
from restore.operators.mri.fourier import ifftc
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.nonuniform import nufft, nufft_adjoint
from restore.operators.mri.toeplitz import convolve, toeplitz_spectrum
from restore.operators.mri.trajectories import Trajectory, radial

pytest.importorskip("finufft")

DOUBLE = 1e-11  # the accuracy asked of finufft, 1e-13, of the norm; 4e-14 seen
SINGLE = 2e-4  # asked: 2e-5, and angles of single precision; 1.4e-6 seen
DOT = 1e-5  # single precision: two sums of some thousand products; 1e-6 seen
SHAPES = [(7, 6), (5, 4, 6)]


@pytest.mark.parametrize("shape", SHAPES)
def test_transforms_are_the_sums(shape: tuple[int, ...]):
    trajectory = anywhere(shape)
    matrix = fourier_sums(trajectory, shape)
    x, y = drawn(2, 3, *shape), drawn(2, 3, *trajectory.shape, seed=1)
    forwards = torch.einsum("rsp,abp->abrs", matrix, x.flatten(2))
    back = torch.einsum("rsp,abrs->abp", matrix.conj(), y).reshape(x.shape)
    assert relative(nufft(x, trajectory, len(shape)), forwards) < DOUBLE
    assert relative(nufft_adjoint(y, trajectory, shape), back) < DOUBLE
    low, up = x.to(torch.complex64), y.to(torch.complex64)
    seen = nufft(low, trajectory, len(shape))
    assert seen.dtype == torch.complex64
    assert relative(seen.to(torch.complex128), forwards) < SINGLE
    left = torch.vdot(up.flatten(), seen.flatten())
    right = torch.vdot(nufft_adjoint(up, trajectory, shape).flatten(), low.flatten())
    assert abs(left - right) < DOT * up.norm() * seen.norm()


@pytest.mark.parametrize("shape", [*SHAPES, (31, 64)])
def test_the_normal_operator_is_a_convolution(shape: tuple[int, ...]):
    """Against the transforms one after the other, weighted and not, in both precisions."""
    trajectory = anywhere(shape, 6, 40)
    weights = np.random.default_rng(1).random(trajectory.shape)
    x = drawn(2, *shape)
    for w in (None, weights):
        spectrum = toeplitz_spectrum(trajectory, shape, w)
        samples = nufft(x, trajectory, len(shape))
        samples = samples if w is None else samples * torch.from_numpy(w)
        wanted = nufft_adjoint(samples, trajectory, shape)
        assert relative(convolve(x, spectrum), wanted) < DOUBLE
        low = convolve(x.to(torch.complex64), spectrum.float())
        assert relative(low.to(torch.complex128), wanted) < SINGLE


@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5)])
def test_on_the_grid_it_is_the_cartesian_operator(shape: tuple[int, ...]):
    axes = [np.arange(n) - n // 2 for n in shape]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(shape[0], -1, len(shape))
    maps = drawn(2, 3, *shape)
    ours = NonCartesianMRI(maps, Trajectory(grid))
    theirs = MultiCoilMRI(maps, torch.ones(shape), len(shape))
    x = drawn(2, *shape, seed=2)
    y = theirs(x)
    assert ours.out_shape == (2, 3, shape[0], math.prod(shape[1:]))
    assert relative(ours(x), y.reshape(ours.out_shape)) < DOUBLE
    assert relative(ours.normal(x), theirs.normal(x)) < DOUBLE


def test_the_cartesian_operator_of_volumes():
    """Undersampled along both phase-encode axes, the readout in full: A^H A transforms two axes."""
    shape = (4, 6, 5)
    maps = drawn(2, 3, *shape)
    mask = torch.rand(4, 1, 5, generator=torch.Generator().manual_seed(1)) < 0.5
    op = MultiCoilMRI(maps, mask, 3)
    x, y = drawn(3, 2, *shape, seed=2), drawn(3, 2, 3, *shape, seed=3)
    wanted = (maps.conj() * ifftc(y * mask, 3)).sum(-4)
    assert (op.in_shape, op.slice_ndim, op.item_ndim) == ((2, *shape), 1, 3)
    assert op._shiftless[1] == (-3, -1)
    assert relative(op.adjoint(y), wanted) < DOUBLE
    assert relative(op.normal(x), op.adjoint(op(x))) < DOUBLE
    with pytest.raises(ConfigError, match="image_ndim is 4, expected 2 or 3"):
        MultiCoilMRI(maps, mask, 4)
    with pytest.raises(ShapeError, match=r"expected complex \(\*slices, coils, D, H, W\)"):
        MultiCoilMRI(maps[0, 0], mask, 3)


def test_a_gaussian_has_its_closed_form():
    """exp(-r^2 / 2 s^2) becomes 2 pi s^2 exp(-2 pi^2 s^2 |k|^2 / n^2) / n: narrow beside the field of view."""
    n, width = 48, 3.0
    row = torch.arange(n, dtype=torch.float64) - n // 2
    image = torch.exp(-(row[:, None] ** 2 + row**2) / (2 * width**2)) + 0j
    spokes = radial(9, 24, (n, n))
    radius = np.square(spokes).sum(-1) / n**2
    wanted = 2 * np.pi * width**2 / n * np.exp(-2 * np.pi**2 * width**2 * radius)
    seen = nufft(image, Trajectory(spokes), 2)
    assert torch.allclose(seen, torch.from_numpy(wanted) + 0j, rtol=0, atol=1e-10)  # 1e-12 seen


def test_matches_sigpy():
    linop = pytest.importorskip("sigpy.mri.linop")
    maps, spokes = drawn(4, 16, 15), radial(7, 20, (16, 15))
    theirs = linop.Sense(maps.numpy(), coord=spokes)
    ours = NonCartesianMRI(maps, Trajectory(spokes))
    x = drawn(16, 15, seed=1)
    # sigpy grids with a kernel of four cells on a grid 1.25 times finer: 3e-3 at most.
    assert relative(ours(x), torch.from_numpy(theirs(x.numpy()))) < 1e-2


def test_a_sampled_image_comes_back():
    """`pinv` of enough spokes: what lies inside the circle that they cover."""
    n = 24
    row = torch.linspace(-1, 1, n)
    image = torch.exp(-6 * (row[:, None] ** 2 + row**2)).to(torch.complex64)
    op = NonCartesianMRI.single_coil(Trajectory(radial(60, 24, (n, n), full=True)), (2, n, n))
    y = op(torch.stack([image, 2 * image]))
    assert (
        relative(op.pinv(y), torch.stack([image, 2 * image])) < 0.02
    )  # damping, 15 steps of weights; 2e-3 seen


def test_bad_values_are_named():
    with pytest.raises(ShapeError, match=r"points have shape \(4, 2\), expected \(readouts"):
        Trajectory(np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="NaN or infinite"):
        Trajectory(np.full((1, 4, 2), np.nan))
    far = Trajectory(np.full((1, 4, 2), 9.0))
    maps = torch.ones(1, 12, 20, dtype=torch.complex64)
    with pytest.raises(
        ConfigError, match="reach 9 cycles per field of view along axis 0, and 12 pixels hold 6"
    ):
        NonCartesianMRI(maps, far)
    with pytest.raises(ConfigError, match="trajectory is a ndarray, expected Trajectory"):
        NonCartesianMRI(maps, far.points)
    with pytest.raises(ShapeError, match="an image of 3 dimensions, as the trajectory"):
        NonCartesianMRI(maps, Trajectory(np.zeros((1, 4, 3))))
