"""DDRM: each singular mode of the operator mixes estimate, measurement and noise by what is noisier.

Kawar, Elad, Ermon, Song, "Denoising diffusion restoration models", NeurIPS 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox import levels
from restore.samplers.toolbox.chain import ETA, Chain, blank, centre_of
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.solved import SolvedChain
from restore.solvers.spectral import decompose


@dataclasses.dataclass(frozen=True)
class DDRM(SolvedChain):
    """Denoising diffusion restoration model.

    With A = U S V^H, ybar = S^-1 U^H y, whose noise has the deviation sigma_y/S, and bars for V^H, the state at the
    next level s' is (equations 4 and 5), with xh = D(x, s),
    - S = 0: xbar_h + s' (sqrt(1 - eta^2) ebar + eta n), e = (x - xh)/s;
    - s' < sigma_y/S: xbar_h + s' (sqrt(1 - eta^2) (ybar - xbar_h) S/sigma_y + eta n), here with eta_a for eta;
    - s' >= sigma_y/S: (1 - eta_b) xbar_h + eta_b ybar + sqrt(s'^2 - eta_b^2 sigma_y^2/S^2) n,
    mode by mode. Modes of S = 0 may be walked by another solver (`toolbox.solved`). Unknown noise is taken as none:
    seen modes of the result are then those of y (A x = y up to `floor`).

    Differs from the paper:
    - noise is drawn in the image, not in the modes: the same law, and the result does not depend on which basis of an
      eigenspace a library returns.
    - a tie, s' = sigma_y/S, belongs to the third rule as in the paper. Released code gives it to none (strict, preset
      "published"), so that its last step without noise returns the estimate, not the data.
    - "vp" begins as released code does, with the state divided by s instead of sqrt(1 + s^2): 2e-5 of it at t = 950.
    - the tuned presets start from the degraded image at a low noise level, draw all noise anew (eta 1; for blur 0.93)
      and end at the noise of the data, where the estimate of a well seen mode is that of Tweedie's formula. Not so for
      super-resolution, whose best seen mode has the noise of a pixel many times: it goes on below, and keeps some of
      the data's misfit in modes that are seen worse than the level (eta_a 0.9; released code has such a number of its
      own, etaA). Two photographs of 96 x 96, x4, noise 0.03: 22.8 and 27.5 dB without, 24.5 and 29.4 with.
    - the network sees the image in another of its eight orientations at every step (turns).
    - on a Gaussian prior it is not the posterior: with eta < 1 a mode follows ybar below sigma_y/S, noise included, the
      more so the more steps there are. It is exact where the last level is sigma_y/S itself.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"linear", "svd"})
    reference: ClassVar[str] = "Kawar and others: Denoising diffusion restoration models, NeurIPS 2022"  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": "auto"},
        "tuned deblur": {"eta": 0.93},
        "tuned superres": {"eta_a": 0.9, "end_at_noise": False},
        "published": {
            "n_steps": 20, "schedule": "vp", "start": "noise", "eta": 0.85, "eta_b": 1.0, "strict": True,
            "end_at_noise": False, "turns": False,
        },
    }  # fmt: skip

    schedule: Literal["karras", "ve", "vp"] = shared(Chain, "schedule")
    start: Literal["degraded", "filled", "noise"] = setting(
        "degraded",
        "unseen modes begin as pure noise (noise: the paper), or as the degraded image plus noise; filled: lost pixels "
        "from their neighbourhood",
    )  # fmt: skip
    eta: float = setting(1.0, ETA, between=(0, 1))
    eta_a: float | None = setting(
        None, "the same in modes that are seen worse than the level (none: eta)", between=(0, 1)
    )
    eta_b: float = setting(
        1.0, "share of the data in modes that are seen better than the level", between=(0, 1)
    )
    floor: float = setting(
        1e-3, "singular values below this share of the largest count as zero: their ybar is noise", at_least=0, below=1
    )  # fmt: skip
    end_at_noise: bool = setting(
        True, "the last level is no lower than that of the best seen mode (one known noise level; not for vp)"
    )  # fmt: skip
    strict: bool = setting(False, "a tie s' = sigma_y/S belongs to no rule (released code)")

    def levels(self, noise: float = 0.0) -> list[NoiseLevel]:
        """The steps of a run. noise: of the best seen mode."""
        last = max(self.sigma_end, noise) if self.end_at_noise else self.sigma_end
        return levels.descent(levels.grid(self.schedule, self.n_steps, max(self.highest, last), last))  # fmt: skip

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level of this problem."""
        std, size = _noise_std(problem), problem.linear.norm()
        chain = self.for_problem(problem).levels(
            0.0 if isinstance(std, Tensor) or size == 0 else std / size
        )
        return chain[-1].sigma, chain[0].sigma

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh, the last one the final state. Raises ConfigError, DivergenceError."""
        k, modes = problem.item_ndim, _Modes(self, problem)
        levels = self.for_problem(problem).levels(modes.noise)
        x = modes.first(levels[0].sigma, draws.normal_like(blank(problem), k))
        history = self.history()
        for level in levels:
            xh = self.denoised(prior, x, level)
            if level.next:
                n = draws.normal_like(xh, k)
                solved = history.next(x, xh, n, level, self.eta) if history else None
                x = modes.next(xh, (x - xh) / level.sigma, n, level.next)
                x = x if solved is None else modes.unseen(x, solved)
            else:
                xh = modes.last(xh)
            yield self.step(level, xh, prior.evaluations)


