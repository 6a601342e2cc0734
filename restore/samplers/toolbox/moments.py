"""Mean and covariance of the clean image given a noisy one, as the denoiser implies them, and their use.

Called by samplers that differentiate a denoiser; everything in x = x0 + sigma n. Draws nothing, keeps nothing between
steps.

With D(x, sigma) = E[x0 | x], the covariance of x0 given x is P = sigma^2 dD/dx (second-order Tweedie formula). It is
symmetric for an exact prior. A network's Jacobian J is not quite; P v is sigma^2 J^H v here, one pullback.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import LinearMap, Result, Solution, cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem

Pullback = Callable[[Tensor], Tensor]

_RISEN = 10.0
"""Times the first residual, which CG of a sound system may exceed for a few steps, but not by so much."""


@dataclasses.dataclass(frozen=True, eq=False)
class PosteriorMoments:
    """The moments of x0 given x at noise level sigma: mean `x0`, and the covariance as a product."""

    x0: Tensor
    sigma: float
    pull: Pullback

    def covariance(self, v: Tensor) -> Tensor:
        """P v = sigma^2 J^H v. v: like x0."""
        return self.sigma**2 * self.pull(v)

    def mean_variance(self, probe: Tensor, item_ndim: int) -> Tensor:
        """tr P / n of each item from one probe: <v, P v> / <v, v> (Hutchinson), zero or more.

        Shaped to broadcast over x0. probe: like x0, entries of mean zero and equal variance, independent.
        """
        dims = tuple(range(-item_ndim, 0))
        squares = probe.abs().square().sum(dims, keepdim=True)
        products = (probe.conj() * self.covariance(probe)).real.sum(dims, keepdim=True)
        return (products / squares).clamp(min=0)


def posterior_moments(
    prior: ImagePrior, x: Tensor, sigma: float, *, turn: int = 0
) -> PosteriorMoments:
    """Call the denoiser and keep its graph. x: (*batch, *in_shape), unit intensities."""
    x0, pull = with_pullback(lambda v: prior(v, sigma, turn=turn), x)
    return PosteriorMoments(x0, sigma, pull)


def correction(
    problem: Problem,
    moments: PosteriorMoments,
    x0: Tensor,
    *,
    inner: LinearMap,
    precision: Tensor | float,
    cg_iters: int,
) -> Tensor:
    """P A^H (A Q A^H + Sigma_y)^-1 (y - A x0) by CG on the measurement's side, with scalars per item.

    inner: v -> Q v, the covariance used inside the inverse. precision: the inverse of the diagonal Sigma_y; the system
    is scaled by its root, so that zeros (samples without worth) are allowed. Returns the shape of x0.

    A network's Jacobian far from its images need not be positive, and CG then breaks down or leaves far more than it
    began with: such an item is solved with Q = sigma^2 I, which no x0 given x exceeds.
    """
    operator, root = problem.linear, precision**0.5
    missing, ndim = root * -problem.residual(x0), problem.operator.measured_ndim

    def solved(covariance: LinearMap) -> Solution:
        def system(w: Tensor) -> Tensor:
            return w + root * operator(covariance(operator.adjoint(root * w)))

        return cg(system, missing, iters=cg_iters, item_ndim=ndim)

    found = solved(inner)
    broken = found.result >= Result.BREAKDOWN
    w, lost = found.x, found.residual > torch.where(broken, 1.0, _RISEN)
    if bool(lost.any()):
        lost = lost.reshape(*lost.shape, *[1] * ndim)
        w = torch.where(lost, solved(lambda v: moments.sigma**2 * v).x, w)
    return moments.covariance(operator.adjoint(root * w))


def with_pullback(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Pullback]:
    """f(x) and v -> J(x)^H v, the adjoint of the Jacobian in the inner product Re<a, b>.

    The pullback may be called any number of times; it holds the graph, so drop it before the next step. Where f treats
    items one by one, so does J. Values carry no graph.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = function(leaf)

    def pull(v: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(value, leaf, v, retain_graph=True)
        return gradient

    return value.detach(), pull
