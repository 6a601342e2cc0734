"""Functions and networks of the field's parametrisations as denoisers: denoiser, noise, velocity, score, clean, flow.

Used by whoever brings a network of his own; the network is any callable of tensors. A variance-preserving
network at alpha-bar a sees x / sqrt(1 + sigma^2) with sigma = sqrt((1 - a)/a), and its time is found
from sigma. Where a network was trained on another intensity range than it is used in, images and noise
levels are converted.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.priors.base import Denoiser, pad_sides, per_item
from restore.priors.foreign import Images, Range, answer, called, check_images

Network = Callable[[Tensor, Tensor], Tensor]
Levels = Literal["interpolated", "nearest"]
SigmaAs = Literal["number", "vector"]


class _Wrapped(Denoiser):
    """A network with its intensity range, padding and precision; a subclass writes `_denoise`.

    network: called as network(x, label), x (N, channels, H, W), label (N,); more output channels than `channels` (a
    learned variance) are dropped. The noise level is converted with the intensities: a network of [-1, 1]
    used in [0, 1] is told 2 sigma, and `sigma_min`, `sigma_max` are halved. Raises ConfigError for a network that
    cannot be called, a keyword that is none of `Images`, and a value that cannot be.
    """

    def __init__(self, network: Network, sigma_range: Range, images: Images) -> None:
        self.network, self.channels = network, images.get("channels", 1)
        self.trained = images.get("trained", (0.0, 1.0))
        self.intensity = images.get("intensity", (0.0, 1.0))
        self.complex_mode = images.get("complex_mode", "separate")
        self.multiple = images.get("multiple", 1)
        self.name = images.get("name", "") or called(network)
        check_images(type(self), network, sigma_range, images)
        self._gain = (self.trained[1] - self.trained[0]) / (self.intensity[1] - self.intensity[0])
        self.sigma_min, self.sigma_max = sigma_range[0] / self._gain, sigma_range[1] / self._gain

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """E[x0 | x]. x: (N, channels, H, W) in `intensity` units; sigma: a number or (N,), same units."""
        inner = (x - self.intensity[0]) * self._gain + self.trained[0]
        x0 = self._denoise(inner, per_item(sigma, x) * self._gain)
        return (x0 - self.trained[0]) / self._gain + self.intensity[0]

    @abstractmethod
    def _denoise(self, x: Tensor, s: Tensor) -> Tensor:
        """E[x0 | x] in the network's own units; s: (N, 1, 1, 1)."""

    def _run(self, x: Tensor, label: Tensor) -> Tensor:
        """The network in its own precision on padded sides; first `channels` of its output in x's precision."""
        padded = pad_sides(x, self.multiple)
        out = answer(self.network, padded, label, self.name)
        if out.ndim != 4 or any(n < m for n, m in zip(out.shape, padded.shape, strict=True)):
            raise ShapeError(
                f"prior '{self.name}': the network returned {tuple(out.shape)} for {tuple(padded.shape)}, "
                "expected the same shape, further channels allowed"
            )
        return out[:, : x.shape[1], : x.shape[2], : x.shape[3]].to(x.dtype)


class FromDenoiser(_Wrapped):
    """Any D(x, sigma) that returns the clean image: a function, or a network that is told the noise level itself.

    Called as D(x, sigma) with x (N, channels, H, W), N pictures of one noise level; it returns the pictures, in x's
    shape. sigma_as: sigma as a Python number or as a tensor (N,) beside x; None: a number, unless
    `restore.priors.door` finds that only the tensor will do. channels left out (0): as many as the images have, which
    the door tries. sigma_min, sigma_max: noise levels at which it may be asked, in units of its own images (`trained`).
    """

    def __init__(
        self,
        network: Callable[[Tensor, Any], Tensor],
        *,
        sigma_min: float = 0.0,
        sigma_max: float = math.inf,
        sigma_as: SigmaAs | None = None,
        **images: Unpack[Images],
    ) -> None:
        if sigma_as not in (None, *get_args(SigmaAs)):
            raise ConfigError(
                f"FromDenoiser: sigma_as is {sigma_as!r}, expected 'number' or 'vector'"
            )
        super().__init__(network, (sigma_min, sigma_max), images)
        self.channels, self.sigma_as = images.get("channels", 0), sigma_as

    def _denoise(self, x: Tensor, s: Tensor) -> Tensor:
        levels = s.flatten()
        if self.sigma_as == "vector":
            return self._same(x, levels)
        numbers = levels.tolist()
        if len(set(numbers)) == 1:
            return self._same(x, numbers[0])
        return torch.cat([self._same(x[i : i + 1], s) for i, s in enumerate(numbers)])

    def _same(self, x: Tensor, level: Tensor | float) -> Tensor:
        padded = pad_sides(x, self.multiple)
        out = answer(self.network, padded, level, self.name)
        if out.shape != padded.shape:
            raise ShapeError(
                f"prior '{self.name}' returned {tuple(out.shape)} for {tuple(padded.shape)}, expected the same shape"
            )
        return out[..., : x.shape[2], : x.shape[3]].to(x.dtype)


