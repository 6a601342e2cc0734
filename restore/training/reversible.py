"""Gradients through wired steps whose states are computed anew on the way back: memory does not grow with steps.

A chain of `samplers.toolbox.wired` keeps its last two states; going back, each step is undone by its inverse and
differentiated alone. The gradient is the discrete adjoint of the chain: what ordinary backpropagation gives, up to the
rounding of the inverse. After Chen and others (IDM, IEEE TPAMI 2025); Pan, Liew, Tan, Feng, Yan, "AdjointDPM", ICLR
2024, solves the continuous adjoint equation instead, whose gradient has the error of its solver. Called by
`restore.training.distillation`; touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from restore.samplers.toolbox.wired import coupled, separated

WiredStep = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""(k, x) -> f_k(x) and the mix c_k, both differentiable in x and in the parameters; the same values at every call."""


def ordinary(step: WiredStep, count: int, start: Tensor) -> Tensor:
    """The state after `count` wired steps from (start, start), with the activations of all steps kept by autograd."""
    x, v = start, start
    for k in range(count):
        fx, mix = step(k, x)
        x, v = coupled(fx, v, mix), x
    return x


def reversibly(step: WiredStep, count: int, start: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """The same state, with two states kept. parameters: all tensors that `step` depends on and that get gradients.

    The inverse loses about a digit a step at the least mix: 1/c for each. `step` is called twice as often.
    """
    return _Reversible.apply(step, count, start, *parameters) if count else start


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, step: WiredStep, count: int, start: Tensor, *parameters: Tensor
    ) -> Tensor:
        x, v = start, start
        for k in range(count):
            fx, mix = step(k, x)
            x, v = coupled(fx, v, mix), x
        ctx.step, ctx.count, ctx.parameters = step, count, parameters
        ctx.save_for_backward(x, v)
        return x

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor) -> tuple[Tensor | None, ...]:
        wanted = [p for p in ctx.parameters if p.requires_grad]
        total: list[Tensor | None] = [None] * len(wanted)
        after, x = (state.detach() for state in ctx.saved_tensors)  # an output knows its way back
        grad_v = torch.zeros_like(grad_x)
        for k in reversed(range(ctx.count)):
            with torch.enable_grad():
                here = x.detach().requires_grad_()
                fx, mix = ctx.step(k, here)
                v = separated(after, fx.detach(), mix.detach()).requires_grad_()
                out = coupled(fx, v, mix)
            inner = torch.autograd.grad(out, [here, v, *wanted], grad_x, allow_unused=True)
            grad_x, grad_v = inner[0] + grad_v, inner[1]
            total = [_sum(t, g) for t, g in zip(total, inner[2:], strict=True)]
            after, x = x, v.detach()
        found = iter(total)
        own = [next(found) if p.requires_grad else None for p in ctx.parameters]
        return None, None, grad_x + grad_v, *own


def _sum(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    if total is None or part is None:
        return part if total is None else total
    return total + part
