"""DDRM: each singular mode of the operator mixes estimate, measurement and noise by what is noisier.

Kawar, Elad, Ermon, Song, "Denoising diffusion restoration models", NeurIPS 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler, finite
from restore.samplers.guidance import Schedule, Start, blank, check_prior, noise_levels
from restore.solvers.spectral import DECOMPOSED, decompose


@dataclasses.dataclass(frozen=True)
class DDRM(Sampler):
    """Denoising diffusion restoration model.

    n_steps: network evaluations (the VP grid may add some). schedule: "karras" or "ve" (geometric) from sigma_start to
    sigma_end, or "vp" (the published grid; sigma_start unused). end_at_noise: the last level is no lower than that of
    the best seen mode (white noise given as one number; not for "vp"). With A = U S V^H, ybar = S^-1 U^H y, whose
    noise has the deviation sigma_y/S, and bars for V^H, the state at the next level s' is (equations 4 and 5)
    - S = 0: xbar_h + s' (sqrt(1 - eta^2) ebar + eta n), e = (x - xh)/s;
    - s' < sigma_y/S: xbar_h + s' (sqrt(1 - eta^2) (ybar - xbar_h) S/sigma_y + eta n);
    - s' >= sigma_y/S: (1 - eta_b) xbar_h + eta_b ybar + sqrt(s'^2 - eta_b^2 sigma_y^2/S^2) n,
    mode by mode. start "noise": unseen modes begin as pure noise (paper); "degraded": as the degraded image plus noise.
    floor: singular values below this share of the largest count as zero, since their ybar is noise or rounding.
    Unknown noise is taken as none: seen modes of the result are then those of y (A x = y up to `floor`).

    Differs from the paper:
    - noise is drawn in the image, not in the modes: the same law, and the result does not depend on which basis of an
      eigenspace a library returns.
    - a tie, s' = sigma_y/S, belongs to the third rule as in the paper. Released code gives it to none (strict, preset
      "published"), so that its last step without noise returns the estimate, not the data.
    - "vp" begins as released code does, with the state divided by s instead of sqrt(1 + s^2): 2e-5 of it at t = 950.
    - the tuned presets start from the degraded image at a low noise level, draw all noise anew (eta 1; for blur 0.93)
      and end at the noise of the data, where the estimate of a well seen mode is that of Tweedie's formula.
    - the network sees the image in another of its eight orientations at every step (turns).
    - on a Gaussian prior it is not the posterior: with eta < 1 a mode follows ybar below sigma_y/S, noise included, the
      more so the more steps there are. It is exact where the last level is sigma_y/S itself.
    """

    operators: ClassVar[tuple[str, ...]] = DECOMPOSED
    serves: ClassVar[str] = (
        "operators with a singular value decomposition: denoising, inpainting, blur (circular or separable), "
        "downsampling, single-coil MRI"
    )
    reference: ClassVar[str] = "Kawar and others: Denoising diffusion restoration models, NeurIPS 2022"  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned Inpainting": {"n_steps": 60, "sigma_start": 1.0},
        "tuned Blur": {"eta": 0.93},
        "published": {
            "n_steps": 20, "schedule": "vp", "start": "noise", "eta": 0.85, "eta_b": 1.0, "strict": True,
            "end_at_noise": False, "turns": False,
        },
    }  # fmt: skip

    n_steps: int = 30
    schedule: Schedule = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    start: Start = "degraded"
    eta: float = 1.0
    eta_b: float = 1.0
    floor: float = 1e-3
    end_at_noise: bool = True
    strict: bool = False
    turns: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise ConfigError(
                f"DDRM: eta and eta_b must lie in 0..1, got {self.eta} and {self.eta_b}"
            )
        if not 0 <= self.floor < 1:
            raise ConfigError(f"DDRM: floor is a share, it must lie in 0..1, got {self.floor}")
        self.sigmas()

    def sigmas(self, noise: float = 0.0) -> list[float]:
        """The noise levels at which the network is called, descending. noise: of the best seen mode."""
        last = max(self.sigma_end, noise) if self.end_at_noise else self.sigma_end
        return noise_levels(self.schedule, self.n_steps, max(self.sigma_start, last), last)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh, the last one the final state. Raises ConfigError, DivergenceError."""
        prior, k, modes = check_prior("DDRM", prior), problem.item_ndim, _Modes(self, problem)
        sigmas = self.sigmas(modes.noise)
        x = modes.first(sigmas[0], draws.normal_like(blank(problem), k))
        for i, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            xh = prior(x, s, turn=i if self.turns else 0)
            if s_next:
                n = draws.normal_like(xh, k)
                x = modes.next(xh, (x - xh) / s, n, s_next)
            else:
                xh = modes.last(xh)
            finite(self, xh, i, len(sigmas), s)
            yield Step(i, len(sigmas), s, xh, prior.evaluations)


