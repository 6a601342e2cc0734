"""RDDM: schedules that remove residual and noise separately, and what follows from them.

Forward process, posterior, heads, reverse steps and training losses of Liu, Wang, Fan, Wang, Tang, Qu, "Residual
denoising diffusion models", CVPR 2024. In the paper's words I_t = I_0 + A_t I_res + B_t n with I_res = I_in - I_0; in
those of `restore.bridges.base` a = 1 - A and c = B. Called by the sampler and by training. Pure functions of
tensors; schedules are kept in float64 and cast when they meet an image.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from restore.bridges.base import Level, implied_noise
from restore.bridges.roundings import single, single_linspace
from restore.config import check_settings, setting
from restore.errors import ConfigError

Growth = Literal["decreased", "increased", "average", "normal", "ddpm"]
Clip = Literal["none", "official", "wide"]
Update = Literal["use_pred_noise", "use_x_start", "special_eta_0", "special_eta_1"]
Variance = Literal["rddm", "ddim"]
Stage = Literal["joint", "residual", "noise"]

HEADS: dict[str, str] = {
    "residual+noise": "pred_res_noise", "residual+sum": "pred_res_add_noise",
    "x0+noise": "pred_x0_noise", "x0+sum": "pred_x0_add_noise",
    "residual": "pred_res", "noise": "pred_noise", "x0": "pred_x0",
}  # fmt: skip
"""What an RDDM network may be trained to return, and the objective of that in the released code."""

_BOXES: dict[str, tuple[float, float]] = {
    "none": (math.inf, math.inf), "official": (1.0, 1.0), "wide": (2.0, 1.0),
}  # fmt: skip
_OFFICIAL_FLOOR = 1e-6  # what the released code puts for 1 - A = 0


def weights(kind: str, count: int, power: float | None = None) -> Tensor:
    """Shares of a sum of one over t = 0..count - 1, float64.

    power: None for shares proportional to t + 1 (or backwards), else to (t/(count-1))^power, whose smallest is exactly
    0; those are rounded to float32 as in the released code. "average" and "normal" (a Gaussian on +-3
    deviations) know no power. Raises ConfigError.
    """
    if kind == "average":
        return torch.full((count,), 1 / count, dtype=torch.float64)
    if kind == "normal":
        x = torch.linspace(-3, 3, count, dtype=torch.float64)
        density = (-(x**2) / 2).exp()
        return density / density.sum()
    if kind not in ("increased", "decreased"):
        raise ConfigError(
            f"RDDM: '{kind}' has no weights; known kinds: {', '.join(get_args(Growth))}"
        )
    if power is None:
        share = torch.arange(1, count + 1, dtype=torch.float64) / (count * (count + 1) / 2)
    else:
        ramp = single(single(torch.linspace(0, 1, count, dtype=torch.float64)) ** power)
        share = single(ramp / single(ramp.sum()))
        share = share / share.sum()
    return share if kind == "increased" else share.flip(0)


def ddpm_alpha_bar(count: int) -> Tensor:
    """alpha-bar of the linear DDPM schedule from 1e-4 to 0.02, float32 as in the released conversion."""
    return single(torch.cumprod(single(1 - single_linspace(1e-4, 0.02, count)), dim=0))


@dataclasses.dataclass(frozen=True)
class RDDMSchedule:
    """A_t and B_t for the times t = 0 (least noise) .. length - 1.

    alpha, alpha_power: how A_t grows to 1. beta, beta_power: how B_t^2 grows to sum_scale, at most 1 (`weights`).
    "ddpm", for either or both: A = 1 - sqrt(alpha-bar), B^2 = 1 - alpha-bar of the linear DDPM schedule; they end at
    0.9936 and 0.99996 for 1000 times, and sum_scale must be 1. Raises ConfigError.
    """

    length: int = setting(1000, "times of the schedule as trained, T", at_least=2)
    sum_scale: float = setting(0.01, "variance of the noise at the last time", above=0, at_most=1)
    alpha: Growth = setting("decreased", "how the share of the residual grows")
    beta: Growth = setting("increased", "how the variance of the noise grows")
    alpha_power: float | None = setting(
        None, "power of its weights; none: proportional to t", above=0
    )
    beta_power: float | None = setting(
        None, "power of its weights; none: proportional to t", above=0
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for kind, power in ((self.alpha, self.alpha_power), (self.beta, self.beta_power)):
            if power is not None and kind not in ("increased", "decreased"):
                raise ConfigError(
                    f"RDDM: a power belongs to 'increased' or 'decreased', got '{kind}'"
                )
        if self.beta == "ddpm" and self.sum_scale != 1:
            raise ConfigError(
                f"RDDM: the noise of beta='ddpm' has a sum of its own; set sum_scale=1, got {self.sum_scale}"
            )

    @cached_property
    def a(self) -> Tensor:
        """1 - A_t, (T,), summed from the end: 0 to the last bit where nothing of the image is left."""
        if self.alpha == "ddpm":
            return single(ddpm_alpha_bar(self.length).sqrt())
        share = weights(self.alpha, self.length, self.alpha_power)
        later = share.flip(0).cumsum(0).flip(0)[1:].clamp(max=1)
        return torch.cat([later, share.new_zeros(1)])

    @cached_property
    def B2(self) -> Tensor:
        """B_t^2, (T,)."""
        if self.beta == "ddpm":
            return single(1 - ddpm_alpha_bar(self.length))
        share = weights(self.beta, self.length, self.beta_power)
        return self.sum_scale * share.cumsum(0).clamp(max=1)

    @cached_property
    def A(self) -> Tensor:
        """Share of the residual in I_t, (T,)."""
        return 1 - self.a

    @cached_property
    def B(self) -> Tensor:
        """Standard deviation of the noise in I_t, (T,)."""
        return self.B2.sqrt()

    @cached_property
    def alphas(self) -> Tensor:
        """A_t - A_{t-1}, (T,)."""
        return -torch.diff(self.a, prepend=self.a.new_ones(1))

    @cached_property
    def betas2(self) -> Tensor:
        """B_t^2 - B_{t-1}^2, (T,)."""
        return torch.diff(self.B2, prepend=self.B2.new_zeros(1))

    @cached_property
    def posterior(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of q(I_{t-1} | I_t, I_0, I_res): factors of I_t, residual and x0 in the mean, and the variance; (T,) each.

        At t = 0 they are 0, 0, 1 and 0: the estimate itself.
        """
        before = torch.cat([self.B2.new_zeros(1), self.B2[:-1]])
        A_before = torch.cat([self.A.new_zeros(1), self.A[:-1]])
        of_x, of_x0 = before / self.B2, self.betas2 / self.B2
        of_residual = (self.betas2 * A_before - before * self.alphas) / self.B2
        factors = of_x, of_residual, of_x0, self.betas2 * before / self.B2
        for values, first in zip(factors, (0.0, 0.0, 1.0, 0.0), strict=True):
            values[0] = first
        return factors

    def level(self, t: int) -> Level:
        """The factors of time t; networks that are told (A_t T, B_t T) find them there too."""
        return Level(float(t), float(self.a[t]), float(self.B[t]))

    def times(self, n_steps: int, start: int | None = None) -> tuple[int, ...]:
        """start, ..., -1: n_steps + 1 times, evenly spread and cut to integers as released. start: T - 1 by default."""
        last = self.length - 1 if start is None else start
        spread = single_linspace(-1, last, n_steps + 1)
        return tuple(spread.int().flip(0).tolist())

    def forward(self, x0: Tensor, y: Tensor, n: Tensor, t: Tensor) -> Tensor:
        """I_t. x0, y, n: (N, ...); t: (N,) integers, one per sample."""
        shape = (-1, *[1] * (x0.ndim - 1))
        A, B = (v.to(x0.device)[t.to(x0.device)].to(x0.real.dtype).reshape(shape)
                for v in (self.A, self.B))  # fmt: skip
        return x0 + A * (y - x0) + B * n


