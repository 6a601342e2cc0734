"""Exact priors, for tests and teaching: a Gaussian, one of regions, and a mixture of Gaussians.

Their denoisers are closed formulas, so that a sampler can be compared with the posterior that linear algebra gives.
Differentiable, in the precision and on the device of the input, which their tensors follow; touch no files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.priors.base import ComplexMode, Denoiser, per_item, per_pixel


class GaussianPrior(Denoiser):
    """x0 ~ N(mean, C), exact: E[x0 | x] = mean + C (C + sigma^2 I)^-1 (x - mean).

    mean: (H, W) or (C, H, W). C is either block circulant, given by `spectrum`, the eigenvalues on the grid of the
    2-D DFT, (H, W) or like the mean (a number: white), symmetric under frequency reversal; or dense, given by
    `covariance`, (n, n) for the n row-major pixels of the mean. Raises ConfigError, ShapeError.
    """

    local = False

    def __init__(
        self,
        mean: Tensor,
        *,
        spectrum: Tensor | float | None = None,
        covariance: Tensor | None = None,
        complex_mode: ComplexMode = "separate",
        name: str = "gaussian",
    ) -> None:
        self.mean = _image("mean", mean)
        self.channels, self.complex_mode, self.name = self.mean.shape[0], complex_mode, name
        self.foreign = False
        self._basis: Tensor | None = None
        if (spectrum is None) == (covariance is None):
            raise ConfigError(
                "GaussianPrior: give either a spectrum (circulant) or a covariance (dense)"
            )
        if covariance is not None:
            self._eigen, self._basis = _diagonalised(covariance, self.mean.numel())
        else:
            self._eigen = _checked_spectrum(torch.as_tensor(spectrum), self.mean)
        if not bool((self._eigen >= 0).all()):
            raise ConfigError(
                f"GaussianPrior: the covariance has the eigenvalue {float(self._eigen.min()):.3g} < 0"
            )

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W)."""
        s = per_item(sigma, x)
        mean = self.mean.to(x)
        return mean + self._filtered(
            x - mean, lambda c, rank: c / _positive(c + s.reshape(-1, *[1] * rank) ** 2)
        )

    @property
    def knows_error(self) -> bool:
        """True for a circulant covariance."""
        return self._basis is None

    def error_power(self, sigma: float, shape: tuple[int, ...]) -> Tensor | None:
        """Exact, C sigma^2 / (C + sigma^2), for a circulant C; (channels, H, W)."""
        if self._basis is not None:
            return None
        c = self._eigen.double()
        return c * sigma**2 / _positive(c + sigma**2)

    @property
    def knows_images(self) -> bool:
        """True for a circulant covariance."""
        return self._basis is None

    def image_law(self, shape: tuple[int, ...], *, centred: bool = True) -> tuple[Tensor, Tensor]:
        """Itself, (channels, H, W) both; with centred False the mean square image of every frequency is added."""
        if self._basis is not None:
            return super().image_law(shape, centred=centred)
        mean, c = self.mean.double(), self._eigen.double()
        return mean, c if centred else c + torch.fft.fft2(mean, norm="ortho").abs().square()

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent images (count, channels, H, W), in the precision of the mean."""
        white = torch.randn((count, *self.mean.shape), generator=generator, dtype=self.mean.dtype)
        return self.mean + self._filtered(white.to(self.mean.device), lambda c, rank: c.sqrt())

    def _filtered(self, x: Tensor, gain: Callable[[Tensor, int], Tensor]) -> Tensor:
        """gain(C) x, where gain maps the eigenvalues and the rank of the items they are shaped to."""
        c = self._eigen.to(x)
        if self._basis is None:
            return torch.fft.ifft2(torch.fft.fft2(x) * gain(c, 3)).real
        basis = self._basis.to(x)
        return ((x.flatten(1) @ basis * gain(c, 1)) @ basis.mT).reshape(x.shape)


class RegionGaussian(Denoiser):
    """x0 ~ N(mean, C), exact for noise of a level of its own at every pixel, none included.

    E[x0 | x] = mean + C (C + S^2)^-1 (x - mean), S the diagonal of the levels. mean: (H, W), float64; covariance:
    (n, n) for its row-major pixels, positive definite. Raises ConfigError, ShapeError.
    """

    kind: ClassVar[str] = "region"
    local = False

    def __init__(self, mean: Tensor, covariance: Tensor, name: str = "region gaussian") -> None:
        self.mean, self.covariance = _image("mean", mean), covariance
        self.channels, self.name, self.foreign = 1, name, False
        values, _ = _diagonalised(covariance, self.mean.numel())
        if self.mean.shape[0] != 1 or not bool((values > 0).all()):
            raise ConfigError("RegionGaussian: one channel and a positive definite covariance")

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, 1, H, W); sigma: a number, (N,) or (N, 1, H, W). Items of the same levels share a solve."""
        mean, c = self.mean.to(x).flatten(), self.covariance.to(x)
        maps, which = per_pixel(sigma, x).flatten(1).unique(dim=0, return_inverse=True)
        gains = torch.linalg.solve(c + torch.diag_embed(maps**2), c)  # (C + S^2)^-1 C
        offset = x.flatten(1) - mean
        found = torch.empty_like(offset)
        for k, gain in enumerate(gains):
            found[which == k] = offset[which == k] @ gain
        return (mean + found).reshape(x.shape)


