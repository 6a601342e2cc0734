"""What a sampler of codes is made of: noise levels of latent models, DDIM steps and their inversion, traces, gluing.

Called by `stsl`. Codes are z = z0 + sigma n; the released chains of latent models preserve variance, a z here, with
a = 1/sqrt(1 + sigma^2), and s = a sigma is their noise. Pure functions; draws nothing, touches nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.lanczos import largest_eigenvalue
from restore.operators.image.downsample import Downsample
from restore.priors.adapter import ImagePrior
from restore.priors.latent import LatentPrior
from restore.problem import Problem
from restore.samplers import schedules

Schedule = Literal["karras", "sd", "ldm"]
NoiseRule = Literal["ddim", "ddnm"]
Transpose = Literal["official", "adjoint"]

# First and last beta of Stable Diffusion, and of latent diffusion's models of faces
_BETAS = {"sd": (0.00085, 0.012), "ldm": (0.0015, 0.0195)}
_LANCZOS_STEPS = 20
_GOLDEN_ANGLE = 2.399963


class Level(NamedTuple):
    """A noise level of the chain: sigma, the sigma that the network is told, and the sigma after the step."""

    sigma: float
    told: float
    next: float

    @property
    def a(self) -> float:
        """sqrt(alpha-bar) of the variance-preserving chain."""
        return (1 + self.sigma**2) ** -0.5

    @property
    def s(self) -> float:
        """sqrt(1 - alpha-bar) of the variance-preserving chain."""
        return self.sigma * self.a


def scaled_linear_alphas_cumprod(schedule: Literal["sd", "ldm"]) -> Tensor:
    """alpha-bar of latent diffusion models at times 0..999: roots of beta equally spaced.

    Rombach, Blattmann, Lorenz, Esser, Ommer, "High-resolution image synthesis with latent diffusion models", CVPR 2022.
    """
    first, last = (b**0.5 for b in _BETAS[schedule])
    betas = torch.linspace(first, last, 1000, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0)


def latent_grid(
    schedule: Literal["sd", "ldm"], n_steps: int, *, landing: bool = False, offset: bool = False
) -> list[Level]:
    """Times 1, 1 + skip, 1 + 2 skip, ... walked downward, skip = 1000 // n_steps (0, 1, 2, ... where skip is 1).

    There are ceil(1000/skip) of them, which can exceed n_steps. landing: the last step goes to the level of time
    0 instead of to 0. offset: at skip 1 the network is told the level one time too high, 999 at most.
    Raises ConfigError.
    """
    if not 1 <= n_steps <= 1000:
        raise ConfigError(
            f"the schedule '{schedule}' has 1000 levels; n_steps must lie in 1..1000, got {n_steps}"
        )
    skip = 1000 // n_steps
    sigmas = schedules.alpha_bar_to_sigma(scaled_linear_alphas_cumprod(schedule)).tolist()
    times = range(0 if skip == 1 else 1, 1000, skip)
    told = [min(t + 1, 999) if offset and skip == 1 else t for t in times]
    after = [sigmas[0] if landing else 0.0, *(sigmas[t] for t in times[:-1])]
    found = zip((sigmas[t] for t in times), (sigmas[t] for t in told), after, strict=True)
    return [Level(*values) for values in found][::-1]


def karras_grid(n_steps: int, sigma_start: float, sigma_end: float) -> list[Level]:
    """Levels of `schedules.karras`; the last step goes to 0. Raises ConfigError."""
    sigmas = schedules.karras(n_steps, sigma_start, sigma_end).tolist()
    return [Level(s, s, after) for s, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True)]


def ddim_step(
    zh: Tensor, e: Tensor, n: Tensor | None, level: Level, eta: float, rule: NoiseRule
) -> Tensor:
    """z' = zh + sigma' (sqrt(1 - k^2) e + k n), n ~ N(0, I), None for zero.

    k = eta sqrt(1 - sigma'^2/sigma^2) by "ddim" (Song, Meng, Ermon, "Denoising diffusion implicit models", ICLR 2021,
    equation 16), k = eta by "ddnm".
    """
    if n is None or level.next == 0:
        return torch.add(zh, e, alpha=level.next)
    k = eta * max(0.0, 1 - (level.next / level.sigma) ** 2) ** 0.5 if rule == "ddim" else eta
    kept = level.next * (1 - k**2) ** 0.5
    return torch.add(zh, e, alpha=kept).add_(n, alpha=level.next * k)


def inversion_levels(levels: list[Level], calls: int) -> list[float]:
    """calls + 1 ascending sigmas from the lowest to the highest of a chain, equally spaced along its steps."""
    sigmas = torch.tensor([level.sigma for level in reversed(levels)], dtype=torch.float64).log()
    place = torch.linspace(0, len(levels) - 1, calls + 1, dtype=torch.float64)
    low = place.floor().long().clamp(max=max(len(levels) - 2, 0))
    high = (low + 1).clamp(max=len(levels) - 1)
    return torch.lerp(sigmas[low], sigmas[high], place - low).exp().tolist()


def inverted(
    predict: Callable[[Tensor, Level], tuple[Tensor, Tensor]], z: Tensor, sigmas: list[float]
) -> Tensor:
    """The code at the highest level whose DDIM path leads near z, a clean code: e is taken from the lower level.

    predict: (z, level) -> (zh, e). sigmas: ascending.
    """
    for s, higher in pairwise(sigmas):
        zh, e = predict(z, Level(s, s, higher))
        z = torch.add(zh, e, alpha=higher)
    return z


def hessian_trace(
    e: Tensor, e_moved: Tensor, v: Tensor, level: Level, delta: float, code_ndim: int
) -> Tensor:
    """<v, g(z + delta v) - g(z)> / delta of each item, g = -e/s the score in variance-preserving coordinates.

    e, e_moved: the noise found in the code and in the code moved by delta v (delta v / a here). With v ~ N(0, I) its
    mean is the trace of the Hessian of log p, smoothed over the width delta (Rout, Chen, Kumar, Caramanis,
    Shakkottai, Chu, CVPR 2024, section 4; Stein's identity).
    """
    return item_dot(v, e - e_moved, code_ndim) / (level.s * delta)


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
    if rule == "official" and isinstance(operator, Downsample):
        factor, (height, width) = operator.factor, operator.in_shape[-2:]
        return lambda y: y.repeat_interleave(factor, -2).repeat_interleave(factor, -1)[
            ..., :height, :width
        ]
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
    dims = tuple(range(-code_ndim, 0))
    length = torch.linalg.vector_norm(push, dim=dims, keepdim=True)
    limit = cap * torch.linalg.vector_norm(z, dim=dims, keepdim=True)
    over = length > limit
    return torch.where(over, push * (limit / length), push), int(over.sum())


def item_norm(x: Tensor, item_ndim: int) -> Tensor:
    """||x|| of each item."""
    return torch.linalg.vector_norm(x, dim=tuple(range(-item_ndim, 0)))


def item_dot(a: Tensor, b: Tensor, item_ndim: int) -> Tensor:
    """Re <a, b> of each item."""
    return (a.conj() * b).real.sum(tuple(range(-item_ndim, 0)))