class Prediction(NamedTuple):
    """What a network says of a state: residual y - x0, noise and clean image. Heads of two tensors need not agree."""

    residual: Tensor
    noise: Tensor
    x0: Tensor


def predictions(
    head: str, out: tuple[Tensor, ...], x: Tensor, y: Tensor, level: Level, clip: str = "none"
) -> Prediction:
    """Residual, noise and clean image from a network's output at the state x.

    clip: "official" clamps residual and x0 to [-1, 1] where the released code does so, and divides by 1e-6 where a
    noise head is asked at A = 1; "wide" clamps at the same places but leaves the residual the [-2, 2] that it lives in.
    The noise of two-tensor and noise heads is not computed anew after a clamp. Raises ConfigError for
    unknown heads and for noise heads where a is 0.
    """
    first, A, B = out[0], 1 - level.a, level.c
    r_max, x_max = _BOXES[clip]
    if head in ("residual+noise", "residual+sum"):
        noise = out[1] if head == "residual+noise" else out[1] - first
        residual = _clamp(first, r_max)
        return Prediction(residual, noise, _clamp(x - A * residual - B * noise, x_max))
    if head in ("x0+noise", "x0+sum"):
        noise = out[1] if head == "x0+noise" else out[1] - first
        return Prediction(_clamp(y - first, r_max), noise, _clamp(first, x_max))
    if head == "noise":
        kept = _OFFICIAL_FLOOR if level.a == 0 and clip == "official" else level.a
        if kept == 0:
            raise ConfigError(no_image_left(level))
        x0 = _clamp((x - A * y - B * first) / kept, x_max)
        return Prediction(_clamp(y - x0, r_max), first, x0)
    if head == "residual":
        residual = _clamp(first, r_max)
        return Prediction(residual, _noise(x, y - residual, y, level), _clamp(y - residual, x_max))
    if head == "x0":
        residual = _clamp(y - first, r_max)
        return Prediction(residual, _noise(x, y - residual, y, level), y - residual)
    raise ConfigError(f"RDDM: unknown head '{head}'; there are {', '.join(HEADS)}")


