"""RED-diff: the image as a variable of stochastic optimisation, regularised by a denoiser at one noise level a step.

Mardani, Song, Kautz, Vahdat, "A variational perspective on solving inverse problems with diffusion models", ICLR 2024.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite
from restore.samplers.guidance import blank, check_prior, noise_levels

Weight = Literal["linear", "sqrt", "square", "log", "trunc_linear", "power2over3", "const", "score"]

# f of the noise-to-signal ratio rho, which is sigma here; "score" is ours.
_WEIGHTS: dict[str, Callable[[float], float]] = {
    "linear": lambda rho: rho,
    "sqrt": math.sqrt,
    "square": lambda rho: rho**2,
    "log": math.log1p,
    "trunc_linear": lambda rho: min(rho, 1.0),
    "power2over3": lambda rho: rho ** (2 / 3),
    "const": lambda rho: 1.0,
    "score": lambda rho: 1 / rho,
}


@dataclasses.dataclass(frozen=True)
class REDdiff(Sampler):
    """RED-diff."""

    serves: ClassVar[str] = "any operator, non-linear ones included"
    reference: ClassVar[str] = "Mardani and others: RED-diff, ICLR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
    }

    n_steps: int = 100
    schedule: Literal["karras", "ve", "vp", "continuous"] = "karras"
    sigma_start: float = 1.0
    sigma_end: float = 0.01
    order: Literal["descending", "random", "ascending"] = "descending"
    start: Literal["degraded", "zeros"] = "degraded"
    weight: Weight = "linear"
    lam: float = 0.25
    data_weight: Literal["sigma", "unit"] = "sigma"
    obs_weight: float = 1.0
    reduction: Literal["sum", "mean", "official"] = "sum"
    lr: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.99
    eps: float = 1e-8
    lr_decay: float = 0.0
    average: float = 0.0
    sigma_x0: float = 0.0
    result: Literal["mu", "x0"] = "mu"
    double_scaling: bool = False
    turns: bool = True

    def __post_init__(self) -> None:
        if self.weight not in _WEIGHTS:
            raise ConfigError(
                f"RED-diff: no weight '{self.weight}'; there are: {', '.join(_WEIGHTS)}"
            )
        for name in ("schedule", "order"):
            pass
        self.sigmas()

    def sigmas(self) -> list[float]:
        """The noise levels at which the network is called, descending."""
        if self.schedule == "continuous":
            return _continuous(self.n_steps)
        return noise_levels(self.schedule, self.n_steps, self.sigma_start, self.sigma_end)

    def weight_at(self, sigma: float) -> float:
        """lam f(rho): what the prior's part of the gradient is multiplied with."""
        return self.lam * _WEIGHTS[self.weight](sigma)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the optimisation; each Step holds mu after its update."""
        prior = check_prior("RED-diff", prior)
        sigmas = self._ordered(draws)
        n = len(sigmas)
        mu = problem.degraded if self.start == "degraded" else torch.zeros_like(blank(problem))
        adam, mean = _Adam(self, mu), _Mean(round(self.average * n))
        for i, s in enumerate(sigmas):
            x0, g = self.gradient(problem, prior, mu, s, draws, turn=i if self.turns else 0)
            mu = finite(self, mu - self._rate(i, n) * adam.direction(g), i, n, s)
            x = x0 if self.result == "x0" else mean(mu, n - i)
            yield Step(i, n, s, x, prior.evaluations)

    def gradient(
        self,
        problem: Problem,
        prior: ImagePrior,
        mu: Tensor,
        sigma: float,
        draws: Draws,
        *,
        turn: int = 0,
    ) -> tuple[Tensor, Tensor]:
        k = problem.item_ndim
        x0 = mu
        if self.sigma_x0:
            x0 = mu + self.sigma_x0 * draws.normal_like(mu, k)
        n = draws.normal_like(mu, k)
        x = x0 + sigma * n
        if self.double_scaling:
            x = x / (1 + sigma**2) ** 0.5
        e = (x - prior(x, sigma, turn=turn)) / sigma
        weighted = self.data_weight == "sigma"
        data = problem.gradient(x0, weighted=weighted)
        v, w = self._scales(problem)
        return x0, (v * self.obs_weight) * data + (w * self.weight_at(sigma)) * (e - n)

    def _scales(self, problem: Problem) -> tuple[float, float]:
        """What the reduction multiplies the data term and the prior's term with."""
        if self.reduction == "sum":
            return 1.0, 1.0
        m, n = problem.y.numel(), math.prod(problem.image_shape)
        channels = (1 + problem.y.is_complex()), (1 + problem.operator.is_complex)
        m, n = m * channels[0], n * channels[1]
        if self.reduction == "mean":
            return n / max(m, 1), 1.0
        return 1 / max(m, 1), 1 / n

    def _ordered(self, draws: Draws) -> list[float]:
        sigmas = self.sigmas()
        if self.order == "random":
            g = torch.Generator().manual_seed(draws.seed % 2**63)
            return [sigmas[k] for k in torch.randperm(len(sigmas), generator=g).tolist()]
        return sigmas if self.order == "descending" else sigmas[::-1]

    def _rate(self, i: int, n: int) -> float:
        last = self.lr_decay * n
        left = n - i  # this step included
        if left > last:
            return self.lr
        return self.lr * 0.5 * (1 - math.cos(math.pi * left / (last + 1)))


class _Adam:
    def __init__(self, settings: REDdiff, mu: Tensor) -> None:
        self.settings, self.count = settings, 0
        planes = torch.view_as_real(mu) if mu.is_complex() else mu
        self.m1, self.m2 = torch.zeros_like(planes), torch.zeros_like(planes)

    def direction(self, g: Tensor) -> Tensor:
        s = self.settings
        parts = torch.view_as_real(g) if g.is_complex() else g
        self.count += 1
        self.m1.lerp_(parts, 1 - s.beta1)
        self.m2.mul_(s.beta2).addcmul_(parts, parts, value=1 - s.beta2)
        first = self.m1 / (1 - s.beta1**self.count)
        second = self.m2 / (1 - s.beta2**self.count)
        d = first / (second.sqrt() + s.eps)
        return torch.view_as_complex(d) if g.is_complex() else d


class _Mean:
    def __init__(self, last: int) -> None:
        self.last, self.count, self.sum = last, 0, None

    def __call__(self, mu: Tensor, left: int) -> Tensor:
        if left > self.last:
            return mu
        self.count += 1
        self.sum = mu if self.sum is None else self.sum + mu
        return self.sum / self.count


def _continuous(n: int) -> list[float]:
    t = torch.linspace(1, 1e-3, n, dtype=torch.float64)
    return torch.expm1(19.9 * t**2 / 2 + 0.1 * t).sqrt().tolist()
