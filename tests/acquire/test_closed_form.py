"""Choices on Gaussian priors, where the variance of every line given those measured is linear algebra."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from restore.acquire import Candidates, Particles, next_measurements
from restore.acquire.disagreement import entropy_of, spread_of, squared_distances
from restore.noise import Gaussian
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.analytic import GaussianPrior
from restore.problem import Problem

SIDE, STD = 8, 0.02
SHAPE = (SIDE, SIDE)
N = SIDE * SIDE
SAME = (
    1e-8  # double precision: a factor, two products of 128 terms and differences of numbers near 1
)
NEAR = 0.65  # of the largest: by 16 draws the variance of a line scatters by 10 to 30 %, numbers that go together more


def prior() -> GaussianPrior:
    fy, fx = (torch.fft.fftfreq(SIDE, dtype=torch.float64) for _ in range(2))
    spectrum = 0.02 / (0.02 + fy[:, None] ** 2 + 2 * fx[None] ** 2) ** 2
    return GaussianPrior(torch.full(SHAPE, 0.5, dtype=torch.float64), spectrum=0.01 * spectrum)


def views(count: int) -> ParallelBeamCT:
    return ParallelBeamCT(ParallelBeam.covering(shape=SHAPE, views=count), dtype=torch.float64)


def columns(taken: list[int]) -> MultiCoilMRI:
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(2, *SHAPE, generator=g, dtype=torch.complex128) + 1
    mask = torch.zeros(SIDE, dtype=torch.bool)
    mask[taken] = True
    return MultiCoilMRI(maps / torch.linalg.vector_norm(maps, dim=0), mask)


def basis(is_complex: bool) -> Tensor:
    """Images, one a real unknown."""
    eye = torch.eye(N, dtype=torch.float64).reshape(N, *SHAPE)
    return torch.cat([eye + 0j, 1j * eye]) if is_complex else eye


def lines_of(candidates: Candidates) -> Tensor:
    """The rows of every line as matrices (lines, numbers, unknowns)."""
    images = basis(candidates.whole.is_complex)
    return candidates.predicted(images, 1)[:, 0].movedim(0, -1).movedim(1, 0)


def covariance(candidates: Candidates) -> Tensor:
    """Of the unknowns, given the lines that were taken."""
    eye = basis(False)
    power = prior().error_power(1e9, SHAPE)[0]
    C = torch.fft.ifft2(torch.fft.fft2(eye) * power).real.reshape(N, N)
    C = torch.block_diag(C, C) if candidates.whole.is_complex else C
    M = lines_of(candidates)[sorted(candidates.taken)].flatten(0, 1)
    K = C @ M.mT @ torch.linalg.inv(M @ C @ M.mT + STD**2 * torch.eye(len(M), dtype=C.dtype))
    return C - K @ M @ C


def exact_variances(candidates: Candidates) -> Tensor:
    """The trace of the posterior predictive covariance of every line."""
    rows, C = lines_of(candidates), covariance(candidates)
    return (rows @ C * rows).sum((1, 2))


def known_so_far(kind: str, taken: list[int]) -> tuple[Problem, Candidates]:
    """A problem of the lines taken of a draw of the prior, and its candidates."""
    g = torch.Generator().manual_seed(5)
    planes = prior().sample(2, g)[:, 0]
    if kind == "mri":
        operator = columns(taken)
        y = operator.project(Gaussian(STD).sample(operator(torch.complex(planes[0], planes[1])), g))
        return Problem(y, operator, Gaussian(STD)), Candidates.of_columns(operator)
    every = views(9)
    angles = every.geometry.angles
    candidates = Candidates.of_views(every, angles, taken)
    fewer = dataclasses.replace(every.geometry, angles=tuple(angles[k] for k in taken))
    some = dataclasses.replace(every, geometry=fewer)
    return Problem(Gaussian(STD).sample(some(planes[0]), g), some, Gaussian(STD)), candidates


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_particles_of_the_right_covariance_score_lines_by_their_predictive_variance(kind):
    _, candidates = known_so_far(kind, [4])
    root = torch.linalg.cholesky(
        covariance(candidates) + 1e-12 * torch.eye(2 * N if kind == "mri" else N)
    )
    images = (root.mT.to(basis(kind == "mri").dtype) @ basis(kind == "mri").flatten(1)).unflatten(
        1, SHAPE
    )
    count = len(images)
    cloud = torch.cat([images, -images]) * count**0.5  # its covariance about 0 is the right one
    found = spread_of(squared_distances(candidates.predicted(cloud, 1)))
    torch.testing.assert_close(
        found * (2 * count - 1) / (2 * count), exact_variances(candidates), rtol=SAME, atol=SAME
    )


def test_the_entropy_of_wide_mixtures_is_their_variance():
    g = torch.Generator().manual_seed(1)
    apart = squared_distances(torch.randn(6, 2, 5, 7, generator=g, dtype=torch.float64))
    wide = 1e7
    found = entropy_of(apart, wide) * 2 * wide * 6 / 5
    # what the logarithm and the exponential leave of second order: d^2 / wide, some 1e-6
    torch.testing.assert_close(found, 2 * spread_of(apart), rtol=1e-4, atol=0)


def test_the_entropy_of_particles_far_apart_is_that_of_their_number():
    far = 1e3 * torch.arange(4, dtype=torch.float64)[:, None, None, None]
    alike = torch.zeros(4, 1, 1, 1, dtype=torch.float64)
    # one line on which all differ, 10^4 on which none does: the typical distance is small
    apart = squared_distances(torch.cat([far, alike.expand(4, 1, 1, 10_000)], -1))
    found = entropy_of(apart)
    assert float(found[0]) == pytest.approx(math.log(4), abs=1e-9)
    assert not bool(found[1:].any())


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        ("mri", "ads"),
        ("ct", "variance"),
        pytest.param("mri", "variance", marks=pytest.mark.slow),
        pytest.param("ct", "ads", marks=pytest.mark.slow),
    ],
)
def test_the_greedy_choice_is_that_of_the_largest_predictive_variance(kind, policy):
    taken = [4] if kind == "mri" else [0]
    many = Particles(count=16, steps=2)
    for _ in range(2):
        problem, candidates = known_so_far(kind, taken)
        exact = exact_variances(candidates)[list(candidates.open)]
        (chosen,) = next_measurements(
            problem, prior(), 1, candidates=candidates, policy=policy, particles=many
        )
        best = float(exact.max())
        assert float(exact[candidates.open.index(chosen)]) >= NEAR * best
        assert float(exact.min()) < NEAR * best, "any line would do"
        taken = [*taken, chosen]