class _VariancePreserving(_Wrapped):
    """A network of x_t = sqrt(a_t) x0 + sqrt(1 - a_t) n, called with the time t that belongs to sigma.

    alphas_cumprod: (T,) the training schedule, strictly falling between 1 and 0. levels: "interpolated" gives a
    fractional time (log sigma linear between two levels; exact on a level), "nearest" the whole number of the nearest
    level, as int64, for networks that look their time up in a table. Beyond the schedule the end level is used.
    """

    def __init__(
        self,
        network: Network,
        alphas_cumprod: Tensor,
        *,
        levels: Levels = "interpolated",
        **images: Unpack[Images],
    ) -> None:
        a = torch.as_tensor(alphas_cumprod, dtype=torch.float64).cpu()
        falling = a.ndim == 1 and len(a) > 1 and bool((a.diff() < 0).all())
        if not falling or a[-1] <= 0 or a[0] >= 1:
            raise ConfigError(
                f"prior '{images.get('name', '')}': alphas_cumprod must be (T,) with T > 1 "
                "and fall strictly, between 1 and 0"
            )
        sigmas = ((1 - a) / a).sqrt()
        self._log_sigmas, self.levels = sigmas.log(), levels
        super().__init__(network, (float(sigmas[0]), float(sigmas[-1])), images)

    def time(self, s: Tensor) -> Tensor:
        """Times of the network's own noise levels s (N,): int64 for "nearest", else float64."""
        table = self._log_sigmas.to(s.device)
        log_s = s.double().log().clamp(table[0], table[-1])
        above = torch.searchsorted(table, log_s).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        t = above - 1 + (log_s - low) / (high - low)
        whole = t.round()
        if self.levels == "nearest":
            return whole.long()
        # A level of the schedule in float32 is that level, not a fraction beside it.
        return torch.where((t - whole).abs() < 1e-4, whole, t)

    def _denoise(self, x: Tensor, s: Tensor) -> Tensor:
        scale = 1 / (1 + s**2).sqrt()
        return self._clean(x, s, self._run(x * scale, self.time(s.flatten())))

    @abstractmethod
    def _clean(self, x: Tensor, s: Tensor, out: Tensor) -> Tensor:
        """E[x0 | x] from the network's output; x = x0 + s n."""


class FromEps(_VariancePreserving):
    """A network that predicts the noise: x0 = x - sigma eps (Ho, Jain, Abbeel, NeurIPS 2020)."""

    def _clean(self, x: Tensor, s: Tensor, out: Tensor) -> Tensor:
        return x - s * out


class FromV(_VariancePreserving):
    """A network that predicts v = sqrt(a) n - sqrt(1 - a) x0 (Salimans and Ho, ICLR 2022)."""

    def _clean(self, x: Tensor, s: Tensor, out: Tensor) -> Tensor:
        return (x / (1 + s**2).sqrt() - s * out) / (1 + s**2).sqrt()


class FromX0(_VariancePreserving):
    """A network that predicts the clean image from x_t and t."""

    def _clean(self, x: Tensor, s: Tensor, out: Tensor) -> Tensor:
        return out


_BY_PREDICTION: dict[str, type[FromEps] | type[FromV] | type[FromX0]] = {
    "eps": FromEps, "v": FromV, "x0": FromX0,
}  # fmt: skip


def wrapper_of(prediction: str, name: str = "") -> Callable[..., Denoiser]:
    """The wrapper of a variance-preserving network by what it predicts: eps, v or x0. Raises ConfigError for others."""
    if prediction not in _BY_PREDICTION:
        words = ", ".join(_BY_PREDICTION)
        raise ConfigError(f"prior '{name}': predicts '{prediction}', expected one of {words}")
    return _BY_PREDICTION[prediction]


class FromScore(_Wrapped):
    """A variance-exploding score network s(x, sigma) = grad log p_sigma(x): x0 = x + sigma^2 s.

    Song and others, "Score-based generative modeling through stochastic differential equations", ICLR 2021.
    The label is sigma itself, in the network's own units.
    """

    def __init__(
        self,
        network: Network,
        *,
        sigma_min: float = 0.01,
        sigma_max: float = 378.0,
        **images: Unpack[Images],
    ) -> None:
        super().__init__(network, (sigma_min, sigma_max), images)

    def _denoise(self, x: Tensor, s: Tensor) -> Tensor:
        return x + s**2 * self._run(x, s.flatten())


class FromFlow(_Wrapped):
    """A rectified-flow network v(x_t, t) = E[n - x0 | x_t], x_t = (1 - t) x0 + t n, t in (0, 1).

    Liu, Gong, Liu, "Flow straight and fast", ICLR 2023; Lipman and others, "Flow matching", ICLR 2023. With
    t = sigma/(1 + sigma): x_t = (1 - t) x and x0 = x_t - t v.
    """

    def __init__(
        self,
        network: Network,
        *,
        t_min: float = 1e-3,
        t_max: float = 0.999,
        **images: Unpack[Images],
    ) -> None:
        if not 0 < t_min < t_max < 1:
            raise ConfigError(
                f"prior '{images.get('name', '')}': flow times are {t_min}..{t_max}, "
                "expected 0 < t_min < t_max < 1"
            )
        super().__init__(network, (t_min / (1 - t_min), t_max / (1 - t_max)), images)

    def _denoise(self, x: Tensor, s: Tensor) -> Tensor:
        t = s / (1 + s)
        inner = (1 - t) * x
        return inner - t * self._run(inner, t.flatten())
