"""Biharmonic: missing pixels as the smoothest surface through the known ones; a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch

from restore.errors import ConfigError
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.arrays import Planes, by_item


@dataclasses.dataclass(frozen=True)
class Biharmonic(Sampler):
    """The fourth-order Laplace equation over the holes; known pixels stay as they are, noise and all.

    Damelin, Hoang, "On surface completion and image inpainting by biharmonic functions: numerical aspects", 2018
    (`skimage.restoration.inpaint_biharmonic`, which keeps the result within the range of the known values). One sparse
    system a connected hole: 70 % scattered over 256 x 256 pixels take two seconds, and the time grows faster than the
    number of pixels. On the CPU.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    fits_data: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("inpaint",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "selects"})
    reference: ClassVar[str] = "Damelin, Hoang: inpainting by biharmonic functions, 2018"

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for a channel of which nothing is known."""
        operator, y = problem.linear, problem.unit_y
        # What an operator that selects pixels makes of ones is its mask.
        mask = operator(torch.ones(operator.in_shape, dtype=y.dtype, device=y.device)).real
        known = mask.expand(y.shape).reshape(problem.items, -1, *y.shape[-2:]).cpu().numpy() != 0
        if not known.any((-2, -1)).all():
            raise ConfigError(
                "biharmonic fills holes between known pixels, and nothing is known here"
            )

        def filled(planes: Planes, k: int) -> Planes:
            parts = len(planes) // len(known[k])  # two of complex pictures
            return _filled(planes, np.concatenate([known[k]] * parts))

        yield Step(0, 1, 0.0, by_item(y, problem.item_ndim, filled), 0)


def _filled(planes: Planes, known: np.ndarray) -> Planes:
    """planes, known: (channels, H, W). Channels that share their mask share the work."""
    from skimage.restoration import inpaint_biharmonic

    if known.all():
        return planes
    if (known == known[0]).all():
        return inpaint_biharmonic(planes, ~known[0], channel_axis=0)
    return np.concatenate([_filled(p[None], m[None]) for p, m in zip(planes, known, strict=True)])
