"""Multistep solvers of semi-linear diffusion equations: a step as weights of state, predictions, y and noise.

Called by `mrs`. The equations of DPM-Solver(++) in u = x - y (Li and others, "MRS: a fast sampler for mean reverting
diffusion based on ODE and SDE solvers", ICLR 2025; Lu and others, "DPM-Solver++", 2022). Numbers only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from restore.bridges.base import Times

Equation = Literal["ode", "sde"]
Extrapolated = Literal["data", "noise"]


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
