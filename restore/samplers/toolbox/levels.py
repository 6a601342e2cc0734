"""Noise levels of a chain, written as sigma of x = x0 + sigma n: the grids of the field by name, and their descent.

Called by samplers. A variance-preserving chain at alpha-bar a is the same chain at sigma = sqrt((1 - a)/a) seen through
the factor 1/sqrt(1 + sigma^2); samplers therefore know sigma only. Pure functions, double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from restore.errors import ConfigError

Schedule = Literal["karras", "ve", "vp", "quadratic", "continuous", "flow", "decay", "sd", "ldm"]
"""The names of `grid`: the first two and decay run from sigma_start to sigma_end, the others have ends of their own."""

TIMES = 1000
"""Times of the discrete variance-preserving schedules."""

# First and last beta of Stable Diffusion, and of latent diffusion's models of faces
_LATENT_BETAS = {"sd": (0.00085, 0.012), "ldm": (0.0015, 0.0195)}


class NoiseLevel(NamedTuple):
    """Step i of n: the network is called at sigma, hears `told`, and the step ends at `next`, 0 for the last."""

    i: int
    n: int
    sigma: float
    next: float
    told: float

    @property
    def a(self) -> float:
        """sqrt(alpha-bar) of the variance-preserving chain."""
        return (1 + self.sigma**2) ** -0.5

    @property
    def s(self) -> float:
        """sqrt(1 - alpha-bar) of the variance-preserving chain."""
        return self.sigma * self.a


def descent(
    sigmas: Sequence[float], *, told: Sequence[float] | None = None, last: float = 0.0
) -> list[NoiseLevel]:
    """The steps that walk a grid downward; the last one ends at `last`. told: what the network hears, else sigma."""
    n, heard, after = len(sigmas), told or sigmas, [*sigmas[1:], last]
    steps = zip(sigmas, after, heard, strict=True)
    return [NoiseLevel(i, n, *step) for i, step in enumerate(steps)]


def place(i: int, n: int, sigma: float) -> NoiseLevel:
    """Step i of n at a level of which nothing but sigma matters."""
    return NoiseLevel(i, n, sigma, 0.0, sigma)


def grid(name: str, n_steps: int, sigma_start: float, sigma_end: float) -> list[float]:
    """The levels of a grid by its name, descending; see the functions below. Raises ConfigError."""
    return _GRIDS[name](n_steps, sigma_start, sigma_end)


def karras(n_steps: int, sigma_start: float, sigma_end: float, rho: float = 7.0) -> list[float]:
    """Levels of Karras and others, "Elucidating the design space", NeurIPS 2022, equation 5 (without the final 0)."""
    _check(n_steps, sigma_start, sigma_end)
    t = torch.linspace(0, 1, n_steps, dtype=torch.float64)  # of one level: the first
    high, low = sigma_start ** (1 / rho), sigma_end ** (1 / rho)
    return ((high + t * (low - high)) ** rho).tolist()


def geometric(n_steps: int, sigma_start: float, sigma_end: float) -> list[float]:
    """Log-spaced levels (Song and others, "Score-based generative modeling", ICLR 2021, VE)."""
    _check(n_steps, sigma_start, sigma_end)
    t = torch.linspace(1, 0, n_steps, dtype=torch.float64)
    return (sigma_end * (sigma_start / sigma_end) ** t).tolist()


def decay(n_steps: int, sigma_start: float, sigma_end: float) -> list[float]:
    """max(sigma_start 0.9^k, sigma_end): Wu and others, PnP-DM, NeurIPS 2024."""
    _check(n_steps, sigma_start, sigma_end)
    return [max(sigma_start * 0.9**k, sigma_end) for k in range(n_steps)]


def vp(n_steps: int) -> list[float]:
    """The linear DDPM schedule at times 0, skip, 2 skip, ... walked downward, skip = 1000 // n_steps.

    The number of levels is ceil(1000/skip), which can exceed n_steps. Raises ConfigError.
    """
    sigmas = alpha_bar_to_sigma(vp_alphas_cumprod())
    return sigmas[:: _skip("vp", n_steps)].flip(0).tolist()


def quadratic(n_steps: int) -> list[float]:
    """The linear DDPM schedule at times 999 - int(1000 sqrt(i/(n - 1))), the last at 0: coarse where noise is high."""
    sigmas = alpha_bar_to_sigma(vp_alphas_cumprod())
    share = [TIMES**2 * i // max(n_steps - 1, 1) for i in range(n_steps)]
    return [float(sigmas[max(TIMES - 1 - math.isqrt(v), 0)]) for v in share]


def continuous(n_steps: int) -> list[float]:
    """The continuous VP schedule, beta from 0.1 to 20, at n_steps times from 1 to 1e-3."""
    t = torch.linspace(1, 1e-3, n_steps, dtype=torch.float64)
    return torch.expm1(19.9 * t**2 / 2 + 0.1 * t).sqrt().tolist()


def flow(n_steps: int, sigma_start: float) -> list[float]:
    """sigma = t/(1 - t) at the times 1, 1 - 1/N, ..., 1/N of a rectified flow, the first lowered to sigma_start.

    Raises ConfigError where sigma_start lies below the second level.
    """
    times = [1 - i / n_steps for i in range(1, n_steps)]
    if sigma_start <= n_steps - 1 and times:
        raise ConfigError(
            f"the schedule 'flow' begins near t = 1; sigma_start must exceed {n_steps - 1}, got {sigma_start}, or take "
            "schedule 'karras'"
        )
    return [sigma_start, *(t / (1 - t) for t in times)]


def latent(
    name: Literal["sd", "ldm"], n_steps: int, *, landing: bool = False, offset: bool = False
) -> list[NoiseLevel]:
    """The steps of latent diffusion models: times 1, 1 + skip, 1 + 2 skip, ... walked downward, skip = 1000 // n_steps.

    At skip 1 they are 0, 1, 2, ... There are ceil(1000/skip) of them, which can exceed n_steps. landing: the last step
    goes to the level of time 0 instead of to 0. offset: at skip 1 the network hears the level one time too high, 999 at
    most. Raises ConfigError.
    """
    skip = _skip(name, n_steps)
    sigmas = alpha_bar_to_sigma(scaled_linear_alphas_cumprod(name)).tolist()
    times = range(0 if skip == 1 else 1, TIMES, skip)[::-1]
    heard = [min(t + 1, TIMES - 1) if offset and skip == 1 else t for t in times]
    return descent(
        [sigmas[t] for t in times], told=[sigmas[t] for t in heard], last=sigmas[0] if landing else 0.0
    )  # fmt: skip


def vp_alphas_cumprod(count: int = TIMES) -> Tensor:
    """alpha-bar of the linear DDPM schedule, beta from 1e-4 to 0.02.

    Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.
    """
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, count, dtype=torch.float64), dim=0)


def scaled_linear_alphas_cumprod(name: str) -> Tensor:
    """alpha-bar of latent diffusion models ("sd", "ldm") at times 0..999: roots of beta equally spaced.

    Rombach, Blattmann, Lorenz, Esser, Ommer, "High-resolution image synthesis with latent diffusion models", CVPR 2022.
    """
    first, last = (b**0.5 for b in _LATENT_BETAS[name])
    betas = torch.linspace(first, last, TIMES, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def alpha_bar_to_sigma(alpha_bar: Tensor) -> Tensor:
    """sigma = sqrt((1 - a)/a)."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def _skip(name: str, n_steps: int) -> int:
    if not 1 <= n_steps <= TIMES:
        raise ConfigError(
            f"the schedule '{name}' has {TIMES} levels; n_steps must lie in 1..{TIMES}, got {n_steps}"
        )
    return TIMES // n_steps


def _check(n_steps: int, sigma_start: float, sigma_end: float) -> None:
    if n_steps < 1 or not 0 < sigma_end <= sigma_start:
        raise ConfigError(
            "a grid needs n_steps of 1 or more and noise levels 0 < sigma_end <= sigma_start, got "
            f"{n_steps}, {sigma_end} and {sigma_start}"
        )


_GRIDS: dict[str, Callable[[int, float, float], list[float]]] = {
    "karras": karras, "ve": geometric, "decay": decay,
    "vp": lambda n, start, end: vp(n), "quadratic": lambda n, start, end: quadratic(n),
    "continuous": lambda n, start, end: continuous(n), "flow": lambda n, start, end: flow(n, start),
    "sd": lambda n, start, end: [level.sigma for level in latent("sd", n)],
    "ldm": lambda n, start, end: [level.sigma for level in latent("ldm", n)],
}  # fmt: skip