class GaussianMixture(Denoiser):
    """x0 ~ sum_k w_k N(m_k, v_k I), exact: the responsibilities of x average the components' denoisers.

    means: (K, H, W) or (K, C, H, W). variances, weights: (K,), positive; weights are normalised. A component is a
    whole image. Raises ConfigError, ShapeError.
    """

    local = False

    def __init__(
        self,
        means: Tensor,
        variances: Tensor,
        weights: Tensor,
        *,
        complex_mode: ComplexMode = "separate",
        name: str = "mixture",
    ) -> None:
        if means.ndim not in (3, 4) or not variances.shape == weights.shape == means.shape[:1]:
            raise ShapeError(
                f"GaussianMixture: means {tuple(means.shape)}, variances {tuple(variances.shape)} and weights "
                f"{tuple(weights.shape)} do not fit, expected (K, [C,] H, W), (K,) and (K,)"
            )
        if not bool((variances > 0).all() and (weights > 0).all()):
            raise ConfigError("GaussianMixture: variances and weights must be positive")
        self.means = means if means.ndim == 4 else means[:, None]
        self.variances, self.weights = variances, weights / weights.sum()
        self.channels, self.complex_mode, self.name = self.means.shape[1], complex_mode, name
        self.foreign = False

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W)."""
        means, v = self.means.to(x), self.variances.to(x)
        total = v + per_item(sigma, x).reshape(-1, 1) ** 2  # (N, K)
        offset = x[:, None] - means  # (N, K, C, H, W)
        share = self._responsibilities(offset, total)
        gain = (v / total)[:, :, None, None, None]
        return (share[:, :, None, None, None] * (means + gain * offset)).sum(1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Independent images (count, channels, H, W), in the precision of the means."""
        k = torch.multinomial(self.weights.cpu(), count, replacement=True, generator=generator)
        white = torch.randn(
            (count, *self.means.shape[1:]), generator=generator, dtype=self.means.dtype
        )
        std = self.variances.to(self.means).sqrt()[k]
        return self.means[k] + std[:, None, None, None] * white.to(self.means.device)

    def _responsibilities(self, offset: Tensor, total: Tensor) -> Tensor:
        """p(k | x): (N, K)."""
        pixels = math.prod(self.means.shape[1:])
        exponent = -offset.square().flatten(2).sum(2) / (2 * total) - pixels / 2 * total.log()
        return torch.softmax(exponent + self.weights.to(offset).log(), dim=1)


def _image(what: str, x: Tensor) -> Tensor:
    if x.ndim not in (2, 3) or not x.is_floating_point():
        raise ShapeError(
            f"GaussianPrior: {what} is {tuple(x.shape)} {x.dtype}, expected real (H, W) or (C, H, W)"
        )
    return x if x.ndim == 3 else x[None]


def _checked_spectrum(spectrum: Tensor, mean: Tensor) -> Tensor:
    spectrum = spectrum.to(mean)
    if spectrum.ndim and spectrum.shape not in (mean.shape, mean.shape[1:]):
        raise ShapeError(
            f"GaussianPrior: spectrum is {tuple(spectrum.shape)}, expected a number, {tuple(mean.shape[1:])} "
            f"or {tuple(mean.shape)}"
        )
    spectrum = spectrum.expand(mean.shape)
    reversed_ = spectrum.flip(-2, -1).roll((1, 1), (-2, -1))
    if not torch.allclose(spectrum, reversed_, rtol=1e-5, atol=1e-7 * float(spectrum.abs().max())):
        raise ConfigError(
            "GaussianPrior: the spectrum differs between a frequency and its negative: not a real prior"
        )
    return spectrum


def _diagonalised(covariance: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues (rounding below zero removed) and eigenvectors."""
    if tuple(covariance.shape) != (pixels, pixels):
        raise ShapeError(
            f"GaussianPrior: covariance is {tuple(covariance.shape)}, expected {(pixels, pixels)}"
        )
    if not torch.allclose(
        covariance, covariance.mT, rtol=1e-5, atol=1e-7 * float(covariance.abs().max())
    ):
        raise ConfigError("GaussianPrior: the covariance is not symmetric")
    values, vectors = torch.linalg.eigh(covariance.double())
    rounding = -1e-6 * float(values.abs().max())
    return torch.where((values < 0) & (values > rounding), 0, values), vectors


def _positive(x: Tensor) -> Tensor:
    """0/0 of a direction without variance or noise becomes 0: the mean is certain there."""
    return torch.where(x > 0, x, 1)
