"""Richardson-Lucy: scikit-image's iterates away from the border, positivity, likelihood, boundaries, and its end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.restoration import richardson_lucy

import restore
from restore.errors import ConfigError
from restore.metrics import psnr
from restore.operators import Blur, Identity
from restore.operators.base import LinearOperator
from restore.operators.image.kernels import gaussian, motion
from restore.problem import Problem
from restore.randomness import Draws
from restore.samplers.richardson_lucy import RichardsonLucy

SINGLE = 1e-5  # float32 beside float64: quotients and blurs of some steps
DOUBLE = 1e-9  # float64: twenty quotients and blurs
MISFIT = 0.02  # three digits are told
COMPANY = 1e-4  # float32 blurs of a batch in another order


def photograph(side: int = 96) -> torch.Tensor:
    return torch.from_numpy(samples.astronaut()[:side, 180 : 180 + side] / 255.0).movedim(-1, 0)


def noisy(y: torch.Tensor, std: float, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return y + std * torch.randn(y.shape, generator=g, dtype=y.dtype)


def iterates(y: torch.Tensor, operator: LinearOperator, noise=None, **settings) -> list:
    problem = Problem(y, operator, noise)
    return list(RichardsonLucy(**settings).steps(problem, None, Draws(0, problem.ids)))


@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_away_from_the_border_it_is_scikit_image(boundary):
    """A bright square on black: what leaves the border is nothing under any rule."""
    x = torch.zeros(40, 44, dtype=torch.float64)
    x[16:24, 15:30] = photograph()[0, 16:24, 15:30]
    kernel = motion(5, 30, dtype=torch.float64)
    y = Blur(kernel, (40, 44), boundary)(x).clamp(min=0)
    # scikit-image starts from one half everywhere; RL forgets a factor after one step.
    expected = richardson_lucy(y.numpy(), kernel.numpy(), num_iter=6, clip=False)
    found = iterates(y, Blur(kernel, (40, 44), boundary), n_steps=6)[-1].x0
    inside = (slice(8, 32), slice(8, 36))
    # Ratios y / A x of transforms in double precision; where both are near zero they mean nothing.
    np.testing.assert_allclose(found[inside], expected[inside], atol=SINGLE)


@pytest.mark.parametrize("boundary", ["circular", "reflect", "valid"])
def test_images_are_positive_and_the_likelihood_grows(boundary):
    operator = Blur(motion(7, 20, dtype=torch.float64), (3, 96, 96), boundary)
    y = noisy(operator(photograph()), 0.02).clamp(min=0)
    steps = iterates(y, operator, n_steps=25)
    gains = []
    for step in steps:
        assert bool((step.x0 >= 0).all())
        light = operator(step.x0).clamp(min=1e-12)
        gains.append(float((y * light.log() - light).sum()))
    # Sums of 3e4 terms: 1e-11 relative.
    assert (np.diff(gains) > -1e-9 * abs(gains[-1])).all()
    assert gains[-1] > gains[0]


def test_the_total_light_is_kept():
    operator = Blur(gaussian(1.5, dtype=torch.float64), (96, 96))
    y = operator(photograph()[0]) + 0.01
    found = iterates(y, operator, n_steps=5)[-1].x0
    # Kernels are normalised to 1e-16, 5 steps of transforms.
    assert float(found.sum()) == pytest.approx(float(y.sum()), rel=DOUBLE)


@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_borders_do_not_ring(boundary):
    """A grey picture without any edge is grey after it."""
    operator = Blur(gaussian(2.0, dtype=torch.float64), (40, 40), boundary)
    y = torch.full((40, 40), 0.6, dtype=torch.float64)
    # Sums of weights to one in double precision, 20 times.
    torch.testing.assert_close(iterates(y, operator, n_steps=20)[-1].x0, y, atol=DOUBLE, rtol=0)
    zero_padded = richardson_lucy(y.numpy(), operator.kernel.numpy(), num_iter=20, clip=False)
    assert abs(zero_padded - 0.6).max() > 0.1  # why the operator's own maps are used


@pytest.mark.parametrize("std", [0.01, 0.05])
def test_it_ends_near_the_best_step(std):
    x = photograph().float()
    operator = Blur(gaussian(1.6), tuple(x.shape), "reflect")
    y = noisy(operator(x), std)
    figures = [psnr(s.x0, x, data_range=1.0) for s in iterates(y, operator, n_steps=100)]
    found = restore.solve(y, operator, noise=std, sampler="richardson-lucy")
    assert psnr(found.image, x, data_range=1.0) > max(figures) - 0.4
    assert psnr(found.image, x, data_range=1.0) > figures[-1] + (1 if std > 0.02 else -0.4)
    assert found.log[-1]["misfit"] == pytest.approx(0.96, abs=MISFIT)


def test_items_end_by_themselves():
    operator = Blur(gaussian(1.6), (3, 96, 96), "reflect")
    clean = operator(photograph().float())
    y = torch.stack([noisy(clean, 0.05), 0.2 * noisy(clean, 0.1, 1)])
    together = restore.solve(y, operator, noise=0.02, sampler="richardson-lucy", n_steps=20).image
    for k in range(2):
        alone = restore.solve(y[k], operator, noise=0.02, sampler="richardson-lucy", n_steps=20)
        # The same transforms in single precision, batched otherwise, through 20 divisions.
        torch.testing.assert_close(together[k], alone.image, atol=COMPANY, rtol=0)


def test_refusals():
    y = torch.full((16, 16), 0.5)
    sharpen = torch.tensor([[0, -0.5, 0], [-0.5, 3, -0.5], [0, -0.5, 0]])
    with pytest.raises(ConfigError, match="negative values"):
        restore.solve(y, Blur(sharpen, (16, 16)), sampler="richardson-lucy")
    with pytest.raises(ConfigError, match="complex"):
        restore.solve(
            y.to(torch.complex64), Blur(gaussian(1.0), (16, 16)), sampler="richardson-lucy"
        )
    with pytest.raises(ConfigError, match="serves deblurring"):
        restore.solve(y, Identity((16, 16)), sampler="richardson-lucy")
    for values in ({"n_steps": 0}, {"misfit": -1}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            RichardsonLucy(**values)


def test_a_scaled_blur_is_a_blur():
    operator = Blur(gaussian(1.6, dtype=torch.float64), (3, 96, 96), "reflect")
    y = noisy(operator(photograph()), 0.02)
    plain = restore.solve(y, operator, noise=0.02, sampler="richardson-lucy").image
    found = restore.solve(4e-5 * y, 4e-5 * operator, noise=8e-7, sampler="richardson-lucy").image
    # Ratios are the same to rounding; the step at which an item is done may not move.
    torch.testing.assert_close(found, plain, atol=SINGLE, rtol=0)
