"""Richardson-Lucy: maximum likelihood of photon counts behind a blur, with positive images; a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.config import setting
from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.response import point_response

_ROUNDING = 1e-5  # of a blur by Fourier transforms in single precision, ten times over
_TINY = 1e-12  # of the measurement's mean: where the blurred estimate is darker it explains nothing


@dataclasses.dataclass(frozen=True)
class RichardsonLucy(Sampler):
    """x <- x A^T(y / A x) / A^T 1 from a flat image of the measurement's brightness.

    Richardson, JOSA 1972; Lucy, "An iterative technique for the rectification of observed distributions", Astronomical
    Journal 1974. Images stay positive; values of y below zero count as zero. Every item stops by itself when its misfit
    ||A x - y|| / (std sqrt(m)) falls to `misfit` (the noise must be known), since later steps draw the noise: over 36
    pairs of photographs, kernels and noise of 0.01 to 0.1, 0.97 lies within 0.3 dB of the best step in all but the
    motion at 0.01 (0.8 dB), and starting flat is 0.3 to 5 dB better than starting from y.

    `skimage.restoration.richardson_lucy` convolves as if the picture were black beyond its border, which darkens and
    rings where it is not: here A and A^T are the operator's, with its boundary. Where nothing reaches the border both
    give the same.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("deblur",)
    reference: ClassVar[str] = "Lucy: rectification of observed distributions, 1974"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"misfit": (0.9, 0.95, 0.97, 1.0, 1.05)}

    n_steps: int = setting(100, "iterations at most", at_least=1)
    misfit: float = setting(
        0.97, "at which an item is done, where the noise is known; 0: never", at_least=0
    )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step an iteration; items that are done stand still. Raises ConfigError for complex images and for
        kernels that take light away.
        """
        operator, y = problem.linear, problem.unit_y
        if y.is_complex():
            raise ConfigError(
                "richardson-lucy is for positive images, not for complex ones; use tv"
            )
        dims, ones = tuple(range(-problem.item_ndim, 0)), torch.ones_like(y)
        received = operator.adjoint(ones)
        response = point_response(operator, y)
        if bool(response.min() < -_ROUNDING * response.max()):
            raise ConfigError(
                "richardson-lucy is for kernels without negative values; use tv or unsupervised-wiener"
            )
        counted = y.clamp(min=0)
        floor = (_TINY * counted.mean(dims, keepdim=True)).clamp(min=torch.finfo(y.dtype).tiny)
        x = counted.mean(dims, keepdim=True) * torch.ones_like(received)
        active = torch.ones_like(floor, dtype=torch.bool)
        for i in range(self.n_steps):
            if bool(active.any()):
                ratio = counted / operator(x).clamp(min=floor)
                better = (
                    x * operator.adjoint(ratio) / received.clamp(min=_ROUNDING * received.max())
                )
                x = torch.where(active, better.clamp(min=0), x)
                active = active & self._unexplained(problem, x, dims)
            yield Step(i, self.n_steps, 0.0, x, 0, {"active": int(active.sum())})

    def _unexplained(self, problem: Problem, x: Tensor, dims: tuple[int, ...]) -> Tensor | bool:
        """Which items are farther from their data than the noise says."""
        p = problem.precision
        if p is None or not self.misfit:
            return True
        return (p * problem.residual(x).square()).mean(dims, keepdim=True) > self.misfit**2