class _Modes:
    """The three rules in V's coordinates."""

    def __init__(self, settings: DDRM, problem: Problem) -> None:
        self.settings, self.svd = settings, decompose(problem.linear, problem.unit_y)
        values = self.svd.values
        self.seen = (values > 0) & (values >= settings.floor * values.amax())
        inverse = torch.where(self.seen, 1 / torch.where(self.seen, values, 1), 0)
        self.ybar = self.svd.uh(problem.unit_y) * inverse
        noise, largest = _noise_std(problem), float(values.amax())
        self.spread = noise * inverse  # of ybar: sigma_y/S
        self.noise = 0.0 if isinstance(noise, Tensor) or largest == 0 else noise / largest
        self.degraded = problem.degraded if settings.start == "degraded" else None

    def first(self, s: float, n: Tensor) -> Tensor:
        """Noise of deviation s about the modes that are seen better than that, and about the degraded image or zero."""
        nbar, known = self.svd.vh(n), self._better_seen(s)
        centre = 0 * nbar if self.degraded is None else self.svd.vh(self.degraded)
        added = (s**2 - self.spread**2).clamp(min=0).sqrt()
        x = self.svd.v(torch.where(known, self.ybar + added * nbar, centre + s * nbar))
        return x * ((1 + s**2) ** 0.5 / s) if self.settings.schedule == "vp" else x

    def next(self, xh: Tensor, e: Tensor, n: Tensor, s: float) -> Tensor:
        """The state at level s > 0 from estimate xh, implied noise e and fresh noise n."""
        eta, eta_b, vh = self.settings.eta, self.settings.eta_b, self.svd.vh
        x0, nbar, known = vh(xh), vh(n), self._better_seen(s)
        # Above the floor sigma_y/S is zero only without noise, where every mode is better seen.
        noisy = self.seen & ~known & (self.spread > 0)
        misfit = (self.ybar - x0) / torch.where(noisy, self.spread, 1)
        kept = torch.where(noisy, misfit, vh(e))
        other = x0 + s * ((1 - eta**2) ** 0.5 * kept + eta * nbar)
        added = (s**2 - (eta_b * self.spread) ** 2).clamp(min=0).sqrt()
        data = (1 - eta_b) * x0 + eta_b * self.ybar + added * nbar
        return self.svd.v(torch.where(known, data, other))

    def last(self, xh: Tensor) -> Tensor:
        """The state at level 0: the estimate, or the data where they are exact."""
        known, eta_b = self._better_seen(0.0), self.settings.eta_b
        if not bool(known.any()):
            return xh
        missing = torch.where(known, self.ybar - self.svd.vh(xh), 0)
        return xh + eta_b * self.svd.v(missing)

    def _better_seen(self, s: float) -> Tensor:
        # A level meant to be sigma_y/S may differ from it by rounding.
        below = self.spread < s if self.settings.strict else self.spread <= s * (1 + 1e-6)
        return self.seen & below


def _noise_std(problem: Problem) -> Tensor | float:
    """Standard deviation of white noise, a number or one per item; 0 where it is unknown. Raises ConfigError."""
    precision = problem.precision
    if not isinstance(precision, Tensor):
        return 0.0 if precision is None else precision**-0.5
    k = problem.item_ndim
    lead = problem.image_shape[: len(problem.image_shape) - k]
    each = precision.to(problem.y.device).expand(problem.y.shape).reshape(*lead, -1)
    if not bool((each == each[..., :1]).all()):
        raise ConfigError(
            "DDRM needs white noise: one level per item, not one per sample; use dds or diffpir"
        )
    return each[..., 0].rsqrt().reshape(*lead, *[1] * k)
