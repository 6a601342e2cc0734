"""A linear map and its adjoint as one function that autograd and `torch.func` can follow.

May be called by operators and everything above. Whatever happens inside the two maps (in-place work on own buffers,
sparse matrices, blocks of coils) is not recorded: only the map as a whole is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

LinearMap = Callable[[Tensor], Tensor]


def linear(apply: LinearMap, adjoint: LinearMap, x: Tensor) -> Tensor:
    """apply(x), with `adjoint` as its derivative backwards, of any order; and apply itself forwards.

    Both maps take any number of batch dimensions in front. Serves autograd (a real x gets a real gradient), forward
    mode, and grad, vjp, jvp, vmap and their combinations of `torch.func`.
    """
    followed = torch.is_grad_enabled() and x.requires_grad
    # Transforms of `torch.func` and forward mode may follow x without its saying so.
    if followed or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return _Linear.apply(apply, adjoint, x)
    return apply(x)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(apply: LinearMap, adjoint: LinearMap, x: Tensor) -> Tensor:
        return apply(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Not under the name `apply`: autograd calls ctx.apply itself to run the backward.
        ctx.map, ctx.adjoint, x = inputs
        ctx.real = not x.is_complex()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor]:
        g = linear(ctx.adjoint, ctx.map, grads[0])
        return None, None, g.real if ctx.real and g.is_complex() else g

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return linear(ctx.map, ctx.adjoint, tangents[-1])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        apply, adjoint, x = inputs
        return linear(apply, adjoint, x.movedim(in_dims[-1], 0)), 0
