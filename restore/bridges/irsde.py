"""IR-SDE: the diffusion that forgets a clean image in favor of its degraded one, and grids of its times.

Schedules, forward process, reverse steps and training loss of Luo, Gustafsson, Zhao, Sjölund, Schön, "Image
restoration with mean-reverting stochastic differential equations", ICML 2023; levels between whole times and grids
after Li and others, "MRS: a fast sampler for mean reverting diffusion based on ODE and SDE solvers", ICLR 2025.
Called by the samplers `irsde` and `mrs` and by training. Pure functions of tensors; the schedule is kept in float64 and
cast when it meets an image.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from restore.bridges.base import Level, Times, clean_estimate, implied_noise
from restore.bridges.roundings import single, single_linspace
from restore.config import check_settings, setting
from restore.errors import ConfigError

Theta = Literal["cosine", "linear", "constant"]
Convention = Literal["irsde", "daclip"]
TimeGrid = Literal["linspace", "linear-lambda", "karras-n", "karras-t", "leading", "trailing"]
Interpolation = Literal["exact", "official"]
Roundings = Literal["exact", "float32"]


@dataclasses.dataclass(frozen=True)
class IRSDESchedule:
    """dx = theta_t (y - x) dt + g_t dw with g_t^2 = 2 s_inf^2 theta_t, at times t = 0 (clean) .. T.

    x_t = a_t x0 + (1 - a_t) y + s_t n, a = exp(-Theta), s = s_inf sqrt(1 - a^2), Theta the sum of theta dt; dt makes
    a_T = eps. s_inf is published as max_sigma / 255.
    convention: "irsde" takes theta_0 off the sum, so that a_0 = 1 and s_0 = 0; "daclip" (DA-CLIP, MR Sampler) does
    not: s_0 is 0.57/255 for the cosine and s_inf = 50/255. Use the one that the network was trained with.
    roundings: "float32" rounds to single precision where released code does and subtracts from 1 where digits cancel:
    small times are then 1e-4 off, relatively.

    Tensors over t have T + 1 entries, float64. Methods that take t as a tensor of
    whole times accept shape () or (N,), one per sample. Raises ConfigError.
    """

    length: int = setting(100, "steps of the schedule as trained, T", at_least=1)
    theta: Theta = setting("cosine", "how the speed of forgetting grows")
    s_inf: float = setting(
        50 / 255, "stationary deviation of the noise, for images in [0, 1]", above=0
    )
    eps: float = setting(0.005, "share of the clean image that is left at T", above=0, below=1)
    convention: Convention = setting(
        "daclip", "whether the sum of theta starts with theta_0 (daclip)"
    )
    roundings: Roundings = setting(
        "exact", "float64, or rounded as released code computes (float32)"
    )

    def __post_init__(self) -> None:
        check_settings(self)

    # -- the schedule at whole times

    @cached_property
    def thetas(self) -> Tensor:
        """Speed of forgetting."""
        count, r = self.length + 1, self._rounded
        if self.theta == "constant":
            return torch.ones(count, dtype=torch.float64)
        if self.theta == "linear":
            return self._linspace(1e-4 * 1000 / count, 0.02 * 1000 / count, count)
        k = r(torch.arange(count + 1, dtype=torch.float64) / (count + 1))
        angle = r(r(r(k + r(0.008)) / r(1.008)) * r(math.pi)) / 2
        f = r(r(angle.cos()).square())
        # Digits cancel at small times: the rounding of the ratio is 1e-4 of theta_0.
        return r(1 - r(f[1:] / f[0]))

    @cached_property
    def cumulated(self) -> Tensor:
        """Sum of theta up to t, without dt."""
        total = self._rounded(self.thetas.cumsum(0))  # sums of float32 run in double
        return self._rounded(total - self.thetas[0]) if self.convention == "irsde" else total

    @cached_property
    def dt(self) -> float:
        """Length of one step, such that a_T = eps."""
        return float(self._rounded(-math.log(self.eps) / self.cumulated[-1]))

    @cached_property
    def theta_sums(self) -> Tensor:
        """Theta_t = -log a_t."""
        return self._rounded(self.cumulated * self.dt)

    @cached_property
    def a(self) -> Tensor:
        """Share of the clean image."""
        return self._rounded((-self.theta_sums).exp())

    @cached_property
    def s(self) -> Tensor:
        """Standard deviation of the noise."""
        r = self._rounded
        return r(r(r(self.s_inf**2) * self._share(self.theta_sums)).sqrt())

    @cached_property
    def lam(self) -> Tensor:
        """lambda_t = log(a_t / s_t), half the log of the signal-to-noise ratio; descending in t."""
        r = self._rounded
        return r(r(self.a.log()) - r(self.s.log()))

    @cached_property
    def g(self) -> Tensor:
        """Diffusion g_t = s_inf sqrt(2 theta_t)."""
        return self._rounded(self.s_inf * (2 * self.thetas).sqrt())

    # -- forward process, reverse steps, loss

    def forward(self, x0: Tensor, y: Tensor, n: Tensor, t: Tensor) -> Tensor:
        """x_t. x0, y, n: of one shape."""
        a, s = _over(self.a, t, x0), _over(self.s, t, x0)
        return a * x0 + (1 - a) * y + s * n

    def score(self, n: Tensor, t: Tensor) -> Tensor:
        """The score that a noise estimate n stands for: -n / s_t."""
        return -n / _over(self.s, t, n)

    def euler(self, x: Tensor, y: Tensor, n: Tensor, t: Tensor, *, ode: bool = False) -> Tensor:
        """x_{t-1} by one Euler step, for the SDE without its noise g_t sqrt(dt) z. n: the noise estimate."""
        theta, gain = _over(self.thetas, t, x), _over(self.g.square(), t, x)
        drift = theta * (y - x) - (0.5 if ode else 1.0) * gain * self.score(n, t)
        return x - drift * self.dt

    def euler_std(self, t: Tensor) -> Tensor:
        """g_t sqrt(dt), of t's shape."""
        return self.g[t.cpu()] * self.dt**0.5

    def posterior_mean(
        self, x: Tensor, x0: Tensor, y: Tensor, t: Tensor, to: Tensor | None = None
    ) -> Tensor:
        """Mean of q(x_s | x_t, x0), s = `to` (default t - 1): the paper's optimum x*_{t-1}, for any stride.

        With A = a_t/a_s, B = a_t, C = a_s: y + A (1 - C^2)/(1 - B^2) (x - y) + C (1 - A^2)/(1 - B^2) (x0 - y).
        """
        t, to = t.cpu(), (t - 1 if to is None else to).cpu()
        end, start, gained, r = (
            self.theta_sums[t],
            self.theta_sums[to],
            self._gained(t, to),
            self._rounded,
        )
        # released: each exponential is rounded, then squared
        share = self._share if self._exact else lambda total: r(1 - r(r((-total).exp()).square()))
        kept = r(r((-gained).exp()) * share(start)) / share(end)
        pulled = r(self.a[to] * share(gained)) / share(end)
        return y + _cast(kept, x) * (x - y) + _cast(pulled, x) * (x0 - y)

    def posterior_std(self, t: Tensor, to: Tensor | None = None) -> Tensor:
        """s_inf sqrt((1 - A^2)(1 - C^2)/(1 - B^2)), of t's shape."""
        t, to = t.cpu(), (t - 1 if to is None else to).cpu()
        sums = self._gained(t, to), self.theta_sums[to], self.theta_sums[t]
        between, start, end = (self._share(total) for total in sums)
        return self.s_inf * (between * start / end).sqrt()

    def loss(self, n: Tensor, x: Tensor, x0: Tensor, y: Tensor, t: Tensor) -> Tensor:
        """L1 distance of the Euler mean from the optimum x*_{t-1}, mean per sample, (N,).

        n: the network's noise estimate at x = x_t; all tensors (N, ...), t: (N,) in 1..T.
        """
        error = self.euler(x, y, n, t) - self.posterior_mean(x, x0, y, t)
        return error.abs().flatten(1).mean(1)

    @property
    def _exact(self) -> bool:
        return self.roundings == "exact"

    def _share(self, total: Tensor) -> Tensor:
        """1 - exp(-2 total): the share of the stationary variance that is reached."""
        if self._exact:
            return -torch.expm1(-2 * total)
        return single(1 - single((-2 * total).exp()))

    def _rounded(self, x: Tensor | float) -> Tensor:
        """A number that released code holds in float32."""
        return torch.as_tensor(x, dtype=torch.float64) if self._exact else single(x)

    def _linspace(self, start: float, end: float, count: int) -> Tensor:
        if self._exact:
            return torch.linspace(start, end, count, dtype=torch.float64)
        return single_linspace(start, end, count)

    def _gained(self, t: Tensor, to: Tensor) -> Tensor:
        """Theta_t - Theta_to, -log of A; for neighbors in float32 theta_t dt itself."""
        total = self.thetas.cumsum(0)
        return self._rounded(self._rounded(total[t] - total[to]) * self.dt)

    # -- levels between whole times

    def level(self, t: float) -> Level:
        """The factors at any time in 0..T: Theta is interpolated linearly, all else derived from it."""
        if float(t).is_integer():
            return Level(float(t), float(self.a[int(t)]), float(self.s[int(t)]))
        whole = torch.arange(self.length + 1, dtype=torch.float64)
        total = _interpolated(torch.tensor([t], dtype=torch.float64), whole, self.theta_sums)
        return self._grid(torch.tensor([t], dtype=torch.float64), total).level(0)

    def grid(
        self,
        kind: TimeGrid,
        n_steps: int,
        *,
        lambda_min: float = -math.inf,
        rho: float = 7.0,
        offset: int = 0,
        interpolation: Interpolation = "exact",
    ) -> Times:
        """n_steps + 1 times, descending.

        With max the largest whole time of lambda >= lambda_min:
        - "linspace": t uniform from max to 0;
        - "linear-lambda": lambda uniform from max(lambda_T, lambda_min) to lambda_0;
        - "karras-n": s/a by Karras's rule with exponent rho between its extremes;
        - "karras-t": t by that rule, from T to 1;
        - "leading": whole multiples of max // (n_steps + 1) down to 0, shifted by `offset`;
        - "trailing": from max in steps of T/(n_steps + 1), ending above 0.
        Where s_0 = 0 (convention "irsde"), "linear-lambda" and "karras-n" end at t = 1, and 0 follows.

        interpolation: "exact" as `level` has it; "official" interpolates a, s and lambda of whole times one by one, in
        float32 (released code; lambda is then up to 0.054 off log(a/s) near t = 0). Raises ConfigError.
        """
        if n_steps < 1 or rho <= 0 or offset < 0:
            raise ConfigError(
                f"IR-SDE: n_steps must be at least 1, rho positive and the offset 0 or more, got {n_steps}, "
                f"{rho} and {offset}"
            )
        if not float(self.lam[-1]) <= max(lambda_min, float(self.lam[-1])) < float(self.lam[0]):
            raise ConfigError(
                f"IR-SDE: lambda_min must lie below {float(self.lam[0]):.4g}, got {lambda_min}"
            )
        build = self._official_grid if interpolation == "official" else self._exact_grid
        grid = build(kind, n_steps, lambda_min, rho, offset)
        if any(late <= early for early, late in pairwise(grid.lam)):
            raise ConfigError(
                f"IR-SDE: the grid '{kind}' has not {n_steps + 1} different times; take fewer steps or another grid"
            )
        return grid

    def _exact_grid(
        self, kind: str, n_steps: int, lambda_min: float, rho: float, offset: int
    ) -> Times:
        whole = torch.arange(self.length + 1, dtype=torch.float64)
        if kind in ("linear-lambda", "karras-n"):
            total = self._by_noise(kind, n_steps, lambda_min, rho)
            t = _interpolated(total, self.theta_sums, whole)
        else:
            t = self._by_time(kind, n_steps, lambda_min, rho, offset)
            total = _interpolated(t, whole, self.theta_sums)
        return self._grid(t, total)

    def _grid(self, t: Tensor, total: Tensor) -> Times:
        a = (-total).exp()
        s = self.s_inf * (-torch.expm1(-2 * total)).sqrt()
        return Times(*(tuple(v.tolist()) for v in (t, a, s, -total - s.log())))

    def _by_noise(self, kind: str, n_steps: int, lambda_min: float, rho: float) -> Tensor:
        """Theta of a grid whose noise levels are chosen, ascending in lambda; (n_steps + 1,) float64."""
        landing = self.convention == "irsde"  # a last level without noise, where lambda is infinite
        last = self.lam[1 if landing else 0]
        share = torch.linspace(0, 1, n_steps + (0 if landing else 1), dtype=torch.float64)
        if kind == "linear-lambda":
            first = self.lam[-1].clamp(min=lambda_min)
            lam = first + share * (last - first)
        else:
            top, bottom = ((-v).exp() ** (1 / rho) for v in (self.lam[-1], last))
            lam = -((top + share * (bottom - top)) ** rho).log()
        # a^2 (1 + s_inf^2 e^(2 lambda)) = s_inf^2 e^(2 lambda)
        total = 0.5 * torch.log1p((-2 * lam).exp() / self.s_inf**2)
        return torch.cat([total, total.new_zeros(1)]) if landing else total

    def _by_time(
        self, kind: str, n_steps: int, lambda_min: float, rho: float, offset: int
    ) -> Tensor:
        """Times of a grid whose times are chosen. Raises ConfigError where there are not n_steps + 1 of them."""
        last = int((self.lam >= lambda_min).sum()) - 1
        count = torch.arange(n_steps + 1, dtype=torch.float64)
        if kind == "linspace":
            return self._linspace(0, last, n_steps + 1).flip(0)
        if kind == "karras-t":
            return self._karras(float(self.length), 1.0, n_steps, rho)
        if kind == "leading":
            t = count.flip(0) * (last // (n_steps + 1)) + offset
        elif kind == "trailing":
            t = last - count * (self.length / (n_steps + 1))
        else:
            raise ConfigError(
                f"IR-SDE: no time grid '{kind}'; there are: {', '.join(get_args(TimeGrid))}"
            )
        if t[-1] < 0 or t[0] > self.length:
            raise ConfigError(
                f"IR-SDE: the grid '{kind}' has not {n_steps + 1} times within 0..{self.length}; take fewer steps, "
                "less offset or another grid"
            )
        return self._rounded(t)

    def _karras(self, high: float, low: float, n_steps: int, rho: float) -> Tensor:
        """From high to low in n_steps (Karras and others, NeurIPS 2022, equation 5)."""
        r, share = self._rounded, self._linspace(0, 1, n_steps + 1)
        top, bottom = high ** (1 / rho), low ** (1 / rho)
        return r(r(top + r(share * r(bottom - top))) ** rho)

    def _official_grid(
        self, kind: str, n_steps: int, lambda_min: float, rho: float, offset: int
    ) -> Times:
        if self.convention != "daclip":
            raise ConfigError(
                "IR-SDE: the official interpolation needs a finite lambda_0; use convention 'daclip' or "
                "interpolation 'exact'"
            )
        released = dataclasses.replace(self, roundings="float32")
        # Sums, products and quotients of float32 are the same on every kernel: the pieces are joined in it.
        a, s, lam = released.a.float(), released.s.float(), released.lam.float()
        whole = torch.arange(self.length + 1, dtype=torch.float32)
        if kind == "linear-lambda":
            first = max(float(lam[-1]), lambda_min)
            wanted = single_linspace(first, float(lam[0]), n_steps + 1).float()
            t = _interpolated(wanted, lam.flip(0), whole.flip(0))
        elif kind == "karras-n":
            k = s / a
            ratios = released._karras(float(k[-1]), float(k[0]), n_steps, rho).float()
            t = _interpolated(ratios, k, whole)
        else:
            t = released._by_time(kind, n_steps, lambda_min, rho, offset).float()
        at = [_interpolated(t, whole, v) for v in (a, s, lam)]
        return Times(*(tuple(v.tolist()) for v in (t, *at)))


def noise_estimate(
    head: str, out: tuple[Tensor, ...], x: Tensor, y: Tensor, level: Level, s_inf: float
) -> Tensor:
    """n from a network's output, without a detour over x0 where the head allows it. x: the state x_t."""
    if head == "noise":
        return out[0]
    if head == "scaled-noise":
        return out[0] / level.c
    if head == "velocity":
        return (level.a * out[0] + level.c / s_inf * (x - y)) / s_inf
    return implied_noise(x, clean_estimate(head, out, x, y, level), y, level)


def _interpolated(x: Tensor, at: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear function through (at, values), at ascending; the outer pieces run on."""
    k = torch.searchsorted(at, x).clamp(1, len(at) - 1)
    rise = (x - at[k - 1]) * (values[k] - values[k - 1]) / (at[k] - at[k - 1])
    return values[k - 1] + rise


def _over(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """values[t] shaped and cast to broadcast over `like`."""
    return _cast(values[t.cpu()], like)


def _cast(values: Tensor, like: Tensor) -> Tensor:
    shape = (*values.shape, *[1] * (like.ndim - 1)) if values.ndim else ()
    return values.reshape(shape).to(like.device, like.real.dtype)
