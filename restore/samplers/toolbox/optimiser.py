"""The image as the variable of an optimiser: Adam, averages of the last iterates, the curvature of the data term.

Called by samplers that optimise. Touches nothing but its own moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from restore.linalg.lanczos import largest_eigenvalue
from restore.problem import Problem
from restore.samplers.toolbox.items import item_size

_CURVATURE_STEPS = 10


class Adam:
    """Adam with bias correction (Kingma, Ba, "Adam", ICLR 2015) on real and imaginary parts; its direction only."""

    def __init__(self, mu: Tensor, beta1: float, beta2: float, eps: float) -> None:
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.count, parts = 0, _parts(mu)
        self.m1, self.m2 = torch.zeros_like(parts), torch.zeros_like(parts)

    def direction(self, g: Tensor) -> Tensor:
        """m1 / (sqrt(m2) + eps), both corrected for their start at zero. g: like mu."""
        parts = _parts(g)
        self.count += 1
        self.m1.lerp_(parts, 1 - self.beta1)
        self.m2.mul_(self.beta2).addcmul_(parts, parts, value=1 - self.beta2)
        root = (self.m2 / (1 - self.beta2**self.count)).sqrt_().add_(self.eps)
        d = self.m1 / (1 - self.beta1**self.count) / root
        return torch.view_as_complex(d) if g.is_complex() else d


class TailMean:
    """The mean of the last so many images, once they come; each as it is before."""

    def __init__(self, last: int) -> None:
        self.last, self.count, self.total = last, 0, torch.zeros(())

    def __call__(self, x: Tensor, left: int) -> Tensor:
        """x: the image with `left` still to come, itself included."""
        if left > self.last:
            return x
        self.count += 1
        self.total = self.total.to(x) + x
        return self.total / self.count


def curvature(problem: Problem, x: Tensor, *, weighted: bool = True) -> Tensor:
    """Largest eigenvalue of J^H Lambda J of each item, 1 where it is zero, shaped to broadcast over an image.

    J is A, or the Jacobian at x, whose products are differences of the gradient there. weighted: as in
    `Problem.gradient`.
    """
    if "linear" in problem.operator.abilities:
        largest = (problem.data if weighted else problem.unweighted).lipschitz
        return torch.where(largest > 0, largest, 1)
    dims = tuple(range(-problem.item_ndim, 0))
    here, width = problem.gradient(x, weighted=weighted), 1e-2 * item_size(x, problem.item_ndim)

    def product(v: Tensor) -> Tensor:
        peak = v.abs().amax(dims, keepdim=True)
        step = width / torch.where(peak > 0, peak, 1)
        return (problem.gradient(x + step * v, weighted=weighted) - here) / step

    found = largest_eigenvalue(
        product, torch.ones_like(x), item_ndim=problem.item_ndim, iterations=_CURVATURE_STEPS
    )
    found = found.reshape(width.shape).to(width.dtype)
    return torch.where(found > 0, found, 1)


def _parts(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x
