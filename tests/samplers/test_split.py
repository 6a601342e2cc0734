"""Split on Gaussian priors, where every draw is exact and the posterior is linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.noise import Gaussian
from restore.operators.base import LinearOperator
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.split import Split

SIDE, STD, COUNT = 16, 0.05, 400
FEW = {"n_steps": 4, "cg_iters": 25}  # exact at any number of levels, and these systems are small
SHAPE = (SIDE, SIDE)
# Over 400 samples the mean variance ratio scatters by about sqrt(2 / 400 / 30) = 0.013, for some 30 independent
# directions of a 1/f prior; draws of a fixed seed are the same on every machine
RATIO = 0.03


def prior() -> GaussianPrior:
    fy, fx = (torch.fft.fftfreq(SIDE, dtype=torch.float64) for _ in range(2))
    spectrum = 0.02 / (0.01 + fy[:, None] ** 2 + fx[None] ** 2)
    return GaussianPrior(torch.full(SHAPE, 0.5, dtype=torch.float64), spectrum=0.05 * spectrum)


def operators() -> dict[str, LinearOperator]:
    g = torch.Generator().manual_seed(3)
    like = torch.empty(0, dtype=torch.float64)
    maps = torch.randn(3, *SHAPE, generator=g, dtype=torch.complex128)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    return {
        "inpaint": Inpainting((torch.rand(SHAPE, generator=g) < 0.4).double(), SHAPE),
        "superres": Downsample(SHAPE, 2, "bicubic", like),
        "deblur": Blur(gaussian(1.2).double(), SHAPE, boundary="circular"),
        "ct": ParallelBeamCT(ParallelBeam.covering(shape=SHAPE, views=8), dtype=torch.float64),
        "mri": MultiCoilMRI(maps, torch.rand(SIDE, generator=g) < 0.5),
    }


def matrix(A: LinearOperator) -> Tensor:
    """A on pixels; of a complex operator on re and im, which are independent unknowns of equal variance."""
    n = SIDE * SIDE
    eye = torch.eye(n, dtype=torch.float64).reshape(n, *SHAPE)
    if not A.is_complex:
        return A(eye).flatten(1).mT
    columns = A(torch.cat([eye, 1j * eye])).flatten(1)
    return torch.view_as_real(columns).flatten(1).mT


def dense_prior(complex_: bool) -> Tensor:
    n = SIDE * SIDE
    eye = torch.eye(n, dtype=torch.float64).reshape(n, *SHAPE)
    spectrum = prior().error_power(1e9, SHAPE)
    C = torch.fft.ifft2(torch.fft.fft2(eye) * spectrum[0]).real.reshape(n, n)
    return torch.block_diag(C, C) if complex_ else C


def posterior(A: LinearOperator, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance, dense."""
    M, C = matrix(A), dense_prior(A.is_complex)
    K = C @ M.mT @ torch.linalg.inv(M @ C @ M.mT + STD**2 * torch.eye(len(M), dtype=C.dtype))
    data = torch.view_as_real(y).flatten() if A.is_complex else y.flatten()
    m = torch.full((len(C),), 0.5, dtype=C.dtype)
    return m + K @ (data - M @ m), C - K @ M @ C


@pytest.mark.parametrize("kind", list(operators()))
def test_mean_and_spread_are_those_of_the_posterior(kind):
    A, g = operators()[kind], torch.Generator().manual_seed(1)
    planes = prior().sample(2, g)[:, 0]
    truth = torch.complex(planes[0], planes[1]) if A.is_complex else planes[0]
    y = Gaussian(STD).sample(A(truth), g)
    y = A.project(y)
    mean, covariance = posterior(A, y)
    sampler = Split.configured("posterior-analytic", A, FEW)
    problem = Problem(y.expand(COUNT, *y.shape), A, Gaussian(STD))
    found = ImagePrior(prior(), SHAPE, A.is_complex)
    *_, last = sampler.steps(problem, found, Draws(0, problem.ids))
    x = torch.view_as_real(last.x0).movedim(-1, 1) if A.is_complex else last.x0
    x = x.reshape(COUNT, -1)
    assert float(x.var(0).sum() / covariance.trace()) == pytest.approx(1, abs=RATIO)
    z = (x.mean(0) - mean) / (covariance.diagonal() / COUNT).sqrt()
    assert float(z.square().mean()) < 2, "the mean is off by more than its sampling error"