class _Modes:
    """The three rules in V's coordinates."""

    def __init__(self, settings: DDRM, problem: Problem) -> None:
        self.settings, self.svd = settings, decompose(problem.linear, problem.unit_y)
        values = self.svd.values
        self.seen = (values > 0) & (values >= settings.floor * values.amax())
        inverse = torch.where(self.seen, 1 / torch.where(self.seen, values, 1), 0)
        self.ybar = self.svd.uh(problem.unit_y) * inverse
        noise, largest = _noise_std(problem), float(values.amax())
        self.ybar_std = noise * inverse  # sigma_y/S
        self.noise = 0.0 if isinstance(noise, Tensor) or largest == 0 else noise / largest
        self.centre = (
            None if settings.start == "noise" else self.svd.vh(centre_of(problem, settings.start))
        )

    def first(self, s: float, n: Tensor) -> Tensor:
        """Noise of deviation s about the modes that are seen better than that, and about the degraded image or zero."""
        nbar, known = self.svd.vh(n), self._better_seen(s)
        centre = 0 * nbar if self.centre is None else self.centre
        added = (s**2 - self.ybar_std**2).clamp(min=0).sqrt()
        x = self.svd.v(torch.where(known, self.ybar + added * nbar, centre + s * nbar))
        return x * ((1 + s**2) ** 0.5 / s) if self.settings.schedule == "vp" else x

    def next(self, xh: Tensor, e: Tensor, n: Tensor, s: float) -> Tensor:
        """The state at level s > 0 from estimate xh, implied noise e and fresh noise n."""
        eta_b, vh = self.settings.eta_b, self.svd.vh
        x0, nbar, known = vh(xh), vh(n), self._better_seen(s)
        # Above the floor sigma_y/S is zero only without noise, where every mode is better seen.
        noisy = self.seen & ~known & (self.ybar_std > 0)
        misfit = (self.ybar - x0) / torch.where(noisy, self.ybar_std, 1)
        kept, eta = torch.where(noisy, misfit, vh(e)), self._fresh(noisy)
        other = x0 + s * ((1 - eta**2).sqrt() * kept + eta * nbar)
        added = (s**2 - (eta_b * self.ybar_std) ** 2).clamp(min=0).sqrt()
        data = (1 - eta_b) * x0 + eta_b * self.ybar + added * nbar
        return self.svd.v(torch.where(known, data, other))

    def unseen(self, x: Tensor, solved: Tensor) -> Tensor:
        """x with the modes of which nothing was measured from another state."""
        return self.svd.v(torch.where(self.seen, self.svd.vh(x), self.svd.vh(solved)))

    def _fresh(self, noisy: Tensor) -> Tensor:
        """The share of fresh noise, mode by mode."""
        eta, eta_a = self.settings.eta, self.settings.eta_a
        share = torch.full_like(noisy, eta, dtype=self.ybar.real.dtype)
        return share if eta_a is None else share.masked_fill(noisy, eta_a)

    def last(self, xh: Tensor) -> Tensor:
        """The state at level 0: the estimate, or the data where they are exact."""
        known, eta_b = self._better_seen(0.0), self.settings.eta_b
        if not bool(known.any()):
            return xh
        missing = torch.where(known, self.ybar - self.svd.vh(xh), 0)
        return xh + eta_b * self.svd.v(missing)

    def _better_seen(self, s: float) -> Tensor:
        # A level meant to be sigma_y/S may differ from it by rounding.
        below = self.ybar_std < s if self.settings.strict else self.ybar_std <= s * (1 + 1e-6)
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
