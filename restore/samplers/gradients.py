"""Derivatives through a network for samplers: the value of a map and its vector-Jacobian product.

Called by the samplers that follow gradients; they run without gradients otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pullback = Callable[[Tensor], Tensor]


def with_pullback(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Pullback]:
    """f(x) and v -> J(x)^H v, the adjoint of the Jacobian in the inner product Re<a, b>.

    The pullback may be called any number of times; it holds the graph, so drop it before the next step. Where f treats
    items one by one, so does J. Values carry no graph.
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = function(leaf)

    def pull(v: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(value, leaf, v, retain_graph=True)
        return gradient

    return value.detach(), pull
