"""FlowChef: a rectified flow is followed while gradients of the data misfit steer it, without passing the network.

Patel, Wen, Metaxas, Yang, "FlowChef: steering of rectified flow models for controlled generations", ICCV 2025.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import ETA, Chain
from restore.samplers.toolbox.items import over_image


@dataclasses.dataclass(frozen=True)
class FlowChef(Chain):
    """Steered rectified flow, z = (1 - t) x0 + t n.

    The velocity is v = (z - xh)/t with xh = D(z/(1 - t), sigma), sigma = t/(1 - t), so that xh = z - t v. A step is
    z <- z - c; z <- z + (t' - t) v with the same v; c = 0 on the last step. With r = A(xh) - y:
    step_rule "fixed": c = s d mean|r|^2/dxh, the mean over the measurement of an item (released code; s belongs to
    the size of its images and to the gain of its operators);
    step_rule "discrepancy": c = (1 - t') s ||r|| (||r|| - sqrt(m))/||g||^2 g with g = A'^H Lambda r and ||r|| weighted
    by the precision Lambda: where all gains of A are alike, s = 1 brings the misfit of xh down to the sqrt(m) of m
    noisy values. It knows no units and stops at the noise. Where the noise is unknown or absent, Lambda = 1 and m = 0.
    After a step the share eta of the noise in z is drawn anew.

    Differs from the paper:
    - any denoiser: the velocity of a network trained in variance-exploding coordinates is written as above. A flow
      model begins at t = 1 - 1e-5, the preset "published", beyond what such networks have seen.
    - "discrepancy", eta and the start from the degraded image at a low noise level are ours (the tuned presets):
      the flow itself keeps all faults of its start.
    - one mean per item where released code takes one over the batch (it runs batches of one).
    - the network sees the image in another of its eight orientations at every step (turns).
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    reference: ClassVar[str] = "Patel and others: FlowChef, steering of rectified flow models, ICCV 2025"  # fmt: skip
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned inpaint": {"start": "filled", "sigma_start": "auto"},
        "published": {
            "n_steps": 200, "schedule": "flow", "sigma_start": 99999.0, "start": "noise", "step_rule": "fixed",
            "s": 500.0, "eta": 0.0, "turns": False,
        },
    }  # fmt: skip

    n_steps: int = shared(Chain, "n_steps", 60)
    schedule: Literal["flow", "karras", "ve"] = setting(
        "karras", "levels: flow (times 1, 1 - 1/N, ..., 1/N, the first lowered to that of sigma_start), karras or ve "
        "(geometric) from sigma_start to sigma_end",
    )  # fmt: skip
    start: Literal["degraded", "filled", "noise"] = shared(Chain, "start")
    step_rule: Literal["fixed", "discrepancy"] = setting(
        "discrepancy", "the correction c, see above"
    )
    s: float = setting(1.0, "size of the correction", at_least=0)
    eta: float = setting(1.0, ETA, between=(0, 1))

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the steered estimate. Raises DivergenceError."""
        levels = self.levels_for(problem)
        z = self.first(problem, draws, levels[0]) / (1 + levels[0].sigma)
        for level in levels:
            t, t_next = (sigma / (1 + sigma) for sigma in (level.sigma, level.next))
            xh = self.denoised(prior, z / (1 - t), level)
            v = (z - xh) / t
            c = self._correction(problem, xh, t_next) if t_next else torch.zeros_like(xh)
            yield self.step(level, xh - c, prior.evaluations)
            z = z - c + (t_next - t) * v
            if self.eta and t_next:
                old, new = xh + v, draws.normal_like(z, problem.item_ndim)
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
        return over_image(step, g) * g


def _noise_norm(problem: Problem, each: tuple[int, ...]) -> Tensor:
    """sqrt(m), m the number of measured real values of each item: those that are not exactly zero."""
    y = problem.unit_y
    count = (y != 0).reshape(each).sum(-1) * (2 if y.is_complex() else 1)
    return count.to(y.real.dtype if y.is_complex() else y.dtype).sqrt()
