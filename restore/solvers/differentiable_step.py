"""The proximal step of a Gaussian data term with gradients for its image and its weight, by implicit differentiation.

Called by trainings that differentiate a whole reconstruction. Nothing of the solve is kept for the way back, which is a
second solve of the same kind: v = (I + w N)^-1 (x0 + w b) with N = A^H Lambda A gives dv/dx0 = (I + w N)^-1 and
dv/dw = (I + w N)^-1 (b - N v). Touches nothing.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from restore.solvers.exact_step import closed_form
from restore.solvers.proximal import DataTerm, data_step


class DifferentiableStep:
    """x0, w -> argmin_v w f(v) + ||v - x0||^2 / 2, f the data term; in closed form where there is one, else by CG.

    cg_iters: steps of CG at most, there and back; gradients are those of the exact minimum, so that they are right as
    far as CG has got there.
    """

    def __init__(self, term: DataTerm, cg_iters: int) -> None:
        self.term, self.cg_iters = term, cg_iters
        self._nothing = dataclasses.replace(term, y=torch.zeros_like(term.y))
        self._closed, self._linear = closed_form(term), closed_form(self._nothing)

    def __call__(self, x0: Tensor, weight: Tensor) -> Tensor:
        """x0: (*batch, *in_shape); weight: a tensor of one number above 0. Returns v like x0."""
        return _Proximal.apply(self, x0, weight)

    def solved(self, x0: Tensor, weight: float) -> Tensor:
        """The minimum, without gradients."""
        if self._closed is not None:
            return self._closed(x0, weight)
        return data_step(self.term, x0, weight, iters=self.cg_iters).x

    def responded(self, g: Tensor, weight: float) -> Tensor:
        """(I + w N)^-1 g: the minimum for a measurement of zeros."""
        if self._linear is not None:
            return self._linear(g, weight)
        return data_step(self._nothing, g, weight, iters=self.cg_iters).x


class _Proximal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, step: DifferentiableStep, x0: Tensor, weight: Tensor) -> Tensor:
        v = step.solved(x0, float(weight))
        ctx.step = step
        ctx.save_for_backward(v, weight)
        return v

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[None, Tensor, Tensor]:
        v, weight = ctx.saved_tensors
        step = ctx.step
        h = step.responded(g, float(weight))
        slope = (h.conj() * -step.term.gradient(v)).real.sum()
        return None, h, slope.to(weight).reshape(weight.shape)