def rederived(x: Tensor, x0: Tensor, y: Tensor, level: Level, clip: str = "none") -> Prediction:
    """The prediction in which everything follows from the state x and a corrected clean image."""
    r_max, x_max = _BOXES[clip]
    x0 = _clamp(x0, x_max)
    return Prediction(_clamp(y - x0, r_max), _noise(x, x0, y, level), x0)


def no_image_left(level: Level) -> str:
    """Why a noise head cannot be used at a level with a = 0, and what helps."""
    return (
        f"a network that predicts the noise says nothing of the image at time {level.t:g}, where none is left (A = 1); "
        f"start where 1 - A is not tiny (start_time={0.9 * level.t:.0f}, say), or divide by 1e-6 as the released code "
        "does (clip='official', data_consistency=False)"
    )


def reverse_variance(here: Level, there: Level, eta: float, rule: str = "rddm") -> float:
    """Variance of the fresh noise in a step from one level to a lower one, at most c^2 there.

    rule: "rddm": eta (B_t^2 - B_u^2) B_u^2/B_t^2, eta scales the variance. "ddim":
    eta^2 B_u^2 (1 - (a_t B_u/(a_u B_t))^2), which is DDIM's on its own schedule.
    """
    ratio = there.c / here.c
    if rule == "rddm":
        return eta * (here.c**2 - there.c**2) * ratio**2
    kept = here.a / there.a if there.a > 0 else 1.0
    return eta**2 * there.c**2 * (1 - (kept * ratio) ** 2)


def reverse(
    x: Tensor,
    found: Prediction,
    here: Level,
    there: Level,
    z: Tensor | None = None,
    *,
    variance: float = 0.0,
    update: str = "use_pred_noise",
    stage: str = "joint",
) -> Tensor:
    """The state at the level `there` from x at the level `here`: one step of the DDIM-like chain.

    z: standard normal noise, None for none. update: the forms of the released code: by residual and noise, by residual
    and x0 (the same without clamps), and the first with the variance of eta 0 or of eta 1, whatever `variance`.
    stage: remove the residual alone, the noise alone, or both ("use_pred_noise" only).
    """
    shift = (1 - here.a) - (1 - there.a)
    c_kept = (there.c**2 - variance) ** 0.5
    if update == "special_eta_0":
        return x - shift * found.residual - (here.c - there.c) * found.noise
    if update == "special_eta_1":
        beta2 = here.c**2 - there.c**2
        x = x - shift * found.residual - beta2 / here.c * found.noise
        return x if z is None else x + beta2**0.5 * there.c / here.c * z
    if update == "use_x_start":
        g = c_kept / here.c
        of_residual = (1 - there.a) - (1 - here.a) * g
        x = g * x + (1 - g) * found.x0 + of_residual * found.residual
    else:
        if stage != "noise":
            x = x - shift * found.residual
        if stage != "residual":
            x = x - (here.c - c_kept) * found.noise
    return x if z is None else x + variance**0.5 * z


def targets(head: str, x0: Tensor, y: Tensor, n: Tensor) -> tuple[Tensor, ...]:
    """What a network with this head is trained to return. Raises ConfigError."""
    if head not in HEADS:
        raise ConfigError(f"RDDM: unknown head '{head}'; there are {', '.join(HEADS)}")
    if head == "noise":
        return (n,)
    first = x0 if head.startswith("x0") else y - x0
    if "+" not in head:
        return (first,)
    return first, n if head.endswith("+noise") else first + n


def loss(
    head: str, out: tuple[Tensor, ...], x0: Tensor, y: Tensor, n: Tensor, *, norm: int = 1
) -> Tensor:
    """Training loss per sample, (N,): mean absolute (norm 1, restoration) or mean square (2, generation) error.

    Summed over the tensors of the head. out: the network's answer at `RDDMSchedule.forward(x0, y, n, t)`, t uniform.
    Raises ConfigError.
    """
    if norm not in (1, 2):
        raise ConfigError(f"RDDM: the loss has norm 1 or 2, got {norm}")
    pairs = zip(out, targets(head, x0, y, n), strict=True)
    errors = [(o - t).abs().pow(norm).flatten(1).mean(1) for o, t in pairs]
    return torch.stack(errors).sum(0)


def _noise(x: Tensor, x0: Tensor, y: Tensor, level: Level) -> Tensor:
    """The noise that x holds; none where the level has none."""
    return implied_noise(x, x0, y, level) if level.c > 0 else torch.zeros_like(x)


def _clamp(x: Tensor, limit: float) -> Tensor:
    return x if limit == math.inf else x.clamp(-limit, limit)
