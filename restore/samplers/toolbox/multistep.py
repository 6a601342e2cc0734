"""Multistep solvers of diffusion equations: a step as weights of the state, of the last estimates and of the noise.

Called by `toolbox.solved` for chains of denoisers and by `mrs` for mean-reverting ones. Numbers only.

Denoisers: dx/dsigma = (x - D)/sigma. With lambda = -log sigma it is solved by x' = (s'/s) x + the integral of
e^(lambda - lambda') D dlambda, or by x' = x + the integral of e dsigma, e = (x - D)/sigma; a solver extrapolates D or e
by a polynomial through the last estimates and integrates that. Mean-reverting chains have the same equations in
u = x - y (Li and others, "MRS: a fast sampler for mean reverting diffusion based on ODE and SDE solvers", ICLR 2025).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from restore.bridges.base import Times

B = Literal["b1", "b2"]
Equation = Literal["ode", "sde"]
Extrapolated = Literal["data", "noise"]

_NODES = 24  # of Gauss and Legendre's rule: exact to rounding for what is integrated here
_SMALL = 4.0  # up to this decay the rule, above it the recursion, which loses digits below it
_BETAS = (0.1, 19.9)  # first beta and slope of the continuous variance-preserving schedule
_ADAMS = (1.0, 1 / 2, 5 / 12, 3 / 8)
"""The explicit Adams formula in backward differences."""


def data_weights(
    order: int, sigmas: Sequence[float], after: float, decay: float, b: B = "b2"
) -> tuple[float, ...]:
    """Weights of the last `order` estimates D, newest first, beside e^-decay x: they add up to 1 - e^-decay.

    sigmas: the levels of those estimates, newest first. after: the level that the step ends at. decay: log(s/s') for
    the equation itself, 2 log(s/s') for ancestral steps, infinite where nothing of x is kept: estimates are then
    extrapolated to `after`. b: B(h) of the second order.

    Order 1 is DDIM, order 2 DPM-Solver++ (2M), which is also UniP-2 with B2 (Lu and others, "DPM-Solver++", 2022,
    algorithm 2; Zhao and others, "UniPC", NeurIPS 2023). Order 3 integrates the quadratic exactly, as UniP-3 does;
    released code of the 3M weighs the second difference by half of that and is of order 2.
    """
    if order == 1:
        return (-math.expm1(-decay),)
    places = _places(sigmas, sigmas[0], after)
    if order == 2:
        return _second(places[1], decay, b)
    return _through(places, _moments(decay, order))


def corrector_weights(
    order: int, sigmas: Sequence[float], after: float, b: B = "b2"
) -> tuple[float, ...]:
    """Weights of the estimate at `after`, then of those of `data_weights`: UniC-p, whose order is p + 1.

    Zhao, Bai, Rao, Zhou, Lu, "UniPC: a unified predictor-corrector framework", NeurIPS 2023, algorithm 1.
    """
    h = math.log(sigmas[0] / after)
    if order == 1:
        return _second(1.0, h, b)[::-1]
    places = [1.0, *_places(sigmas, sigmas[0], after)]
    return _through(places, _moments(h, order + 1))


def deis_weights(order: int, sigmas: Sequence[float], after: float) -> tuple[float, ...]:
    """Weights of the last `order` noise estimates e, newest first, beside x: they add up to s' - s.

    tAB-DEIS: a polynomial in the time t of the continuous variance-preserving schedule, integrated over sigma (Zhang,
    Chen, "Fast sampling of diffusion models with exponential integrator", ICLR 2023).
    """
    first, last = vp_time(sigmas[0]), vp_time(after)
    places = [(vp_time(s) - first) / (last - first) for s in sigmas]
    h = math.log(after / sigmas[0])
    u, du = _rule()
    s = sigmas[0] * torch.exp(h * u)
    t = (torch.tensor([vp_time(v) for v in s.tolist()], dtype=s.dtype) - first) / (last - first)
    return _through(places, [float((du * h * s * t**k).sum()) for k in range(order)])


def adams_weights(order: int, momentum: float = 1.0) -> tuple[float, ...]:
    """Weights, newest first, of v in x' = x + (s' - s) sum_k w_k v_k, v = (1 - momentum) v_before + momentum e.

    Without momentum (1) PLMS: the linear multistep of PNDM, for equal steps (Liu, Ren, Lin, Zhao, "Pseudo numerical
    methods for diffusion models on manifolds", ICLR 2022). Else GHVB (Wizadwongsa, Chinchuthakun,
    Khungurn, Raj, Suwajanakorn, "Diffusion sampling with momentum for mitigating divergence artifacts", ICLR 2024):
    v is e filtered, and the weights are those of Adams behind the inverse of the filter, cut off at the order.
    """
    inverse = (1 - momentum) / momentum
    adams = [_ADAMS[k] + (inverse * _ADAMS[k - 1] if k else 0.0) for k in range(order)]
    weights = [0.0] * order
    for k, gain in enumerate(adams):  # the k-th backward difference
        for j in range(k + 1):
            weights[j] += gain * (-1) ** j * math.comb(k, j)
    return tuple(weights)


def interpolated(sigmas: Sequence[float], ratio: float) -> tuple[float, ...]:
    """Weights of estimates at `sigmas`, newest first, for one at `ratio` of the way from the second to the newest.

    A polynomial through all of them in lambda; ratio 1 is the newest, above 1 it is extrapolated. Zhao,
    Wang, Zhou, Lu, "DC-Solver: improving predictor-corrector diffusion sampler via dynamic compensation", ECCV 2024.
    """
    places = _places(sigmas, sigmas[1], sigmas[0])
    return _through(places, [ratio**k for k in range(len(places))])


def vp_time(sigma: float) -> float:
    """The t whose level is sigma: log(1 + sigma^2) = 0.1 t + 19.9 t^2 / 2 (`levels.continuous`)."""
    first, slope = _BETAS
    whole = 2 * slope * math.log1p(sigma**2)
    return whole / (slope * (first + math.sqrt(first**2 + whole)))


@dataclasses.dataclass(frozen=True)
class StepWeights:
    """A step as x <- x * `x` + sum_k q_k * `history[k]` + y * `y` + z * `noise`, q_0 the newest prediction."""

    x: float
    history: tuple[float, ...]
    y: float
    noise: float

    def combine(self, x: Tensor, history: Sequence[Tensor], y: Tensor) -> Tensor:
        """The step without its noise, a new tensor."""
        out = x * self.x
        for q, weight in zip(history, self.history, strict=False):
            out.add_(q, alpha=weight)
        return out.add_(y, alpha=self.y)


def step_weights(
    kind: Equation, parameterization: Extrapolated, order: int, times: Times, i: int
) -> StepWeights:
    """The step of a given order from time i to time i + 1; `order` predictions are in the history.

    Taylor's expansion of the prediction in lambda with backward differences D1, D2, integrated exactly.
    """
    a_old, a, s_old, s = times.a[i], times.a[i + 1], times.c[i], times.c[i + 1]
    h = times.lam[i + 1] - times.lam[i]
    d1, d2 = _differences(order, times, i, h)
    q0 = (1.0, 0.0, 0.0)[:order]
    if parameterization == "noise":
        p1 = math.expm1(h)
        p2 = p1 / h - 1
        p3 = p2 / h - 0.5
        gain, noise = (-s, 0.0) if kind == "ode" else (-2 * s, s * math.expm1(2 * h) ** 0.5)
        q = _sum((gain * p1, q0), (gain * p2, d1), (gain * p3, d2))
        return StepWeights(a / a_old, q, 1 - a / a_old, noise)
    if kind == "ode":
        p1 = math.expm1(-h)
        p2 = p1 / h + 1
        p3 = p2 / h - 0.5
        kept = s / s_old
        q = _sum((-a * p1, q0), (a * p2, d1), (-a * p3, d2))
        return StepWeights(kept, q, 1 - kept + a_old * kept - a, 0.0)
    p = -math.expm1(-2 * h)
    q = _sum((a * p, q0), (a * (1 - p / (2 * h)), d1))
    y = 1 - a / a_old * math.exp(-2 * h) - a * p
    return StepWeights(s / s_old * math.exp(-h), q, y, s * p**0.5)


def _second(place: float, decay: float, b: B) -> tuple[float, float]:
    """Weights of the estimate at 0 and of a second one at `place` in units of the step: half of B times the slope."""
    whole = -math.expm1(-decay)
    half = (decay if b == "b1" else whole) / (2 * place)
    return whole - half, half


def _places(sigmas: Sequence[float], origin: float, unit: float) -> list[float]:
    """lambda of the levels, 0 at the origin, 1 at the unit."""
    h = math.log(origin / unit)
    return [math.log(origin / s) / h for s in sigmas]


def _through(places: Sequence[float], moments: Sequence[float]) -> tuple[float, ...]:
    """The weights of values at `places` that integrate u^k to moments[k], as many as there are."""
    powers = torch.tensor(places, dtype=torch.float64) ** torch.arange(len(places))[:, None]
    wanted = torch.tensor(moments, dtype=torch.float64)
    return tuple(torch.linalg.solve(powers, wanted).tolist())


def _moments(decay: float, count: int) -> list[float]:
    """The integrals of decay e^(-decay (1 - u)) u^k over 0..1, k < count."""
    if decay <= _SMALL:
        u, du = _rule()
        mass = du * decay * torch.exp(-decay * (1 - u))
        return [float((mass * u**k).sum()) for k in range(count)]
    found = [-math.expm1(-decay)]
    for k in range(1, count):
        found.append(1 - k / decay * found[-1])
    return found


@functools.cache
def _rule() -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes and weights of Gauss and Legendre's rule on 0..1, by the eigenvectors of Jacobi's matrix."""
    k = torch.arange(1, _NODES, dtype=torch.float64)
    beside = k / (4 * k**2 - 1).sqrt()
    values, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return (values + 1) / 2, vectors[0].square()


def _differences(
    order: int, times: Times, i: int, h: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """D1 and D2, first and second derivative of the prediction times h and h^2, as weights of the history."""
    if order == 1:
        return (0.0,), (0.0,)
    r = (times.lam[i] - times.lam[i - 1]) / h
    if order == 2:
        return (1 / r, -1 / r), (0.0, 0.0)
    r2 = (times.lam[i - 1] - times.lam[i - 2]) / h
    newer, older = (1 / r, -1 / r, 0.0), (0.0, 1 / r2, -1 / r2)
    bend = _sum((1 / (r + r2), newer), (-1 / (r + r2), older))
    return _sum((1.0, newer), (r, bend)), bend


def _sum(*terms: tuple[float, tuple[float, ...]]) -> tuple[float, ...]:
    """Sum of weighted tuples."""
    return tuple(sum(w * v[k] for w, v in terms) for k in range(len(terms[0][1])))
