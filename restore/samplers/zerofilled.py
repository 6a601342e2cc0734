"""Zero-filled: the adjoint image, gridded where samples lie unevenly, without any reconstruction."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class ZeroFilled(Sampler):
    """x = A^H y: inverse FFT of zero-filled k-space combined by the coil maps; gridding with density compensation
    along a trajectory; the masked image for inpainting.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    fits_data: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ("mri",)
    tasks: ClassVar[tuple[str, ...]] = ("inpaint",)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step."""
        yield Step(0, 1, 0.0, problem.linear.gridded(problem.unit_y), 0)
