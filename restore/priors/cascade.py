"""The contract of unrolled networks: learnt steps, each shown the image so far and the gradient of the data there.

The sampler `varnet` and the training of such models walk the steps by `CascadePrior.walk`. What the measurement is,
they know by its gradient alone, so that any linear operator with any number of coils will do. Touches no files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.linalg.lanczos import largest_eigenvalue
from restore.precision import autocast
from restore.priors.acquisition import Acquisition
from restore.priors.image_prior import PIXELS_PER_CALL, chunked
from restore.priors.networks import copied_to
from restore.solvers.proximal import DataTerm

PARTS = 2
"""Planes of an image: its real and its imaginary part."""


class CascadeModel(ABC):
    """A network that was trained on pairs of measurements and images, as a chain of steps.

    `cascades`: how many steps. `memory`: planes that a step hands to the next beside the image. `acquisition`: what it
    was trained on, None where nobody says. `subjects`: of what, in words, "" where nobody says. `scaling`, `halves`: as
    in `Denoiser`. Images are in unit intensities; `LeastSquares` is what a step is shown of the data.
    """

    kind: ClassVar[str] = "cascade"
    cascades: int = 1
    memory: int = 0
    acquisition: Acquisition | None = None
    subjects: str = ""
    halves: bool = False
    name: str = ""
    scaling: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def __call__(
        self, number: int, x: Tensor, gradient: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The network's image at step `number` (from 0) and what the next step remembers.

        x, gradient: (N, 2, H, W), real and imaginary part; memory: (N, `memory`, H, W), zeros at first.
        """

    @abstractmethod
    def weight(self, number: int) -> Tensor:
        """Of that image against the data, above 0: the step ends nearest to both (`LeastSquares.nearest`)."""

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """The same model on another device or in another precision: a copy, or itself where nothing changes."""
        return copied_to(self, target)


class CascadePrior:
    """A cascade model for items (H, W), complex or real, in any number.

    Real items pass as complex ones with an imaginary part of zero, which is dropped from every answer. precision:
    inside the network. `evaluations` counts steps. Made by `choosing.fit` for a pair that `matching.check` has passed.
    """

    def __init__(self, model: CascadeModel, precision: torch.dtype = torch.float32) -> None:
        self.model, self.precision = model, precision
        self.evaluations, self._chunk = 0, PIXELS_PER_CALL

    def walk(self, x: Tensor, data: LeastSquares) -> Iterator[Tensor]:
        """The images after each step. x: the start, (*batch, H, W) in unit intensities."""
        memory = x.real.new_zeros(x[..., 0, 0].numel(), self.model.memory, *x.shape[-2:])
        for number in range(self.model.cascades):
            self.evaluations += 1
            shown = [_planes(x), _planes(data.gradient(x)), memory]
            (planes, memory), self._chunk = chunked(
                lambda *parts, k=number: self._answers(k, *parts), shown, self._chunk,
                f"one image of {tuple(x.shape[-2:])} on {x.device}",
            )  # fmt: skip
            x = data.nearest(_items(planes, x), self.model.weight(number))
            yield x

    def _answers(self, number: int, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        with autocast(self.precision, x.device):
            return tuple(out.to(x.dtype) for out in self.model(number, x, *rest))


class LeastSquares:
    """f(x) = |A x - y|^2 / (2 L) of a data term without precision, L the largest eigenvalue of A^H A.

    L is found item by item, so that an image does not depend on others beside it. iterations: of conjugate gradients.
    """

    def __init__(self, term: DataTerm, iterations: int = 20) -> None:
        self.term, self.iterations = term, iterations
        start = term.rhs.detach()
        empty = start.abs().amax((-2, -1), keepdim=True) == 0
        largest = largest_eigenvalue(
            term.normal,
            torch.where(empty, 1, start),
            item_ndim=term.item_ndim,
            iterations=_LANCZOS,
        )
        scale = largest.to(start.device, start.real.dtype)[..., None, None]
        self.largest = torch.where(scale > 0, scale, 1)

    def gradient(self, x: Tensor) -> Tensor:
        """A^H (A x - y) / L. x: (*batch, H, W)."""
        return self.term.gradient(x) / self.largest

    def nearest(self, z: Tensor, weight: Tensor) -> Tensor:
        """argmin_x f(x) + weight |x - z|^2 / 2 = z - (A^H A / L + weight)^-1 gradient(z).

        z: (*batch, H, W); weight: a number as a tensor. Differentiable in both, by another solve on the way back.
        """
        answer: Tensor = _Damped.apply(self.gradient(z), weight, self._solved)
        return z - answer

    def _solved(self, b: Tensor, weight: Tensor) -> Tensor:
        w = float(weight)
        return cg(
            lambda v: torch.add(self.term.normal(v) / self.largest, v, alpha=w),
            b,
            iters=self.iterations,
            item_ndim=self.term.item_ndim,
        ).x


class _Damped(torch.autograd.Function):
    """b, w -> s = (N + w)^-1 b for a Hermitian N: ds = (N + w)^-1 (db - s dw)."""

    @staticmethod
    def forward(
        ctx: Any, b: Tensor, weight: Tensor, solved: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        s = solved(b, weight)
        ctx.save_for_backward(s, weight)
        ctx.solved = solved
        return s

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor, None]:
        s, weight = ctx.saved_tensors
        back = ctx.solved(slopes[0].contiguous(), weight)
        return back, -(back.conj() * s).real.sum().to(weight.dtype), None


_LANCZOS = 10
"""Steps for L: it is within 1 % then for coils and trajectories alike, and networks learnt with what they leave."""


def _planes(x: Tensor) -> Tensor:
    """(*batch, H, W) -> (N, 2, H, W)."""
    parts = torch.view_as_real(x) if x.is_complex() else torch.stack([x, torch.zeros_like(x)], -1)
    return parts.reshape(-1, *x.shape[-2:], PARTS).movedim(-1, 1)


def _items(planes: Tensor, like: Tensor) -> Tensor:
    """(N, 2, H, W) -> the shape of `like`, complex where it is."""
    if not like.is_complex():
        return planes[:, 0].reshape(like.shape)
    return torch.view_as_complex(planes.movedim(1, -1).contiguous()).reshape(like.shape)
