"""What samplers of codes need of their model: the gain of the decoder, first images, gluing, capped pushes.

Called by samplers of latent priors. Codes are z = z0 + sigma n. Pure functions; draws nothing, touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from restore.linalg.lanczos import largest_eigenvalue
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentPrior
from restore.problem import Problem
from restore.samplers.toolbox.items import item_norm

Transpose = Literal["official", "adjoint"]

_LANCZOS_STEPS = 20
_GOLDEN_ANGLE = 2.399963


def largest_gain(
    function: Callable[[Tensor], Tensor], z: Tensor, v: Tensor, code_ndim: int
) -> Tensor:
    """||J||^2 of each item, J the Jacobian of `function` at z, by Lanczos' iteration from v.

    J v is the pullback of the pullback: reverse mode alone, which every operator and network supports.
    """
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        out = function(leaf)
        u = torch.zeros_like(out, requires_grad=True)
        (back,) = torch.autograd.grad(out, leaf, u, create_graph=True)

    def product(w: Tensor) -> Tensor:
        (ahead,) = torch.autograd.grad(back, u, w, retain_graph=True)
        return torch.autograd.grad(out, leaf, ahead, retain_graph=True)[0]

    found = largest_eigenvalue(product, v, item_ndim=code_ndim, iterations=_LANCZOS_STEPS)
    return found.to(z.real.dtype)


def decoder_gain(prior: LatentPrior, problem: Problem) -> float:
    """How far a pixel moves for a small step of the codes, root mean square over both; 1 for identity codes.

    A number of the model, taken at the image of middle intensity, so that no item depends on another.
    """
    if isinstance(prior.model, ImagePrior):
        return 1.0
    x = torch.full(
        problem.item_shape, middle(prior), dtype=problem.y.dtype, device=problem.y.device
    )
    z = prior.encode(x)
    v = torch.arange(z.numel(), device=z.device).mul(_GOLDEN_ANGLE).cos().to(z).reshape(z.shape)
    small = 0.01
    moved = prior.decode(z + small * v) - prior.decode(z)
    return float(moved.square().mean().sqrt() / (small * v.square().mean().sqrt()))


def backprojection(problem: Problem, rule: Transpose) -> Callable[[Tensor], Tensor]:
    """The T of PSLD's gluing term. Raises ConfigError for non-linear operators whose images have another shape.

    "official": as released, the measurement itself where it has the image's shape (masks, blur), low resolution
    enlarged by repeating pixels; the adjoint for everything else. "adjoint": A^H.
    """
    operator = problem.operator
    if rule == "official" and "interpolates" in operator.abilities:
        sizes = zip(operator.in_shape[-2:], operator.out_shape[-2:], strict=True)
        rows, columns = (torch.arange(large) * small // large for large, small in sizes)
        return lambda y: y[..., rows.to(y.device), :][..., columns.to(y.device)]
    if rule == "official" and operator.in_shape == operator.out_shape and not operator.is_complex:
        return lambda y: y
    return problem.linear.adjoint


def first_image(problem: Problem, prior: LatentPrior) -> Tensor:
    """The measurement as an image that can be encoded, unit intensities: missing pixels are of middle intensity."""
    operator, image = problem.operator, problem.observed
    if operator.out_shape != operator.in_shape or image.is_complex():
        return image
    grey = torch.full_like(image, middle(prior))
    return image + grey - operator(grey)


def middle(prior: LatentPrior) -> float:
    """The middle of the range of intensities that the model was trained in."""
    model = prior.model.prior if isinstance(prior.model, ImagePrior) else prior.model
    return sum(model.intensity) / 2


def capped(push: Tensor, z: Tensor, cap: float | None, code_ndim: int) -> tuple[Tensor, int]:
    """The push, shortened where it is longer than cap ||z||, and the number of items where it was."""
    if cap is None:
        return push, 0
    length = item_norm(push, code_ndim, keepdim=True)
    limit = cap * item_norm(z, code_ndim, keepdim=True)
    over = length > limit
    return torch.where(over, push * (limit / length), push), int(over.sum())
