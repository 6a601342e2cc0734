"""The circulant preconditioner: exact for convolutions, the same answer in fewer steps for cone beams."""

from __future__ import annotations

import pytest
import torch

from restore.linalg.conjugate_gradients import cg
from restore.operators.base import dense
from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.solvers.circulant import FLOOR, inverse, laplacian_spectrum, response_spectrum
from restore.solvers.proximal import DataTerm, data_step
from restore.solvers.tv import laplacian

D = torch.float64
ROUNDED = 1e-10  # float64: a few FFTs of some hundred numbers; 1e-14 seen
SOLVED = 2e-7  # CG to a residual of 1e-10 in a system of condition 1e3; 1.4e-8 seen
GAIN = 0.75  # of the error after eight steps without preconditioner; 0.40 to 0.53 seen

SCAN = ConeBeam(equispaced(20, 360), (8, 22), 1.6, 60.0, 100.0)
CONE = XRayTransform(SCAN, VoxelGrid((4, 14, 12)), dtype=D)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_a_convolution_is_inverted_at_once(generator, dtype):
    shape = (2, 4, 6, 5)
    wanted = 0.1 + torch.rand(shape[1:], generator=generator, dtype=D)
    wanted = wanted + wanted.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2))  # even: of a real kernel
    scale = torch.tensor([1.0, 3.0], dtype=D).reshape(2, 1, 1, 1)

    def convolved(x):
        found = torch.fft.ifftn(torch.fft.fftn(x, dim=(1, 2, 3)) * wanted * scale, dim=(1, 2, 3))
        return found if x.is_complex() else found.real

    x = torch.randn(shape, generator=generator, dtype=dtype)
    spectrum = response_spectrum(convolved, x, 3)
    whole = wanted * scale if dtype.is_complex else (wanted * scale)[..., :3]
    torch.testing.assert_close(spectrum, whole, rtol=ROUNDED, atol=ROUNDED)
    torch.testing.assert_close(inverse(spectrum, 3)(convolved(x)), x, rtol=ROUNDED, atol=ROUNDED)
    found = cg(convolved, convolved(x), iters=1, item_ndim=3, precond=inverse(spectrum, 3))
    torch.testing.assert_close(found.x, x, rtol=ROUNDED, atol=ROUNDED)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("axes", [(-3,), (-3, -2, -1)])
def test_the_spectrum_of_periodic_differences(generator, dtype, axes):
    x = torch.randn(3, 4, 5, generator=generator, dtype=dtype)
    smooth = 1 + laplacian_spectrum(x, 3, axes)
    b = x + laplacian(x, axes, "periodic")
    torch.testing.assert_close(inverse(smooth, 3)(b), x, rtol=ROUNDED, atol=ROUNDED)


def test_what_vanishes_is_floored_and_what_answers_nothing_has_no_spectrum():
    x = torch.zeros(4, 6, dtype=D)
    found = response_spectrum(lambda v: v.mean().expand_as(v), x, 2)  # the zero frequency alone
    assert float(found.max()) == pytest.approx(1)
    assert float(found.min()) == pytest.approx(FLOOR)
    assert response_spectrum(torch.zeros_like, x, 2) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_a_data_step_on_a_cone_is_the_closed_form_in_fewer_steps(generator, weighted):
    """(I + w A' L A)^-1 (x0 + w A' L y), the mean of a Gaussian posterior, by the dense matrix."""
    y = CONE(torch.rand(CONE.in_shape, generator=generator, dtype=D))
    precision = torch.rand(y.shape, generator=generator, dtype=D) + 0.5 if weighted else 2.0
    term, x0, w = DataTerm(CONE, y, precision), torch.zeros(CONE.in_shape, dtype=D), 0.5
    a = dense(CONE)
    weights = (torch.ones_like(y) * precision).flatten()[:, None]
    right = x0.flatten() + w * a.T @ (weights[:, 0] * y.flatten())
    system = torch.eye(a.shape[1], dtype=D) + w * a.T @ (weights * a)
    wanted = torch.linalg.solve(system, right).reshape(x0.shape)
    error = {}
    for known in (True, False):
        done = data_step(term, x0, w, iters=300, tol=1e-10, preconditioned=known)
        torch.testing.assert_close(done.x, wanted, rtol=SOLVED, atol=SOLVED)
        early = data_step(term, x0, w, iters=8, preconditioned=known)
        gap = early.x - wanted
        error[known] = float(gap.flatten() @ system @ gap.flatten()) ** 0.5
    assert error[True] < GAIN * error[False]


def test_an_item_of_a_batch_is_solved_as_alone(generator):
    y = CONE(torch.rand(2, *CONE.in_shape, generator=generator, dtype=D))
    precision = torch.tensor([1.0, 50.0], dtype=D).reshape(2, 1, 1, 1)
    x0 = torch.zeros(2, *CONE.in_shape, dtype=D)
    both = data_step(DataTerm(CONE, y, precision), x0, 0.5, iters=5).x
    for k in range(2):
        alone = data_step(DataTerm(CONE, y[k], float(precision[k, 0, 0, 0])), x0[k], 0.5, iters=5).x
        torch.testing.assert_close(both[k], alone, rtol=ROUNDED, atol=ROUNDED)
