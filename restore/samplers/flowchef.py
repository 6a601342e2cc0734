"""FlowChef: a rectified flow is followed while gradients of the data misfit steer it, without passing the network.

Patel, Wen, Metaxas, Yang, "FlowChef: steering of rectified flow models for controlled generations", ICCV 2025.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers import schedules
from restore.samplers.base import Sampler, finite
from restore.samplers.guidance import Start, blank, check_prior


@dataclasses.dataclass(frozen=True)
class FlowChef(Sampler):
    """Steered rectified flow, z = (1 - t) x0 + t n.

    n_steps: network evaluations. schedule: "flow", times 1, 1 - 1/N, ..., 1/N, the first lowered to that of
    sigma_start; "karras" or "ve" (geometric), levels from sigma_start to sigma_end. start: from noise, or from the
    degraded image plus noise. The velocity is v = (z - xh)/t with xh = D(z/(1 - t), sigma), sigma = t/(1 - t), so that
    xh = z - t v. A step is z <- z - c; z <- z + (t' - t) v with the same v; c = 0 on the last step. With r = A(xh) - y:
    step_rule "fixed": c = s d mean|r|^2/dxh, the mean over the measurement of an item (released code; s belongs to
    the size of its images and to the gain of its operators);
    step_rule "discrepancy": c = (1 - t') s ||r|| (||r|| - sqrt(m))/||g||^2 g with g = A'^H Lambda r and ||r|| weighted
    by the precision Lambda: where all gains of A are alike, s = 1 brings the misfit of xh down to the sqrt(m) of m
    noisy values. It knows no units and stops at the noise. Where the noise is unknown or absent, Lambda = 1 and m = 0.
    eta: share of the noise in z that is drawn anew after a step.

    Differs from the paper:
    - any denoiser: the velocity of a network trained in variance-exploding coordinates is written as above. A flow
      model begins at t = 1 - 1e-5, the preset "published", beyond what such networks have seen.
    - "discrepancy", eta and the start from the degraded image at a low noise level are ours (the tuned presets):
      the flow itself keeps all faults of its start.
    - one mean per item where released code takes one over the batch (it runs batches of one).
    - the network sees the image in another of its eight orientations at every step (turns).
    """

    serves: ClassVar[str] = "any operator, non-linear ones included"
    reference: ClassVar[str] = "Patel and others: FlowChef, steering of rectified flow models, ICCV 2025"  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned Inpainting": {"sigma_start": 1.0},
        "published": {
            "n_steps": 200, "schedule": "flow", "sigma_start": 99999.0, "start": "noise", "step_rule": "fixed",
            "s": 500.0, "eta": 0.0, "turns": False,
        },
    }  # fmt: skip

    n_steps: int = 60
    schedule: Literal["flow", "karras", "ve"] = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    start: Start = "degraded"
    step_rule: Literal["fixed", "discrepancy"] = "discrepancy"
    s: float = 1.0
    eta: float = 1.0
    turns: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.s < math.inf:
            raise ConfigError(f"FlowChef: s must be finite and zero or more, got {self.s}")
        if not 0 <= self.eta <= 1:
            raise ConfigError(f"FlowChef: eta must lie in 0..1, got {self.eta}")
        self.times()

    def times(self) -> list[float]:
        """The times at which the network is called, descending, below 1."""
        if self.n_steps < 1 or not 0 < self.sigma_start < math.inf:
            raise ConfigError(
                f"FlowChef: n_steps must be at least 1 and sigma_start positive, got {self.n_steps} "
                f"and {self.sigma_start}"
            )
        first = self.sigma_start / (1 + self.sigma_start)
        if self.schedule == "flow":
            others = [1 - i / self.n_steps for i in range(1, self.n_steps)]
            if others and first <= others[0]:
                raise ConfigError(
                    f"FlowChef: schedule 'flow' begins near t = 1; sigma_start must exceed {self.n_steps - 1}, or "
                    "take schedule 'karras'"
                )
            return [first, *others]
        levels = schedules.karras if self.schedule == "karras" else schedules.geometric
        return [s / (1 + s) for s in levels(self.n_steps, self.sigma_start, self.sigma_end).tolist()]  # fmt: skip

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the steered estimate. Raises ConfigError, DivergenceError."""
        prior, times, k = check_prior("FlowChef", prior), self.times(), problem.item_ndim
        z = times[0] * draws.normal_like(blank(problem), k)
        if self.start == "degraded":
            z = z + (1 - times[0]) * problem.degraded
        for i, (t, t_next) in enumerate(zip(times, [*times[1:], 0.0], strict=True)):
            sigma = t / (1 - t)
            xh = prior(z / (1 - t), sigma, turn=i if self.turns else 0)
            v = (z - xh) / t
            c = self._correction(problem, xh, t_next) if t_next else torch.zeros_like(xh)
            x0 = finite(self, xh - c, i, len(times), sigma)
            yield Step(i, len(times), sigma, x0, prior.evaluations)
            z = z - c + (t_next - t) * v
            if self.eta and t_next:
                old, new = xh + v, draws.normal_like(z, k)
                z = z + t_next * (((1 - self.eta**2) ** 0.5 - 1) * old + self.eta * new)

    def _correction(self, problem: Problem, xh: Tensor, t_next: float) -> Tensor:
        r, k = problem.residual(xh), problem.item_ndim
        each = (*xh.shape[: xh.ndim - k], -1)  # measurements of one item in a row
        if self.step_rule == "fixed":
            count = r.reshape(each).shape[-1]
            return (2 * self.s / count) * problem.gradient(xh, weighted=False)
        g, precision = problem.gradient(xh), problem.precision
        squares = r.abs().square() * (1 if precision is None else precision)
        norm = squares.reshape(each).sum(-1).sqrt()
        power = g.abs().square().sum(tuple(range(-k, 0)))
        excess = norm if precision is None else (norm - _noise_norm(problem, each)).clamp(min=0)
        step = (1 - t_next) * self.s * norm * excess / torch.where(power > 0, power, 1)
        return step.reshape(*step.shape, *[1] * k) * g


def _noise_norm(problem: Problem, each: tuple[int, ...]) -> Tensor:
    """sqrt(m), m the number of measured real values of each item: those that are not exactly zero."""
    y = problem.unit_y
    count = (y != 0).reshape(each).sum(-1) * (2 if y.is_complex() else 1)
    return count.to(y.real.dtype if y.is_complex() else y.dtype).sqrt()
