"""ADMM for total variation: a resumable state for samplers, and the full TV reconstruction.

May be called by samplers and pipelines. `AdmmTV` keeps its two split variables between calls;
nothing else is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import LinearMap, Solution, cg
from restore.solvers.circulant import inverse, laplacian_spectrum
from restore.solvers.proximal import DataTerm, image_scale, per_item
from restore.solvers.subsets import curvature, interleaved
from restore.solvers.tv import (
    Boundary,
    gradient,
    gradient_adjoint,
    laplacian,
    shrink_isotropic,
    soft_threshold,
)


@dataclass(eq=False)
class AdmmTV:
    """Split variables of min_v 1/2 ||A v - y||^2 + weight ||K v||_1, kept between steps.

    K stacks forward differences along `axes`, and the identity if `nonnegative`. One step is

        v = CG(N + rho K*K, h + rho K*(z - u), x0)
        z = S(K v + u, weight / rho),  u = u + K v - z

    normal: N = A^H A. rhs: h = A^H y, (*batch, *image). weight, rho: numbers, or tensors with one
    entry per item (the last `item_ndim` dimensions, which must hold all `axes`). axes count from
    the end. isotropic: shrink the length over axes together. nonnegative: real images only.
    relaxation: 1 to 1.8. spectrum: of the circulant matrix that N is near (`circulant`), with
    which CG is preconditioned, or None. z, u: (len(axes) + nonnegative, *batch, *image), zero
    after `reset`.

    Data consistency of DDS-3D (Chung et al., ICLR 2024) and DiffusionMBIR (CVPR 2023) with one
    axis and the periodic boundary; Boyd et al. 2011, section 3.1.1 (scaled form).
    Raises ConfigError, ShapeError.
    """

    normal: LinearMap
    rhs: Tensor
    weight: float | Tensor
    rho: float | Tensor
    axes: Sequence[int]
    item_ndim: int
    boundary: Boundary = "periodic"
    isotropic: bool = False
    nonnegative: bool = False
    relaxation: float = 1.0
    spectrum: Tensor | None = None
    z: Tensor = field(init=False)
    u: Tensor = field(init=False)

    def __post_init__(self) -> None:
        if any(not -self.item_ndim <= axis < 0 for axis in self.axes):
            raise ConfigError(
                f"ADMM-TV: axes {tuple(self.axes)} must lie within one item, "
                f"-{self.item_ndim} to -1; raise item_ndim to couple more dimensions"
            )
        if self.nonnegative and self.rhs.is_complex():
            raise ConfigError("ADMM-TV: complex images have no sign; leave nonnegative off")
        for name in ("weight", "rho"):
            value = getattr(self, name)
            floor_ok = value > 0 if name == "rho" else value >= 0
            if not bool(torch.as_tensor(floor_ok).all()):
                raise ConfigError(f"ADMM-TV: {name} is {value}, expected positive (weight: or 0)")
        self.reset()

    def reset(self) -> None:
        """Forget the split variables."""
        parts = len(self.axes) + self.nonnegative
        self.z = self.rhs.new_zeros((parts, *self.rhs.shape))
        self.u = torch.zeros_like(self.z)

    def step(
        self,
        x0: Tensor,
        *,
        iters: int,
        proximal: float | Tensor = 0.0,
        anchor: Tensor | None = None,
        tol: float = 0.0,
        least_step: float = 0.0,
    ) -> Solution:
        """One ADMM pass with at most `iters` CG steps from x0; updates z and u, returns the new v.

        x0: the shape of rhs. proximal: adds proximal/2 ||v - anchor||^2 to the objective (anchor
        is x0 if absent), a number or one per item. tol, least_step: of CG, which end it earlier.
        """
        rho = per_item(self.rho, self.rhs, self.item_ndim)
        pull = per_item(proximal, self.rhs, self.item_ndim)
        held = isinstance(pull, Tensor) or pull != 0
        shift = (rho if self.nonnegative else 0.0) + (pull if held else 0.0)

        def system(v: Tensor) -> Tensor:
            out = self.normal(v) + rho * laplacian(v, self.axes, self.boundary)
            return out + shift * v if held or self.nonnegative else out

        rank, precond = self.item_ndim, None
        if self.spectrum is not None:
            smooth = laplacian_spectrum(self.rhs, rank, self.axes)
            precond = inverse(self.spectrum + rho * smooth + shift, rank)
        pulled = (pull, x0 if anchor is None else anchor) if held else None
        solution = cg(
            system, self._right(rho, pulled), x0, iters=iters, tol=tol, least_step=least_step, item_ndim=rank,
            precond=precond, singular=not (held or self.nonnegative),
        )  # fmt: skip
        self._update(solution.x, rho)
        return solution

    def _right(self, rho: float | Tensor, pulled: tuple[float | Tensor, Tensor] | None) -> Tensor:
        """The right-hand side of a pass. pulled: weight and anchor of the proximal term, if there is one."""
        b = self.rhs + rho * self._split_adjoint(self.z - self.u)
        return b if pulled is None else b + pulled[0] * pulled[1]

    def pass_over(self, parts: Sequence[DataTerm], curvature: Tensor, x: Tensor) -> Tensor:
        """One ADMM pass whose v is a gradient step on every part of the data in turns, instead of CG; updates z and u.

        parts: of f, each standing for all of it; `curvature`: of f (both by `subsets`). Steps are scaled by that and by
        the penalty's (Nien and Fessler, "Fast X-ray CT image reconstruction using a linearized augmented Lagrangian
        method with ordered subsets", IEEE TMI 2015, without continuation).
        """
        rho = per_item(self.rho, self.rhs, self.item_ndim)
        pulled = rho * self._split_adjoint(self.z - self.u)
        shift = rho if self.nonnegative else 0.0
        steep = curvature + 4 * len(self.axes) * rho + shift
        for part in parts:
            slope = len(parts) * part.gradient(x) + rho * laplacian(x, self.axes, self.boundary)
            x = x - (slope + shift * x - pulled) / steep
        self._update(x, rho)
        return x

    def _update(self, v: Tensor, rho: float | Tensor) -> None:
        shrink_in = self._split(v)  # its own: what follows is done in place
        if self.relaxation != 1:
            shrink_in.mul_(self.relaxation).add_((1 - self.relaxation) * self.z)
        shrink_in += self.u
        tau = per_item(self.weight, self.rhs, self.item_ndim) / rho
        count = len(self.axes)
        shrink = shrink_isotropic if self.isotropic else soft_threshold
        self.z = shrink(shrink_in[:count], tau)
        if self.nonnegative:
            self.z = torch.cat([self.z, shrink_in[count:].clamp_min(0)])
        self.u = shrink_in.sub_(self.z)

    def _split(self, v: Tensor) -> Tensor:
        g = gradient(v, self.axes, self.boundary)
        return torch.cat([g, v[None]]) if self.nonnegative else g

    def _split_adjoint(self, g: Tensor) -> Tensor:
        count = len(self.axes)
        out = gradient_adjoint(g[:count], self.axes, self.boundary)
        return out + g[count] if self.nonnegative else out


def admm_tv_steps(
    term: DataTerm,
    weight: float,
    *,
    axes: Sequence[int] = (-2, -1),
    iters: int = 40,
    cg_iters: int = 4,
    nonnegative: bool = False,
    penalty: float | None = None,
    scale: float | Tensor | None = None,
    subsets: int = 1,
) -> Iterator[Tensor]:
    """Iterates of isotropic TV reconstruction: min_x f(x) + lambda TV(x), f the data term.

    lambda = weight * scale; `scale` is by default max |A^H Lambda y| of each item, so that weight
    has no unit, scaling y scales the answer, and 1e-4 to 1e-1 is the useful range. scale = 1 makes
    weight the absolute lambda; a tensor gives one scale per item.
    axes: 2-D (-2, -1) or 3-D (-3, -2, -1); items grow to hold them all. nonnegative: real images.
    penalty: rho / Lipschitz constant of f; changes the speed, not the limit.
    subsets: above 1, an iteration is a gradient step on so many parts of the views in turns instead
    of CG: a few iterations come as far as each of CG's, and the end is near the minimum, not in it.
    Yields (*batch, *in_shape) after every iteration, `cg_iters` normal operators each, or one.
    Rudin, Osher and Fatemi 1992; split by Goldstein and Osher 2009. Raises ConfigError.
    """
    if not weight > 0:
        raise ConfigError(f"TV reconstruction: weight is {weight}, expected a positive number")
    rank = max(term.item_ndim, -min(axes, default=-1))
    size = image_scale(term.rhs, rank) if scale is None else scale
    dims = tuple(range(-rank, 0))
    lipschitz = term.lipschitz.expand_as(term.rhs.real).amax(dims)
    lipschitz = torch.where(lipschitz > 0, lipschitz, 1)
    state = AdmmTV(
        term.normal,
        term.rhs,
        weight * size,
        lipschitz * (10 * weight if penalty is None else penalty),
        axes,
        rank,
        "neumann",
        isotropic=True,
        nonnegative=nonnegative,
        relaxation=1.6,
        spectrum=term.spectrum if rank == term.item_ndim else None,
    )
    x = torch.zeros_like(term.rhs)
    parts = interleaved(term, subsets)
    steep = curvature(term) if len(parts) > 1 else x
    for _ in range(iters):
        many = len(parts) > 1
        x = state.pass_over(parts, steep, x) if many else state.step(x, iters=cg_iters).x
        yield x.clamp_min(0) if nonnegative else x
