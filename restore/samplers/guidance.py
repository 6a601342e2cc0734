"""What samplers that differentiate a denoiser share: products and solves with the Tweedie covariance, reverse steps.

Called by `exact`, `pigdm` and `dps`; everything in x = x0 + sigma n. Draws nothing, keeps nothing between steps.

With D(x, sigma) = E[x0 | x], the covariance of x0 given x is P = sigma^2 dD/dx (second-order Tweedie formula). It is
symmetric for an exact prior. A network's Jacobian J is not quite; P v is sigma^2 J^H v here, one pullback.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import cg
from restore.priors.adapter import ImagePrior
from restore.problem import Problem
from restore.samplers import schedules
from restore.samplers.gradients import Pullback, with_pullback

LinearMap = Callable[[Tensor], Tensor]
Schedule = Literal["karras", "ve", "vp"]
Start = Literal["degraded", "noise"]
NoiseRule = Literal["ddim", "ddnm"]


@dataclasses.dataclass(frozen=True, eq=False)
class Tweedie:
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


def tweedie(prior: ImagePrior, x: Tensor, sigma: float, *, turn: int = 0) -> Tweedie:
    """Call the denoiser and keep its graph. x: (*batch, *in_shape), unit intensities."""
    x0, pull = with_pullback(lambda v: prior(v, sigma, turn=turn), x)
    return Tweedie(x0, sigma, pull)


def correction(
    problem: Problem,
    moments: Tweedie,
    x0: Tensor,
    *,
    inner: LinearMap,
    precision: Tensor | float,
    cg_iters: int,
) -> Tensor:
    """P A^H (A Q A^H + Sigma_y)^-1 (y - A x0) by CG on the measurement's side, with scalars per item.

    inner: v -> Q v, the covariance used inside the inverse. precision: the inverse of the diagonal Sigma_y; the system
    is scaled by its root, so that zeros (samples without worth) are allowed. Returns the shape of x0.
    """
    operator, root = problem.linear, precision**0.5

    def system(w: Tensor) -> Tensor:
        return w + root * operator(inner(operator.adjoint(root * w)))

    missing = root * -problem.residual(x0)
    w = cg(system, missing, iters=cg_iters, item_ndim=measured_ndim(problem)).x
    return moments.covariance(operator.adjoint(root * w))


def reverse_step(
    x0: Tensor, e: Tensor, s: float, s_next: float, n: Tensor, eta: float, noise_rule: NoiseRule
) -> Tensor:
    """x' = x0 + s' (sqrt(1 - k^2) e + k n) from the estimates x0 and e = (x - x0)/s, with n ~ N(0, I).

    k = eta sqrt(1 - s'^2/s^2) by "ddim": eta 1 is the ancestral step of DDPM with its variance beta-tilde, the same
    step in variance-preserving coordinates as in these (Song, Meng, Ermon, "Denoising diffusion implicit models",
    ICLR 2021, equation 16). k = eta by "ddnm".
    """
    k = eta * (1 - (s_next / s) ** 2) ** 0.5 if noise_rule == "ddim" else eta
    return x0 + s_next * ((1 - k**2) ** 0.5 * e + k * n)


def noise_levels(
    schedule: Schedule, n_steps: int, sigma_start: float, sigma_end: float
) -> list[float]:
    """Levels at which the network is called, descending; "vp" is the published grid. Raises ConfigError."""
    if schedule == "vp":
        return _vp_grid(n_steps).tolist()
    levels = schedules.karras if schedule == "karras" else schedules.geometric
    return levels(n_steps, sigma_start, sigma_end).tolist()


def first_state(problem: Problem, n: Tensor, sigma: float, *, start: Start, vp: bool) -> Tensor:
    """The degraded image plus noise of sigma, or noise alone: N(0, I) in VP coordinates is n sqrt(1 + sigma^2) here."""
    if start == "degraded":
        return problem.degraded + sigma * n
    return n * ((1 + sigma**2) ** 0.5 if vp else sigma)


def blank(problem: Problem) -> Tensor:
    """An empty image of the problem's shape, type and device, for draws; non-linear operators too."""
    real = problem.y.real.dtype if problem.y.is_complex() else problem.y.dtype
    kind = real.to_complex() if problem.operator.is_complex else real
    return torch.empty(problem.image_shape, dtype=kind, device=problem.y.device)


def check_prior(name: str, prior: ImagePrior | None) -> ImagePrior:
    """The prior, which must be there. Raises ConfigError."""
    if prior is None:
        raise ConfigError(f"{name} needs a denoising prior; give prior='medical' or 'natural'")
    return prior


def residual_norm(problem: Problem, x: Tensor) -> Tensor:
    """||y - A(x)|| of each item, shaped to broadcast over x; 1 where it is zero, as a divisor."""
    k = measured_ndim(problem)
    r = torch.linalg.vector_norm(problem.residual(x), dim=tuple(range(-k, 0)))
    r = torch.where(r > 0, r, 1)
    return r.reshape(*r.shape, *[1] * (x.ndim - r.ndim))


def measured_ndim(problem: Problem) -> int:
    """Trailing dimensions of a measurement that belong to one item."""
    return problem.operator.measured_ndim


def _vp_grid(n_steps: int) -> Tensor:
    """`schedules.vp_grid` with betas in double precision: RED-diff's released chains and the stored posteriors."""
    count = len(schedules.vp_grid(n_steps))
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    return schedules.alpha_bar_to_sigma(alpha_bar)[:: 1000 // n_steps].flip(0)[:count]
