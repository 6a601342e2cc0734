"""Noise levels of a run, written as sigma of x = x0 + sigma n, descending.

A variance-preserving chain at alpha-bar a is the same chain at sigma = sqrt((1 - a)/a) seen through the factor
1/sqrt(1 + sigma^2); samplers therefore know sigma only. Pure functions, double precision.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.errors import ConfigError


def vp_alphas_cumprod(count: int = 1000) -> Tensor:
    """alpha-bar of the linear DDPM schedule, beta from 1e-4 to 0.02, betas rounded to float32 as in released codes.

    Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.
    """
    betas = torch.linspace(1e-4, 0.02, count, dtype=torch.float64).float().double()
    return torch.cumprod(1 - betas, dim=0)


def alpha_bar_to_sigma(alpha_bar: Tensor) -> Tensor:
    """sigma = sqrt((1 - a)/a)."""
    return ((1 - alpha_bar) / alpha_bar).sqrt()


def vp_grid(n_steps: int) -> Tensor:
    """Sigmas at times 0, skip, 2 skip, ... < 1000 walked downward, skip = 1000 // n_steps (DDS code).

    The number of levels is ceil(1000/skip), which can exceed n_steps by one or more.
    """
    if not 1 <= n_steps <= 1000:
        raise ConfigError(
            f"the VP schedule has 1000 levels; n_steps must lie in 1..1000, got {n_steps}"
        )
    return alpha_bar_to_sigma(vp_alphas_cumprod())[:: 1000 // n_steps].flip(0)


def geometric(n_steps: int, sigma_max: float, sigma_min: float) -> Tensor:
    """Log-spaced levels, sigma_max first (Song and others, "Score-based generative modeling", ICLR 2021, VE)."""
    _check(n_steps, sigma_max, sigma_min)
    t = (
        torch.linspace(1, 0, n_steps, dtype=torch.float64)
        if n_steps > 1
        else torch.ones(1, dtype=torch.float64)
    )
    return sigma_min * (sigma_max / sigma_min) ** t


def karras(n_steps: int, sigma_max: float, sigma_min: float, rho: float = 7.0) -> Tensor:
    """Levels of Karras and others, "Elucidating the design space", NeurIPS 2022, equation 5 (without the final 0)."""
    _check(n_steps, sigma_max, sigma_min)
    t = (
        torch.linspace(0, 1, n_steps, dtype=torch.float64)
        if n_steps > 1
        else torch.zeros(1, dtype=torch.float64)
    )
    return (sigma_max ** (1 / rho) + t * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho


def _check(n_steps: int, sigma_max: float, sigma_min: float) -> None:
    if n_steps < 1:
        raise ConfigError(f"n_steps must be at least 1, got {n_steps}")
    if not 0 < sigma_min <= sigma_max:
        raise ConfigError(
            f"noise levels must satisfy 0 < sigma_min <= sigma_max, got {sigma_min} and {sigma_max}"
        )
